"""One torture from the plan to the audit."""

import json
import signal
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass

import anyio

from reactor.embedded import EmbeddedPostgres
from torture import history, questions
from torture.accounts import accounts, compared
from torture.audit import audit
from torture.house import House, until
from torture.plan import events, prompts
from torture.profiles import PROFILES
from torture.rescues import rescues
from torture.violence import Violence

TELL_EVERY = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class Result:
    """All measurements. If all is well, no list in `faults` has an entry."""

    seconds: float
    prompts: dict
    history: dict
    done: dict
    producer: dict
    audit: object
    rescues: object
    faults: dict

    @property
    def well(self):
        return not any(self.faults.values())


@contextmanager
def stage(name, seed):
    """A house with its own PostgreSQL server. Main thread only; SIGTERM ends it like Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with EmbeddedPostgres() as server, tempfile.TemporaryDirectory(prefix="reactor-torture-") as folder:
            yield House(name, PROFILES[name], seed, server=server, folder=folder)
    finally:
        signal.signal(signal.SIGTERM, before)


async def torture(house, name, seed, *, tell):
    """Perform the plan and audit the result. `tell` is called with lines of progress."""
    profile = PROFILES[name]
    started_at = time.monotonic()
    async with house.inhabited():
        violence = Violence(house)
        async with anyio.create_task_group() as watching:
            watching.start_soon(violence.watch)
            watching.start_soon(_tell, house, violence, tell)
            minted = await _perform(house, violence, events(profile, seed))
            await house.quiet()
            watching.cancel_scope.cancel()
        ledger = await house.ledger()
        await violence.end()
        tokens, writes = await history.read(house.url)
        told = await accounts(house, ledger)
    faults = compared(told, ledger)
    return _judged(house, violence, ledger, tokens, writes, minted, seed, time.monotonic() - started_at, faults)


async def _perform(house, violence, planned):
    """Run the producer and the violence to their ends; return the producer's report."""
    producer, told = house.mint()
    await violence.perform(planned)
    await until(lambda: producer.poll() is not None, within=house.profile.quiet_within)
    if producer.returncode != 0:
        raise RuntimeError(f"the producer ended with {producer.returncode}: {told.with_suffix('.err').read_text()}")
    return json.loads(told.read_text())


async def _tell(house, violence, tell):
    begun_at = time.monotonic()
    while True:
        await anyio.sleep(TELL_EVERY)
        counts = await questions.counts(house.url) or {}
        tokens = "  ".join(f"{status} {counts.get(status, 0):,}" for status in sorted(counts)) or "the database is away"
        done = "  ".join(f"{kind} {times}" for kind, times in sorted(violence.done.items()))
        tell(f"{time.monotonic() - begun_at:5.0f} s  {tokens}  |  {done}")


def _judged(house, violence, ledger, tokens, writes, minted, seed, seconds, of_accounts):
    made, doomed = prompts(house.profile, seed)
    keys = {program.number: program.key for program in house.programs}
    found = audit(tokens, writes, ledger, prompts=made, doomed=doomed, keys=keys)
    measured = rescues(violence.kills, writes, violence.outages, house.profile.again_within)
    missing = house.profile.events.keys() - violence.done.keys()
    faults = {
        **found.faults,
        **of_accounts,
        "failed inserts of the producer": [(0, why) for why in minted["failed"]],
        "running again too late, or never": measured.late,
        "complaints": [(0, why) for why in violence.complaints],
        "events that did not happen": [(0, kind) for kind in missing],
    }
    return Result(seconds, made, writes, violence.done, minted, found, measured, faults)
