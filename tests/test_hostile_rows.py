"""What a producer that may only INSERT can do to a worker process."""

import resource
from pathlib import Path

import pytest
from strangers import stranger
from test_end_to_end import sandbox, stop, worker  # noqa: F401  (a fixture)

from reactor.tokens import LONGEST_PROMPT

pytestmark = pytest.mark.anyio

ROOM = 64 * 2**20  # bytes that a worker may take in addition after its first image
# A thread's own heap would reserve 64 MiB of addresses, which the limit counts, and fill next to nothing of it.
ONE_HEAP = {"MALLOC_ARENA_MAX": "1"}
TOO_LONG = f"Prompt validation failed: the prompt has more than {LONGEST_PROMPT} characters"


@pytest.fixture
async def producer(database, connect_to):
    """Mint as a role that may insert tokens and authors, and nothing else."""
    grants = "GRANT INSERT ON tokens_s0, authors TO {role}", "GRANT SELECT (id) ON authors TO {role}"
    async with stranger(database, *grants) as url:
        client = await connect_to(url)

        async def mint(prompt, tokens=1):
            author = await client.fetchval(f"INSERT INTO authors (prompt_text) VALUES ({prompt}) RETURNING id")
            await client.execute(
                "INSERT INTO tokens_s0 (author_id) SELECT $1 FROM generate_series(1, $2)", author, tokens
            )

        yield mint


def leave(process, room):
    """Limit a process to `room` bytes more memory than it has."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    (has,) = (int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmSize:"))
    resource.prlimit(process.pid, resource.RLIMIT_AS, (has + room, has + room))


async def test_huge_prompts_fail_and_others_are_served_by_a_worker_with_little_memory(
    database,
    sandbox,  # noqa: F811
    connection,
    producer,
):
    with worker(database, sandbox, **ONE_HEAP) as (process, lines):
        lines.until("listener.connected")
        await producer("'an honest fox'")
        lines.until("token.generation.succeeded")
        leave(process, ROOM)
        await producer("repeat('a', 30000000)", tokens=10)
        await producer("'another honest fox'", tokens=3)
        lines.until("token.generation.succeeded", times=4)
        lines.until("token.generation.failed", times=10)
        stop(process, lines)

    reasons = await connection.fetch("SELECT DISTINCT generation_error FROM tokens_s0 WHERE status = 'failed'")
    assert [row["generation_error"] for row in reasons] == [TOO_LONG]
