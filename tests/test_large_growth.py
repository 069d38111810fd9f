"""What statements cost in a table that grows: `make test-large`.

Costs are blocks that a statement reads, of all tables and their indexes. They are the same on a busy machine.
"""

import json
import math
import os
import signal
import statistics
import time
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from threading import Thread

import pytest
from anyio import to_thread
from doubles import until
from test_end_to_end import reactor as command

from reactor.database import counts
from reactor.database.discovery import discover
from reactor.database.store import gauges
from reactor.operations.overview import overview
from reactor.operations.tokens import (
    STEP,
    TokenFilter,
    count_matching,
    failures_by_cause,
    list_tokens,
    retry_matching,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1800)]

SIZES = (200_000, 1_000_000, 4_000_000)  # historic rows
COMPUTED = 50_000_000
WAITING = 100_000
FAILED = (20_000, 20_000, 700_000)  # more than one look of an operator's command reads
TIMES = 5
FLAT = 1.5  # from the smallest to the largest size

# The oldest tokens failed, the historic ones are newer, and the newest wait.
WAIT = f"""
    INSERT INTO tokens_s0 (token_id, author_id) SELECT 1000000000 + number, id
    FROM (SELECT id FROM authors LIMIT 1) AS author, generate_series(1, {WAITING}) AS number;
    ALTER SEQUENCE tokens_s0_token_id_seq RESTART 2000000000
"""
HISTORY = """
    INSERT INTO tokens_s0 (
      token_id, author_id, status, image_url, mint_timestamp, generation_epoch, generation_attempts
    )
    SELECT number, id, CASE WHEN number % 3 = 0 THEN 'revealed' ELSE 'ready' END,
      'https://replicate.delivery/xezq/' || number || '/out-0.webp',
      '2026-01-01'::timestamptz + number * interval '1 s', 1, 1
    FROM (SELECT id FROM authors LIMIT 1) AS author, generate_series({since} + 1, {until}) AS number
"""
FAILURES = """
    INSERT INTO tokens_s0 (token_id, author_id, status, generation_error, mint_timestamp, generation_epoch)
    SELECT -number, id, 'failed', 'model failed after ' || number % 1000 || ' s', '2025-01-01', 5
    FROM (SELECT id FROM authors LIMIT 1) AS author, generate_series({since} + 1, {until}) AS number
"""
BLOCKS = """
    SELECT sum(
      coalesce(heap_blks_read, 0) + coalesce(heap_blks_hit, 0) + coalesce(idx_blks_read, 0) + coalesce(idx_blks_hit, 0)
    )::bigint
    FROM pg_statio_user_tables
"""


@dataclass(frozen=True)
class Cost:
    milliseconds: float  # as the client sees it
    blocks: float


class Meter:
    """Runs what uses a session, and counts the blocks that the session's server process reads for it."""

    def __init__(self, session, watch):
        self._session = session
        self._watch = watch

    async def _blocks(self):
        await self._session.fetch("SELECT pg_stat_force_next_flush()")
        return await self._watch.fetchval(BLOCKS)

    async def once(self, work):
        before, began = await self._blocks(), time.perf_counter()
        await work()
        took = time.perf_counter() - began
        return Cost(1000 * took, await self._blocks() - before)

    async def median(self, work):
        await work()  # the first one prepares the statement
        found = [await self.once(work) for _ in range(TIMES)]
        return Cost(
            statistics.median(cost.milliseconds for cost in found), statistics.median(cost.blocks for cost in found)
        )


def statements(session, table):
    """What the worker, the producer and operators send, by name."""
    failed = TokenFilter("failed")
    return {
        "claim of 10": lambda: session.fetch(table.query("claim"), 0.0, 10, 7, 60.0),
        "next due time": lambda: session.fetch(table.query("next_due"), 0.1),
        "unfinished": lambda: session.fetch(table.query("unfinished")),
        "mint": lambda: session.fetch(table.query("mint"), ["a red kite"]),
        "gauges": lambda: gauges(session, table),
        "counts by status": lambda: counts.count(session, table),
        "all of `status`": lambda: overview(session, table),
        "a page of tokens": lambda: list_tokens(session, table, TokenFilter()),
        "a page of ready ones": lambda: list_tokens(session, table, TokenFilter("ready"), after="900000000"),
        "a page of failed ones": lambda: list_tokens(session, table, failed),
        "count of failed ones": lambda: count_matching(session, table, failed),
        "failures by cause": lambda: failures_by_cause(session, table),
    }


async def filled(connection, size):
    """Add rows up to the next size."""
    place = SIZES.index(size)
    given = [(HISTORY, (0, *SIZES)[place], size), (FAILURES, (0, *FAILED)[place], FAILED[place])]
    await connection.execute("SET session_replication_role = replica; SET synchronous_commit = off")
    for rows, since, to in given:
        await connection.execute(rows.format(since=since, until=to))
    await connection.execute("VACUUM (ANALYZE, INDEX_CLEANUP on) tokens_s0")


def printed(costs):
    """The table: milliseconds and blocks at each size, and the blocks of COMPUTED rows.

    An index that grows gets a level for each factor of 200 or so. So what is added between two sizes is taken to be
    added again for each such factor.
    """
    print(f"\n{'historic rows':<24}" + "".join(f"{size:>22,}" for size in SIZES) + f"{COMPUTED:>18,} (computed)")
    for name in costs[SIZES[0]]:
        found = [costs[size][name] for size in SIZES]
        shown = "".join(f"{cost.milliseconds:>11.1f} ms {cost.blocks:>8,.0f}" for cost in found)
        print(f"{name:<24}{shown}{computed([cost.blocks for cost in found]):>18,.0f}")


def computed(blocks):
    """The blocks that COMPUTED rows would cost, by the steepest growth that was measured."""
    growth = [
        (more - less) / math.log(large / small)
        for (small, large), (less, more) in zip(pairwise(SIZES), pairwise(blocks), strict=True)
    ]
    return blocks[-1] + max(0.0, *growth) * math.log(COMPUTED / SIZES[-1])


@contextmanager
def on_a_terminal():
    """A file that is a terminal; yields it, and a list that gets what is written to it."""
    ours, terminal = os.openpty()
    read = []

    def keep_reading():
        with suppress(OSError):  # nobody has the terminal open any more
            while data := os.read(ours, 4096):
                read.append(data)

    reader = Thread(target=keep_reading)
    reader.start()
    try:
        yield terminal, read
    finally:
        os.close(terminal)
        reader.join()
        os.close(ours)


@contextmanager
def interruptible():
    """Let children end by SIGINT, which background jobs of a shell inherit as ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


async def in_steps(session, table, meter, steps):
    """Retry so many steps; return the cost of each."""
    async with aclosing(retry_matching(session, table)) as retried:
        return [await meter.once(lambda: anext(retried)) for _ in range(steps)]


async def interrupted(database, connection):
    """Interrupt `reactor retry --failed` when it has set back half of what is left; return what it said."""
    ends = "SELECT min(token_id), max(token_id) FROM tokens_s0 WHERE status = 'failed'"
    oldest, newest = await connection.fetchrow(ends)
    passed = "SELECT status = 'detected' FROM tokens_s0 WHERE token_id = $1"
    with interruptible():
        process = command("retry", "--failed", "--yes", "--json", DATABASE_URL=database)
    await until(lambda: connection.fetchval(passed, (oldest + newest) // 2), seconds=300)
    process.send_signal(signal.SIGINT)
    out, _ = await to_thread.run_sync(process.communicate)
    assert process.returncode == 130
    return json.loads(out)


async def retried_to_the_end(database):
    """Run `reactor retry --failed` on a terminal; return what it said, and what the terminal shows."""
    with on_a_terminal() as (terminal, read):
        process = command("retry", "--failed", "--yes", stderr=terminal, DATABASE_URL=database, TERM="xterm")
        out, _ = await to_thread.run_sync(process.communicate)
    assert process.returncode == 0
    return out, b"".join(read).decode()


async def test_what_a_statement_costs_does_not_grow_with_the_table(connection, database, open_session, connect, capsys):
    await connection.execute("INSERT INTO authors (prompt_text) VALUES ('a lighthouse')")
    await connection.execute(WAIT)
    session = open_session(database)
    table, meter, costs = await discover(session, "tokens_s0"), Meter(session, await connect()), {}

    for size in SIZES:
        began = time.monotonic()
        await filled(connection, size)
        with capsys.disabled():
            print(f"\n{size:,} rows filled in {time.monotonic() - began:.0f} s", end="")
        costs[size] = {name: await meter.median(work) for name, work in statements(session, table).items()}
    with capsys.disabled():
        printed(costs)

    for name, least in costs[SIZES[0]].items():
        assert costs[SIZES[-1]][name].blocks <= FLAT * least.blocks, name

    failed = await connection.fetchval("SELECT count(*) FROM tokens_s0 WHERE status = 'failed'")
    began, steps = time.monotonic(), await in_steps(session, table, meter, failed // 3 // STEP)
    first = await interrupted(database, connection)
    left = await connection.fetchval("SELECT count(*) FROM tokens_s0 WHERE status = 'failed'")
    out, shown = await retried_to_the_end(database)
    with capsys.disabled():
        longest = max(cost.milliseconds for cost in steps)
        print(
            f"retried {failed:,} in {time.monotonic() - began:.0f} s; the longest step took {longest:.0f} ms,", end=""
        )
        print(f" and read {max(cost.blocks for cost in steps):,} blocks; interrupted when {left:,} were left")

    assert failed == FAILED[-1]
    assert 0 < left < failed - STEP * len(steps)
    assert not first["complete"]
    assert failed - STEP * len(steps) - first["retried"] - left in {0, STEP}  # the step that was interrupted
    assert out == f"{left:,} set back to detected\n"
    assert "set back" in shown
    assert steps[-1].blocks <= FLAT * steps[1].blocks
