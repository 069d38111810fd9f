import asyncio

import asyncpg
import pytest
from conftest import command
from databases import OTHERS, Databases, fetch, on


@pytest.fixture
def lent(server_url, template):
    databases = Databases(server_url, template)
    yield databases
    databases.close()


def used(server_url, databases, *statements):
    """Take a database, run statements in it as a test would, give it back; return its name."""
    name = databases.take()
    command(on(server_url, name), *statements)
    databases.give_back(name)
    return name


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO tokens_s0 DEFAULT VALUES",
        "INSERT INTO authors DEFAULT VALUES",
        "UPDATE reactor.intake SET paused_until = 'infinity', reason = 'a test'",
        "DELETE FROM reactor.intake",
    ],
)
def test_a_database_with_rows_is_emptied_and_lent_again(server_url, lent, statement):
    name = used(server_url, lent, statement)

    assert lent.take() == name
    url = on(server_url, name)
    assert lent.run(fetch(url, "SELECT count(*) FROM tokens_s0")) == 0
    assert lent.run(fetch(url, "SELECT count(*) FROM authors")) == 0
    assert lent.run(fetch(url, "SELECT count(*) FROM reactor.intake WHERE paused_until IS NULL")) == 1
    assert lent.run(fetch(url, "INSERT INTO tokens_s0 DEFAULT VALUES RETURNING token_id")) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE tokens_s0 ADD COLUMN hue text",
        "ALTER TABLE tokens_s0 ALTER COLUMN status SET DEFAULT 'ready'",
        "ALTER TABLE tokens_s0 SET (fillfactor = 90)",
        "ALTER TABLE tokens_s0 DISABLE TRIGGER ALL",
        "ALTER TABLE tokens_s0 DROP CONSTRAINT tokens_s0_status_check",
        "ALTER TABLE tokens_s0 RENAME TO elsewhere",
        "GRANT SELECT ON tokens_s0 TO PUBLIC",
        "GRANT USAGE ON SCHEMA reactor TO PUBLIC",
        "CREATE TABLE hosts_own (id int)",
        "CREATE FUNCTION hosts_own() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DROP INDEX tokens_s0_generation_fresh",
        "ANALYZE authors",
        "UPDATE reactor.alembic_version SET version_num = '0001'",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET jit = off', current_database()); END $$",
        "DO $$ BEGIN EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', current_database()); END $$",
    ],
)
def test_a_database_whose_schema_was_changed_is_not_lent_again(server_url, lent, statement):
    name = used(server_url, lent, "INSERT INTO authors DEFAULT VALUES", statement)

    assert lent.take() != name


def test_sessions_that_a_test_left_are_ended(server_url, lent):
    name = lent.take()
    left = lent.run(asyncpg.connect(on(server_url, name)))
    lent.run(left.execute("BEGIN; INSERT INTO tokens_s0 DEFAULT VALUES"))
    lent.give_back(name)

    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        lent.run(left.execute("SELECT 1"))
    assert lent.take() == name


def test_a_connection_of_ours_that_a_test_ended_is_opened_again(server_url, lent):
    name = used(server_url, lent)

    assert used(server_url, lent, OTHERS) == name
    assert lent.take() == name


def test_one_connection_empties_a_database_each_time_until_it_is_left(server_url, lent):
    ours = "SELECT array_agg(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    name = used(server_url, lent)
    url = on(server_url, name)
    first = lent.run(fetch(url, ours))
    used(server_url, lent)

    assert len(first) == 1
    assert lent.run(fetch(url, ours)) == first
    lent.leave(name)
    lent.run(gone(url, ours))


async def gone(url, ours):
    async with asyncio.timeout(10):
        while await fetch(url, ours) is not None:  # noqa: ASYNC110  (only asking tells)
            await asyncio.sleep(0.01)
