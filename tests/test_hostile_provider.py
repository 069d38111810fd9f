"""A worker process whose provider is hostile: what its answers cost, and what the worker logs and stores of them."""

import gzip
import json
import os
from pathlib import Path

import anyio
import pytest
from test_bodies import ATTACKS, MEGABYTE
from test_end_to_end import worker
from wire import Wire, http

pytestmark = pytest.mark.anyio

WORDS = "a heron in the reeds"


def bomb(times):
    body = gzip.compress(bytes(100 * MEGABYTE), 1)
    for _ in range(times - 1):
        body = gzip.compress(body)
    return http(body, 201, content_encoding=", ".join(["gzip"] * times))


def fields(size, prompt):
    """A refusal full of the prompt's beginning: a naive search compares the whole prompt at each of these places."""
    said = f"{prompt[:16]}|" * 550
    return http({"title": "t", "invalid_fields": [{"field": "f", "description": said}] * (size // len(said))}, 422)


def failing(error):
    return http({"id": "p1", "status": "failed", "error": error, "input": {}}, 201)


ODD = [name for name in ATTACKS if "bomb" not in name]
UNREADABLE = {
    "one": lambda _: bomb(1),
    "two": lambda _: bomb(2),
    "three": lambda _: bomb(3),
    **{f"odd{number}": lambda _, made=made: made() for number, made in enumerate(map(ATTACKS.get, ODD))},
}
REFUSED = {"huge": lambda prompt: fields(3_500_000, prompt), "slow": lambda prompt: fields(1_900_000, prompt)}
FAILED = {
    "capitals": lambda prompt: failing(f"no: {prompt.upper()}"),
    "escaped": lambda prompt: failing("no: " + "".join(f"\\u{ord(each):04x}" for each in prompt)),
    "entities": lambda prompt: failing("no: " + "".join(f"&#{ord(each)};" for each in prompt)),
}
ANSWERS = UNREADABLE | REFUSED | FAILED


class Hostile(Wire):
    async def _answer(self, stream):
        _, body = self.requests[-1]
        prompt = json.loads(body)["input"]["prompt"] if body else ""
        name = prompt.rpartition(" ")[2]
        self.answers.append(ANSWERS[name](prompt) if body else http({"results": [], "next": None}))
        await super()._answer(stream)


class Cost:
    """The processor time in seconds that a process has used, and its peak memory in bytes."""

    def __init__(self, pid):
        times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        self.seconds = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
        (peak,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
        self.bytes = int(peak.split()[1]) * 1024


async def test_the_answers_of_a_hostile_provider_cost_little_and_tell_no_prompt(database, make_token, connection):
    async with Hostile().serve() as url:
        with worker(database, url, WORKER_BATCH_SIZE=f"{len(ANSWERS)}", MAX_ATTEMPTS="2") as (process, lines):
            await anyio.to_thread.run_sync(lines.until, "listener.connected")
            before = Cost(process.pid)
            for name in ANSWERS:
                await make_token(prompt=f"{WORDS} {name}")
            for event, answers in (
                ("token.create_ambiguous", UNREADABLE),
                ("token.generation.failed", REFUSED),
                ("token.generation.retry", FAILED),
                ("token.generation.exhausted", FAILED),
            ):
                await anyio.to_thread.run_sync(lines.until, event, len(answers))
            after = Cost(process.pid)

    assert after.bytes - before.bytes < 64 * MEGABYTE
    assert after.seconds - before.seconds < 3.0
    stored = await connection.fetch("SELECT generation_error FROM tokens_s0 WHERE generation_error IS NOT NULL")
    for told in (json.dumps(lines.read), *(row["generation_error"] for row in stored)):
        assert [word for word in ("heron", "reeds", "6865726f", "104;") if word in told.lower()] == []
