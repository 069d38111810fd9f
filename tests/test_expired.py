"""`reactor retry --expired`: images that left the provider unused are made again, with the same seed."""

import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import anyio
import httpx
import pytest
from conftest import command
from doubles import SECRET, running
from wire import Wire, http, quick_tls  # noqa: F401  (a fixture)

from reactor.database.discovery import discover
from reactor.engine.health import Expired, ExpiredToday, Health
from reactor.operations.expired import count_expired, retry_expired
from reactor.operations.tokens import TokenFilter
from reactor.providers.limits import Limits
from reactor.providers.replicate import FORGIVEN, ReplicateProvider
from reactor.sandbox import Sandbox, Timing

pytestmark = pytest.mark.anyio

MADE = """
    INSERT INTO tokens_s0 (status, image_url, generation_seed, generation_seeded_at, generation_prediction_id,
      generation_attempts, generation_rescues, generation_epoch)
    SELECT '{status}', 'https://x', number, now() - interval '{ago}', 'p' || number, 2, 3, 4
    FROM generate_series(1, {tokens}) AS number
"""
ENTRY = """
    INSERT INTO reactor.attempts (tokens_table, key, epoch, outcome, prediction_id, ended_at)
    SELECT 'public.tokens_s0', id::text, 4, '{outcome}', generation_prediction_id, now() - interval '{ago}'
    FROM tokens_s0
"""


@pytest.fixture
async def asked(connection, database, open_session):
    session = open_session(database)
    return session, await discover(session, "tokens_s0")


async def retried(asked, *given, **limits):
    """(begun anew, locked) of each step."""
    return [(step.retried, step.locked) async for step in retry_expired(*asked, *given, **limits)]


async def test_a_token_keeps_its_seed_and_forgets_its_prediction(asked, connection, token_row):
    await connection.execute(MADE.format(status="uploading", ago="61 min", tokens=1))

    assert await count_expired(*asked) == (await count_expired(*asked, step=1))
    assert (await count_expired(*asked)).tokens == 1
    assert await retried(asked) == [(1, 0)]

    row = await token_row(1)
    assert (row["status"], row["generation_seed"], row["generation_prediction_id"]) == ("detected", 1, None)
    assert (row["generation_attempts"], row["generation_rescues"]) == (0, 0)
    assert row["generation_due_at"] == row["generation_seeded_at"]
    assert datetime.now(tz=UTC) - row["generation_seeded_at"] < timedelta(seconds=10)
    (entry,) = await connection.fetch("SELECT * FROM reactor.attempts")
    assert (entry["outcome"], entry["prediction_id"], entry["seed"], entry["epoch"]) == ("expired", "p1", 1, 4)
    assert (entry["key"], entry["token_id"], entry["images"]) == (str(row["id"]), 1, None)
    assert await retried(asked) == [(0, 0)]


async def test_the_entry_says_what_the_image_cost_and_when_it_was_bought(asked, connection):
    await connection.execute(MADE.format(status="uploading", ago="3 hours", tokens=2))
    await connection.execute(ENTRY.format(outcome="succeeded", ago="2 hours"))
    await connection.execute("UPDATE reactor.attempts SET images = 1, cost = 0.003, bought_at = '2026-01-01 12:00Z'")

    assert await retried(asked) == [(2, 0)]

    entries = await connection.fetch("SELECT * FROM reactor.attempts WHERE outcome = 'expired'")
    told = [(entry["images"], float(entry["cost"]), entry["bought_at"]) for entry in entries]
    assert told == 2 * [(1, 0.003, datetime(2026, 1, 1, 12, tzinfo=UTC))]


async def test_without_a_history_no_entry_is_written(asked, connection):
    await connection.execute(MADE.format(status="uploading", ago="61 min", tokens=1))

    assert await retried(asked, history=False) == [(1, 0)]
    assert await connection.fetchval("SELECT count(*) FROM reactor.attempts") == 0


@pytest.mark.parametrize("status", ["ready", "revealed", "failed", "generating", "detected"])
async def test_only_a_token_that_nobody_took_is_begun_anew(asked, connection, status):
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(MADE.format(status=status, ago="3 hours", tokens=1))

    assert (await count_expired(*asked)).tokens == 0
    assert await retried(asked) == [(0, 0)]


@pytest.mark.parametrize(
    ("seeded", "made", "outcome", "expired"),
    [
        ("61 min", "59 min", "succeeded", False),
        ("3 hours", "61 min", "succeeded", True),
        ("3 hours", "59 min", "retry", True),
        ("59 min", "59 min", "succeeded", False),
    ],
    ids=["made later", "made long ago", "not when it was made", "young"],
)
async def test_an_image_is_as_old_as_the_history_says(asked, connection, seeded, made, outcome, expired):
    await connection.execute(MADE.format(status="uploading", ago=seeded, tokens=1))
    await connection.execute(ENTRY.format(outcome=outcome, ago=made))

    assert (await count_expired(*asked)).tokens == expired
    assert await retried(asked) == [(expired, 0)]


async def test_a_token_whose_age_nobody_knows_stays(asked, connection):
    await connection.execute(MADE.format(status="uploading", ago="3 hours", tokens=1))
    await connection.execute("UPDATE tokens_s0 SET generation_seeded_at = NULL")

    assert await retried(asked) == [(0, 0)]


@pytest.mark.parametrize("ties", [True, False])
async def test_steps_reach_every_token_once(asked, connection, ties):
    await connection.execute(MADE.format(status="uploading", ago="3 hours", tokens=25))
    if not ties:
        await connection.execute(
            "UPDATE tokens_s0 SET generation_seeded_at = generation_seeded_at - token_id * interval '1 s'"
        )

    assert (await count_expired(*asked, step=10)).tokens == 25
    assert await retried(asked, step=10) == [(10, 0), (10, 0), (5, 0)]


async def test_a_filter_narrows(asked, connection):
    await connection.execute(MADE.format(status="uploading", ago="3 hours", tokens=5))

    assert await retried(asked, TokenFilter("uploading", "3")) == [(1, 0)]
    await connection.execute("UPDATE tokens_s0 SET mint_timestamp = now() - interval '1 day'")
    assert await retried(asked, TokenFilter("uploading", None, 7200.0)) == [(0, 0)]
    assert (await count_expired(*asked, TokenFilter("uploading", "4"))).tokens == 1


async def test_a_token_that_the_next_stage_has_locked_is_left_to_it(asked, connection, connect):
    await connection.execute(MADE.format(status="uploading", ago="3 hours", tokens=2))
    other = await connect()
    transaction = other.transaction()
    await transaction.start()
    await other.execute("UPDATE tokens_s0 SET status = 'ready' WHERE token_id = 1")

    assert await retried(asked) == [(1, 1)]
    await transaction.commit()
    assert await retried(asked) == [(0, 0)]
    assert await connection.fetchval("SELECT status FROM tokens_s0 WHERE token_id = 1") == "ready"


async def test_a_token_that_was_taken_while_it_was_looked_at_is_left_alone(connection, connect, table, until_blocked):
    await connection.execute(MADE.format(status="uploading", ago="3 hours", tokens=1))
    other, begun = await connect(), table.query("retry_expired")
    look = "\n  WHERE status = 'uploading'\n"
    held = f"{look}    AND (SELECT pg_advisory_lock(7) IS NULL) IS NOT NULL\n"  # once the snapshot is taken
    await other.execute("SELECT pg_advisory_lock(7)")

    async with anyio.create_task_group() as group:
        steps = []

        async def retry():
            statement = begun.replace(look, held, 1)
            steps.extend(await connection.fetch(statement, None, 10, None, None, None, 3600.0, True))

        group.start_soon(retry)
        await until_blocked(connection)
        await other.execute("UPDATE tokens_s0 SET status = 'ready'")
        await other.execute("SELECT pg_advisory_unlock(7)")

    assert (steps[0]["retried"], steps[0]["locked"]) == (0, 1)
    assert await other.fetchval("SELECT status FROM tokens_s0") == "ready"
    assert await other.fetchval("SELECT count(*) FROM reactor.attempts") == 0


# With a worker and the sandbox.


@asynccontextmanager
async def working(database, base_url):
    provider = ReplicateProvider(SECRET, base_url=base_url, limits=Limits(first_poll=0.02))
    try:
        async with running(database, provider) as (_, log):
            yield log
    finally:
        await provider.aclose()


async def picture(url):
    async with httpx.AsyncClient() as client:
        answer = await client.get(url)
        return answer.content


@pytest.mark.parametrize("forgotten", [True, False], ids=["input removed", "input still listed"])
async def test_the_same_picture_is_bought_once_more(database, make_token, connection, asked, token_row, forgotten):
    sandbox = Sandbox(Timing.instant(), token=SECRET, retention=4000.0 if forgotten else 90000.0)
    async with sandbox.serve() as base_url, working(database, base_url) as log:
        await make_token()
        await log.wait("token.generation.succeeded")
        before = await token_row(1)
        shown = await picture(before["image_url"])
        sandbox.ledger[0].requested_at -= 7200.0
        await connection.execute("UPDATE tokens_s0 SET generation_seeded_at = now() - interval '2 hours'")
        await connection.execute("UPDATE reactor.attempts SET ended_at = now() - interval '2 hours'")

        assert await retried(asked) == [(1, 0)]
        await log.wait("token.generation.succeeded", times=2)

        after = await token_row(1)
        assert len(sandbox.ledger) == 2
        assert after["generation_seed"] == before["generation_seed"] == sandbox.ledger[1].seed
        assert after["generation_prediction_id"] == sandbox.ledger[1].id != before["generation_prediction_id"]
        assert after["image_url"] != before["image_url"]
        assert await picture(after["image_url"]) == shown
    outcomes = await connection.fetch("SELECT outcome, prediction_id FROM reactor.attempts ORDER BY id")
    assert [tuple(entry) for entry in outcomes] == [
        ("succeeded", sandbox.ledger[0].id),
        ("expired", sandbox.ledger[0].id),
        ("succeeded", sandbox.ledger[1].id),
    ]


async def test_a_purchase_that_the_new_claim_made_is_found_beside_the_old_one():
    now = datetime.now(tz=UTC)

    def entry(name, ago):
        return {"id": name, "status": "starting", "created_at": (now - ago).isoformat(), "input": {"seed": 5}}

    async def found(*entries):
        wire = Wire(http({"results": list(entries), "next": None}))
        async with wire.serve() as base_url:
            provider = ReplicateProvider(SECRET, base_url=base_url)
            try:
                seen = await provider.find(5, now - timedelta(seconds=60))
                return seen and seen.id
            finally:
                await provider.aclose()

    old, new = entry("old", timedelta(hours=1, minutes=1)), entry("new", timedelta(0))
    assert await found(old) is None
    assert await found(new, old) == "new"
    assert await found(entry("slow-clock", FORGIVEN)) == "slow-clock"


# The command.


def test_the_command_counts_asks_and_begins_anew(reactor, database):
    command(database, MADE.format(status="uploading", ago="3 hours", tokens=101))

    assert reactor("retry", "--expired", "--dry-run")[:2] == (0, "101 expired tokens would be set back to detected\n")
    code, out, err = reactor("retry", "--expired")
    assert (code, out) == (1, "")
    assert err == "Error: 101 expired tokens would be set back: add --yes, or look first with --dry-run\n"
    told = json.loads(reactor("retry", "--expired", "--matching", "7", "--json")[1])
    assert told == {"retried": 1, "locked": 0, "complete": True}
    assert reactor("retry", "--expired", "--yes")[:2] == (0, "100 set back to detected\n")
    assert "begun anew by `reactor retry --expired`" in reactor("show", "7")[1]


@pytest.mark.parametrize("arguments", [("--expired", "--failed"), ("--expired", "7"), ()])
def test_tokens_are_meant_in_one_way(reactor, arguments):
    assert reactor("retry", *arguments)[0] == 2


def test_the_command_writes_no_history_where_none_is_kept(reactor, database, monkeypatch):
    command(database, MADE.format(status="uploading", ago="3 hours", tokens=1))
    monkeypatch.setenv("HISTORY_DAYS", "0")

    assert reactor("retry", "--expired")[:2] == (0, "1 set back to detected\n")
    assert "reactor retry --expired" not in reactor("show", "1")[1]


# The gauge.

EXPIRED = """
    INSERT INTO reactor.attempts (tokens_table, key, epoch, outcome, prediction_id, cost, ended_at)
    SELECT 'public.tokens_s0', 'k', 1, outcome, {bought}, 0.003, {at}
    FROM unnest($1::text[]) AS outcome
"""


def costing(purchases):
    return Expired(purchases, purchases * Decimal("0.003"))


@pytest.fixture
def ended(connection):
    """Write an entry of the history for each outcome."""

    async def ended(*outcomes, at="clock_timestamp()", bought="'p'"):
        await connection.execute(EXPIRED.format(at=at, bought=bought), list(outcomes))

    return ended


@pytest.mark.usefixtures("one_day")
async def test_the_count_of_a_day_goes_on_where_it_ended(database, open_session, ended):
    count = ExpiredToday(open_session(database), rows=2, settled=0.0)
    await ended("expired", "succeeded", "expired", "lost", "expired")

    first, second = await count(), [await count() for _ in range(2)]
    await ended("expired")
    third = await count()

    assert first is None  # not all were read
    assert (second, third, await count()) == ([None, costing(3)], costing(4), costing(4))


@pytest.mark.usefixtures("one_day")
async def test_a_token_that_began_anew_without_a_purchase_is_none(database, open_session, ended):
    count = ExpiredToday(open_session(database), settled=0.0)
    await ended("expired", bought="NULL")

    assert await count() == Expired()


@pytest.mark.usefixtures("one_day")
async def test_what_ended_at_one_moment_is_read_together(database, open_session, ended):
    count = ExpiredToday(open_session(database), rows=2, settled=0.0)
    await ended(*["expired"] * 5, at="now()")

    assert (await count(), await count()) == (None, costing(5))


@pytest.mark.usefixtures("one_day")
async def test_an_entry_that_may_be_followed_by_an_older_one_waits(database, open_session, ended):
    count = ExpiredToday(open_session(database), settled=3600.0)
    await ended("expired")

    assert await count() == Expired()


@pytest.mark.usefixtures("one_day")
@pytest.mark.parametrize("read_to", ["1 day", "-1 day"], ids=["the day before", "before the clock was set back"])
async def test_a_new_day_counts_from_nothing(connection, ask, ended, read_to):
    await ended("expired", at="clock_timestamp() - interval '1 day'")
    await ended("expired")
    before = await connection.fetchval(f"SELECT now() - interval '{read_to}'")

    (found,) = await ask("expired_today", before, 10, 0.0)

    assert (found["anew"], found["expired"], found["cost"]) == (True, 1, Decimal("0.003"))


async def test_what_expired_is_a_gauge_unless_no_history_is_kept(database, open_session, connection):
    kept = Health(open_session(database), "tokens_s0", slots=1)
    without = Health(open_session(database), "tokens_s0", slots=1, history=False)

    names = "reactor_purchases_expired_today", "reactor_purchases_expired_cost_today"
    assert [(await kept.gauges())[name] for name in names] == [0, 0.0]
    assert [(await without.gauges())[name] for name in names] == [None, None]


async def test_a_history_that_cannot_be_read_takes_no_other_gauge_along(database, open_session, connection):
    health = Health(open_session(database), "tokens_s0", slots=1)
    await connection.execute("ALTER TABLE reactor.attempts RENAME TO hidden")

    found = await health.gauges()

    assert (found["reactor_purchases_expired_today"], found["image_generation_queue_depth"]) == (None, 0)


async def test_a_history_that_does_not_answer_in_time_takes_no_other_gauge_along(database, open_session, connection):
    health = Health(open_session(database), "tokens_s0", slots=1, daily_budget=5)
    async with connection.transaction():
        await connection.execute("LOCK TABLE reactor.attempts IN ACCESS EXCLUSIVE MODE")
        found = await health.gauges()

    assert found["reactor_purchases_expired_today"] is None
    assert (found["image_generation_queue_depth"], found["reactor_budget_remaining"]) == (0, 5.0)
