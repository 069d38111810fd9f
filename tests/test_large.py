"""A million rows are migrated while writers write, and an older reactor works: `make test-large`.

It is not part of `make test`: it takes minutes.
"""

import time

import pytest
import wheels
from anyio import to_thread
from doubles import DirectedProvider, running
from test_traffic import HOST, assert_unharmed
from test_upgrades import SLOW, old, sandbox, start  # noqa: F401  (fixtures)
from traffic import traffic

from reactor.database.discovery import find
from reactor.database.names import INDEXES
from reactor.migrations import revisions

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(900)]

ROWS = 1_000_000


async def migrated_under_traffic(url, connection, capsys):
    """Migrate while writers write; return what was done."""
    await connection.execute("VACUUM ANALYZE tokens_s0")
    writers = traffic(url)
    measured = await to_thread.run_sync(writers.__enter__)
    began = time.monotonic()
    done = (await revisions.upgrade(url)).done
    took = time.monotonic() - began
    await to_thread.run_sync(writers.__exit__, None, None, None)
    with capsys.disabled():
        longest = ", ".join(f"{kind} {1000 * took:.0f} ms" for kind, took in measured.longest.items())
        print(f"\nmigrated in {took:.1f} s beside {sum(measured.statements.values()):,} statements; longest: {longest}")
    assert_unharmed(measured)
    assert (await find(connection.fetch, "tokens_s0")).triggers_enabled
    return done


async def test_a_hosts_million_rows(empty_database, connect_to, capsys):
    connection = await connect_to(empty_database)
    await connection.execute(HOST.format(rows=ROWS))

    done = await migrated_under_traffic(empty_database, connection, capsys)

    assert sum(what.startswith("build index") for what in done) == len(INDEXES)
    async with running(empty_database, DirectedProvider(), idle=False, rate_limit_per_minute=0) as (_, log):
        await log.wait("token.generation.succeeded", times=100)


async def test_a_million_rows_beside_an_older_reactor(empty_database, connect_to, old, start, capsys):  # noqa: F811
    wheels.complete(old, "migrate", DATABASE_URL=empty_database)
    connection = await connect_to(empty_database)
    await connection.execute("INSERT INTO authors (prompt_text) VALUES ('a red kite')")
    await connection.execute(
        "INSERT INTO tokens_s0 (author_id, status, generation_error) SELECT id, 'failed', 'a test' FROM authors,"
        f" generate_series(1, {ROWS})"
    )
    # As an older version or an operator may have left it, so that an index is built anew as well.
    await connection.execute("DROP INDEX tokens_s0_generation_uploads")
    _, lines = start(old, empty_database, RATE_LIMIT_PER_MINUTE="0")
    lines.until("listener.connected")

    done = await migrated_under_traffic(empty_database, connection, capsys)

    before = len(lines.of("token.generation.succeeded"))
    lines.until("token.generation.succeeded", times=before + 10)
    assert "build index tokens_s0_generation_uploads" in done
    assert not lines.of("worker.error")
