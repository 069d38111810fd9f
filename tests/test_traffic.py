"""Migrations of a table that is written to meanwhile: no writer fails, and none waits longer than a second."""

import anyio
import pytest
from anyio import to_thread
from doubles import until
from traffic import traffic

from reactor.database.discovery import find
from reactor.migrations import revisions

pytestmark = pytest.mark.anyio

LONGEST = 1.0  # seconds that a writer may wait
ROWS = 20_000
# A host's table that was never migrated.
HOST = """
    CREATE TABLE authors (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), prompt_text text);
    INSERT INTO authors (prompt_text) VALUES ('a red kite');
    CREATE TABLE tokens_s0 (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), token_id bigserial UNIQUE,
        author_id uuid REFERENCES authors, status text NOT NULL DEFAULT 'detected',
        created_at timestamptz NOT NULL DEFAULT now());
    INSERT INTO tokens_s0 (author_id, status)
        SELECT id, (ARRAY['detected', 'uploading', 'failed'])[number % 3 + 1]
        FROM authors, generate_series(1, {rows}) AS number
"""
WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock' AND relation = $1::regclass"


def assert_unharmed(measured):
    assert measured.errors == []
    assert max(measured.longest.values()) <= LONGEST, measured


async def test_a_table_that_a_long_transaction_holds_is_migrated_and_given_back_between_its_writers(
    empty_database, connect_to
):
    connection, holder = await connect_to(empty_database), await connect_to(empty_database)
    await connection.execute(HOST.format(rows=ROWS))
    tries = []

    async def waits(expected):
        await until(lambda: is_as_expected(expected), seconds=20)
        tries.append(expected)

    async def is_as_expected(expected):
        return (await connection.fetchval(WAITS, "tokens_s0") > 0) is expected

    async def let_go_at_the_third_try(transaction):
        for expected in (True, False, True, False, True):
            await waits(expected)
        await transaction.rollback()

    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("LOCK TABLE tokens_s0 IN ACCESS SHARE MODE")
    writers = traffic(empty_database)
    measured = await to_thread.run_sync(writers.__enter__)
    async with anyio.create_task_group() as group:
        group.start_soon(let_go_at_the_third_try, transaction)
        await revisions.upgrade(empty_database)
    rings = (await find(connection.fetch, "tokens_s0")).triggers_enabled
    removed = (await revisions.downgrade(empty_database)).done
    await to_thread.run_sync(writers.__exit__, None, None, None)

    assert_unharmed(measured)
    assert tries.count(True) == 3
    assert sum(measured.statements.values()) > 100
    assert rings
    assert "schema reactor" in removed
