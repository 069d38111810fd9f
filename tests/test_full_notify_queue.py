"""A full NOTIFY queue makes the commit of a NOTIFY fail. Our statements look first, so they succeed without a wake."""

import asyncpg
import pytest
from test_queries import NAMES, split

pytestmark = pytest.mark.anyio

NOTIFY = [name for name in NAMES if "pg_notify(" in split(name)[1]]
ARGUMENTS = {
    "half_open_gate": ("a_channel",),
    "open_gate": ("create", None, "a_channel"),
    "leave": ("wake", "bell", True, False, True),
    "raise_budget": (10, "a_channel"),
    "resume": ("a_channel",),
}
# Stand-ins that act as if the queue was full: a session that listens but reads nothing fills it.
FULL = """
CREATE SCHEMA full_queue;
CREATE FUNCTION full_queue.pg_notification_queue_usage() RETURNS double precision LANGUAGE sql AS 'SELECT 1.0';
CREATE FUNCTION full_queue.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS
  $$ BEGIN RAISE 'too many notifications in the NOTIFY queue' USING ERRCODE = '54000'; END $$;
SET search_path = full_queue, pg_catalog, public;
"""


@pytest.fixture
async def full_queue(connection, table):
    """Make the queue look full to the test's client."""
    await connection.execute(FULL)


def test_every_statement_that_does_more_than_notify_is_tested_here():
    assert set(NOTIFY) - {"ring"} == set(ARGUMENTS)


@pytest.mark.usefixtures("full_queue")
async def test_what_only_rings_says_that_it_could_not(ask):
    with pytest.raises(asyncpg.PostgresError):
        await ask("ring", "a_channel")


@pytest.mark.usefixtures("full_queue")
async def test_resume_opens_the_gate(ask, connection):
    await ask("pause", "maintenance", None)

    rows = await ask("resume", *ARGUMENTS["resume"])

    assert [row["reason"] for row in rows] == ["maintenance"]
    assert await connection.fetchval("SELECT paused_until FROM reactor.intake") is None


@pytest.mark.usefixtures("full_queue")
async def test_the_next_token_is_let_through_a_half_open_gate(ask, connection):
    await connection.execute("UPDATE reactor.intake SET paused_until = now() + interval '30 s', pause_seconds = 60")

    await ask("half_open_gate", *ARGUMENTS["half_open_gate"])

    assert await connection.fetchval("SELECT paused_until <= clock_timestamp() FROM reactor.intake")


@pytest.mark.usefixtures("full_queue")
async def test_an_accepted_create_opens_the_gate(ask, connection):
    await ask("pause_gate", 30.0, "429", False, "create")

    assert len(await ask("open_gate", *ARGUMENTS["open_gate"])) == 1
    assert await connection.fetchval("SELECT paused_until FROM reactor.intake") is None


@pytest.mark.usefixtures("full_queue")
async def test_a_larger_budget_opens_the_gate(ask, connection):
    await connection.execute(
        "UPDATE reactor.intake SET budget_day = (now() AT TIME ZONE 'UTC')::date + 1, budget_bought = 9,"
        " budget_closed = true, opens_on = 'time', reason = 'The daily budget of 9 creates is spent',"
        " paused_until = ((now() AT TIME ZONE 'UTC')::date + 2)::timestamp AT TIME ZONE 'UTC'"
    )

    (row,) = await ask("raise_budget", *ARGUMENTS["raise_budget"])

    assert row["opened"]
    assert await connection.fetchval("SELECT paused_until FROM reactor.intake") is None


@pytest.mark.usefixtures("full_queue")
async def test_the_watch_is_left(ask, table):
    await ask("watch", "wake", False, table.relation)

    (row,) = await ask("leave", *ARGUMENTS["leave"], table.relation)

    assert (row["quiet"], row["left_watch"]) == (True, True)
