"""e. What a claim of ten costs, however many wait, and behind a snapshot that keeps every dead row.

There a worker whose claims follow each other closely goes on from the last one, and looks from the front at intervals:
the mean tells of both. The other cases are from the front throughout.
"""

import asyncio
import statistics
import time

from bench.server import connect
from reactor.database.accounting import Accounting
from reactor.database.discovery import discover
from reactor.database.session import Session
from reactor.database.store import Store
from reactor.engine.claim.claimer import Claimer
from reactor.engine.timings import TIMINGS
from reactor.telemetry import Telemetry
from reactor.text.redaction import Redactor
from reactor.tokens import Succeeded

CLAIMS, EACH = 80, 10
FILL = """
    INSERT INTO tokens_s0 (mint_timestamp, generation_due_at)
    SELECT now() - number * interval '1 ms', {due} FROM generate_series(1, {count}) AS number
"""
LATER = "now() + interval '1 day' + number * interval '1 s'"
OLD_SNAPSHOT_OVER = 30_000  # claims


def run(bench):
    deep = 100_000 if bench.quick else 1_000_000
    cases = [
        ("1,000 waiting", 1_000, 0, False, False),
        (f"{deep:,} waiting", deep, 0, False, False),
        ("1,000 and 100,000 retries", 1_000, 100_000, False, False),
        ("1,000, old snapshot, going on", 1_000 + OLD_SNAPSHOT_OVER, 0, True, True),
        ("1,000, old snapshot, from the front", 1_000 + OLD_SNAPSHOT_OVER, 0, True, False),
    ]
    for name, waiting, retries, snapshot, onward in bench.rounds(cases):
        with bench.server.database() as url:
            filled(url, waiting, retries)
            with bench.measuring("e. depth", "claim of 10", name) as figures:
                took = asyncio.run(claimed(url, snapshot=snapshot, onward=onward))
                figures["median_ms"] = 1000 * statistics.median(took)
                figures["mean_ms"] = 1000 * statistics.mean(took)


def filled(url, waiting, retries):
    with connect(url) as connection:
        connection.execute("ALTER TABLE tokens_s0 DISABLE TRIGGER USER")
        connection.execute(FILL.format(due="NULL", count=waiting))
        connection.execute(FILL.format(due=LATER, count=retries))
        connection.execute("ALTER TABLE tokens_s0 ENABLE TRIGGER USER")
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


async def claimed(url, *, snapshot, onward):
    """What each of some claims took, in seconds."""
    sessions = {name: Session(url, name=f"bench {name}") for name in ("claims", "writes", "renewals", "maintenance")}
    table = await discover(sessions["maintenance"], "tokens_s0")
    store = Store(
        table, Redactor([]), **sessions, lease=60.0, create_interval=0.0, accounting=Accounting(model="a/model")
    )
    claim = Claimer(store, Telemetry(), timings=TIMINGS).claim if onward else store.claim
    for _ in range(10):
        await claim(EACH, 1)
    with connect(url) as old:
        if snapshot:
            old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            old.execute("SELECT count(*) FROM reactor.intake")
            for _ in range(OLD_SNAPSHOT_OVER // 100):
                claims = (await store.claim(100, 1)).claims
                await store.settle([Succeeded(claim, "https://x", "bench") for claim in claims])
        took = []
        for _ in range(CLAIMS):
            began = time.perf_counter()
            if len((await claim(EACH, 1)).claims) < EACH:
                raise RuntimeError("nothing was left to claim")
            took.append(time.perf_counter() - began)
    for session in sessions.values():
        await session.aclose()
    return took
