"""DAILY_BUDGET: how accepted creates are counted, when the gate closes for it, and when it opens."""

import re
from contextlib import AsyncExitStack
from math import inf

import anyio
import orjson
import pytest
from anyio import to_thread
from doubles import LOOKING, Barrier, DirectedProvider, running, until
from served import served

from reactor.database.session import Session
from reactor.engine.health import Health
from reactor.errors import ContentPolicyError
from reactor.operations.overview import overview

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_day")]

WORKER = 7
LOST = '{"outcome": "released", "attempt": 1, "censored": false, "model": "a/model"}'  # as parts/told.sql reads it
TODAY = "(clock_timestamp() AT TIME ZONE 'UTC')::date"
MIDNIGHT = f"({TODAY} + 1)::timestamp AT TIME ZONE 'UTC'"


@pytest.fixture
def claim(ask, make_token):
    """Make tokens, and claim them."""

    async def claim(count=1):
        for _ in range(count):
            await make_token()
        return await ask("claim", 0.0, count, WORKER, 60.0)

    return claim


def fences(claims):
    return [row["id"] for row in claims], [row["epoch"] for row in claims], [WORKER] * len(claims)


@pytest.fixture
def record(ask):
    """Record purchases, each named for its token."""

    async def record(claims, budget=100, **on):
        bought, seeds = [f"p{row['token_id']}" for row in claims], [row["seed"] for row in claims]
        return await ask("record", *fences(claims), bought, seeds, budget, **on)

    return record


@pytest.fixture
def settle(ask):
    async def settle(row, *, budget=100, told=None, recorded=False, **on):
        given = "uploading", "https://x/1", None, f"p{row['token_id']}", 0, None, False, row["seed"], told, recorded
        return await ask("settle", *fences([row]), *([value] for value in given), budget, **on)

    return settle


@pytest.fixture
def gate(connection):
    async def gate():
        return await connection.fetchrow(
            f"SELECT *, budget_day = {TODAY} AS is_today, paused_until = {MIDNIGHT} AS until_midnight"
            " FROM reactor.intake"
        )

    return gate


async def test_each_accepted_create_is_counted_once(claim, record, settle, gate):
    first, second, third = await claim(3)
    await record([first, second])
    await record([first, second])
    await settle(first)
    await settle(third)
    await settle(third)

    now = await gate()
    assert (now["budget_bought"], now["is_today"], now["budget_closed"], now["paused_until"]) == (3, True, False, None)


async def test_a_rejected_purchase_is_counted_though_it_was_never_recorded(ask, claim, record, gate):
    first, second = await claim(2)
    await record([first])
    for row in (first, second, second):
        await ask("censor", row["id"], row["epoch"], WORKER, 1, "no", f"p{row['token_id']}", None, 100)

    assert (await gate())["budget_bought"] == 2


BOUGHT_ANEW = "generation_seed = 1 - sign(generation_seed)"  # another seed than the zombie's
FOUND = [  # what the zombie's token is by now, and whether its purchase counts
    ("generation_epoch = 2", 0),  # the next holder looks for it
    ("status = 'detected', generation_due_at = now()", 0),
    (f"generation_epoch = 2, {BOUGHT_ANEW}", 1),
    ("generation_epoch = 2, generation_prediction_id = 'another'", 1),
    ("status = 'failed', generation_error = 'no', generation_epoch = 2", 1),
    ("status = 'detected', generation_epoch = 2", 1),  # reset by hand: its claim forgets the seed
]


@pytest.mark.parametrize(("found", "counted"), FOUND)
async def test_what_a_zombie_bought_counts_once_unless_the_next_holder_will_find_it(
    connection, claim, record, settle, gate, found, counted
):
    (row,) = await claim()
    await connection.execute(f"UPDATE tokens_s0 SET generation_worker = NULL, generation_lease_ends_at = NULL, {found}")
    for _ in range(2):
        await record([row])
        (answer,) = await settle(row, told=LOST)

    assert answer["answer"] == "lost"
    assert (await gate())["budget_bought"] == counted
    assert await connection.fetchval("SELECT count(*) FROM reactor.attempts WHERE prediction_id IS NOT NULL") == 1


async def test_what_was_bought_for_a_token_that_is_gone_counts_once(connection, claim, settle, gate):
    (row,) = await claim()
    await connection.execute("DELETE FROM tokens_s0")
    for _ in range(2):
        await settle(row, told=LOST)

    assert (await gate())["budget_bought"] == 1


async def test_what_a_zombie_had_recorded_does_not_count_again_once_the_next_holder_has_ended_it(
    connection, ask, claim, record, settle, gate
):
    (row,) = await claim()
    await record([row])
    await connection.execute("UPDATE tokens_s0 SET generation_epoch = 2")
    given = "detected", None, "it broke", f"p{row['token_id']}", 1, 0.0, True, row["seed"], LOST, False
    await ask("settle", [row["id"]], [2], [WORKER], *([value] for value in given), 100)
    await settle(row, told=LOST)

    assert (await gate())["budget_bought"] == 1


async def test_what_was_recorded_before_its_token_was_gone_is_not_counted_again(
    connection, claim, record, settle, gate
):
    (row,) = await claim()
    await record([row])
    await connection.execute("DELETE FROM tokens_s0")
    await settle(row, told=LOST, recorded=True)

    assert (await gate())["budget_bought"] == 1


@pytest.mark.parametrize(("found", "counted"), FOUND)
async def test_what_a_zombie_bought_for_a_locked_token_counts_as_the_snapshot_shows_it(
    connection, connect, claim, settle, gate, found, counted
):
    (row,) = await claim()
    await connection.execute(f"UPDATE tokens_s0 SET generation_worker = NULL, generation_lease_ends_at = NULL, {found}")
    await connection.execute("UPDATE tokens_s0 SET generation_epoch = 3")
    async with connection.transaction():
        await connection.execute("SELECT FROM tokens_s0 FOR UPDATE")
        await settle(row, told=LOST, on=await connect())

    assert (await gate())["budget_bought"] == counted


async def test_a_lost_purchase_is_judged_by_the_row_as_it_is_and_not_as_the_snapshot_shows_it(
    connection, connect, claim, table, until_blocked, gate
):
    (row,) = await claim()
    other, settle = await connect(), table.query("settle")
    rows = " = ANY ($1::uuid[])\n"
    held = f"{rows}    AND (SELECT pg_advisory_lock(7) IS NULL) IS NOT NULL\n"  # once the snapshot is taken
    given = "uploading", "https://x/1", None, "p", 0, None, False, row["seed"], LOST, False
    await connection.execute("UPDATE tokens_s0 SET generation_epoch = 2")  # the next holder would find it
    await other.execute("SELECT pg_advisory_lock(7)")

    async with anyio.create_task_group() as group:
        statement = settle.replace(rows, held, 1)
        group.start_soon(connection.fetch, statement, *fences([row]), *([value] for value in given), 100)
        await until_blocked(connection)
        await other.execute(f"UPDATE tokens_s0 SET {BOUGHT_ANEW}")
        await other.execute("SELECT pg_advisory_unlock(7)")

    assert (await gate())["budget_bought"] == 1


async def test_two_zombies_of_one_purchase_count_it_once(connection, ask, claim, gate):
    (row,) = await claim()
    await connection.execute(f"UPDATE tokens_s0 SET generation_epoch = 3, {BOUGHT_ANEW}")
    given = "uploading", "https://x/1", None, "p", 0, None, False, row["seed"], LOST, False
    await ask("settle", [row["id"]] * 2, [1, 2], [WORKER] * 2, *([value] * 2 for value in given), 100)

    assert (await gate())["budget_bought"] == 1


async def test_a_lost_purchase_closes_the_gate(connection, claim, settle, gate):
    (row,) = await claim()
    await connection.execute(f"UPDATE tokens_s0 SET generation_epoch = 2, {BOUGHT_ANEW}")
    await settle(row, told=LOST, budget=1)

    assert (await gate())["until_midnight"]


async def test_without_a_history_a_lost_purchase_counts_too(connection, claim, settle, gate):
    (row,) = await claim()
    await connection.execute(f"UPDATE tokens_s0 SET generation_epoch = 2, {BOUGHT_ANEW}")
    await settle(row)

    assert (await gate())["budget_bought"] == 1


async def test_a_pause_of_an_operator_that_ends_before_midnight_is_replaced(ask, claim, record, gate):
    first = await claim()
    await ask("pause", "for a moment", 10.0)
    await record(first, budget=1)

    assert ((await gate())["until_midnight"], "daily budget" in (await gate())["reason"]) == (True, True)


async def test_without_a_budget_the_gates_row_is_not_touched(connection, claim, record, settle):
    (row,) = await claim()
    before = await connection.fetchval("SELECT xmin::text FROM reactor.intake")
    await record([row], budget=0)
    await settle(row, budget=0)

    assert await connection.fetchval("SELECT xmin::text FROM reactor.intake") == before


async def test_the_gate_closes_with_the_last_create_of_the_day_and_says_when_it_opens(ask, claim, record, gate):
    claims = await claim(3)
    await record(claims[:2], budget=3)
    before = await gate()
    await record(claims, budget=3)

    now = await gate()
    assert before["paused_until"] is None
    assert (now["until_midnight"], now["opens_on"], now["budget_closed"]) == (True, "time", True)
    opens_at = f"{now['paused_until']:%Y-%m-%d} 00:00 UTC"
    assert now["reason"] == f"The daily budget of 3 creates is spent; the gate opens at {opens_at}"
    (state,) = await ask("gate_state")
    assert state["paused"]
    assert 0 < state["resumes_in"] <= 86400


async def test_status_says_that_it_opens_by_itself_and_how_to_lift_the_limit(
    claim, record, table, open_session, database
):
    await record(await claim(), budget=1)

    verdict = (await overview(open_session(database), table)).verdict

    assert verdict.sentence.startswith("The gate is closed for ")
    assert "The daily budget of 1 creates is spent" in verdict.sentence
    assert (
        verdict.todo
        == "It opens by itself then, or with a larger DAILY_BUDGET; `reactor resume` lifts the limit for today."
    )


@pytest.mark.parametrize("learnt", ["create", "image", "check"])
async def test_nothing_that_an_attempt_learns_opens_it(ask, claim, record, gate, learnt):
    await record(await claim(), budget=1)

    await ask("open_gate", learnt, (await gate())["reason"], "channel")
    await ask("half_open_gate", "channel")
    await ask("refuse_gate", "mark", "another", 20.0)

    assert (await gate())["until_midnight"]


async def test_it_takes_the_place_of_a_shorter_pause_but_not_of_an_operators_longer_one(
    connection, ask, claim, record, gate
):
    first, second = await claim(2)
    await ask("pause_gate", 30.0, "429", False, "create")
    await record([first], budget=1)
    over_a_429 = await gate()
    await connection.execute(
        "UPDATE reactor.intake"
        " SET paused_until = 'infinity', reason = 'by hand', budget_bought = 0, budget_closed = false"
    )
    await record([second], budget=1)

    assert (over_a_429["until_midnight"], over_a_429["opens_on"]) == (True, "time")
    assert ((await gate())["reason"], (await gate())["budget_closed"]) == ("by hand", True)


async def test_a_gate_shut_for_a_refused_api_token_waits_for_its_check_and_the_next_create_closes_it(
    ask, claim, record, gate
):
    first, second = await claim(2)
    await ask("refuse_gate", "mark", "401", 600.0)
    await record([first], budget=1)
    refused = await gate()
    await ask("open_gate", "check", "401", "channel")
    opened = await gate()
    await record([second], budget=1)

    assert (refused["opens_on"], refused["reason"], refused["until_midnight"]) == ("check", "401", False)
    assert opened["paused_until"] is None
    assert ((await gate())["until_midnight"], (await gate())["opens_on"]) == (True, "time")


@pytest.fixture
async def failing(ask, claim, record):
    """A gate that waits for an image, and a budget of 1 that is spent; a token that was claimed before that."""
    first, second = await claim(2)
    await ask("pause_gate", 30.0, "broken", False, "image")
    await record([first], budget=1)
    return second


async def test_a_gate_that_waits_for_an_image_tries_one_token_when_the_day_is_over(
    connection, ask, claim, make_token, failing, gate
):
    learnt = await ask("open_gate", "image", None, "channel")
    waiting = await gate()
    await connection.execute(
        "UPDATE reactor.intake SET budget_day = budget_day - 1, paused_until = paused_until - interval '1 day'"
    )
    claimed = await claim(2)

    assert learnt == []
    assert (waiting["until_midnight"], waiting["opens_on"], waiting["reason"]) == (True, "image", "broken")
    assert len(claimed) == 1
    assert len(await ask("open_gate", "image", None, "channel")) == 1


async def test_a_gate_that_waits_for_an_image_is_not_opened_before_by_hand(ask, failing, gate):
    await ask("pause", "for a moment", 10.0)
    paused = await gate()
    (resumed,) = await ask("resume", "channel")

    assert (paused["until_midnight"], paused["opens_on"], paused["reason"]) == (True, "image", "broken")
    assert (resumed["reason"], (await gate())["until_midnight"]) == ("broken", True)


async def test_the_state_of_the_gate_says_that_the_budget_is_spent_too(connection, ask, failing):
    async def spent():
        ((*_, told),) = await ask("gate_state")
        return told

    while_it_fails = await spent()
    await connection.execute("UPDATE reactor.intake SET budget_day = budget_day - 1")
    next_day = await spent()
    await connection.execute("UPDATE reactor.intake SET budget_day = NULL")

    assert (while_it_fails, next_day, await spent()) == (True, False, False)


async def test_the_first_create_after_a_check_closes_it_though_it_waited_for_an_image_before(
    ask, failing, record, gate
):
    await ask("refuse_gate", "mark", "401", 600.0)
    await ask("open_gate", "check", "401", "channel")
    opened = await gate()
    await record([failing], budget=1)

    assert (opened["paused_until"], (await gate())["until_midnight"]) == (None, True)


async def test_resume_holds_until_the_day_is_over(connection, ask, claim, record, gate):
    first, second, third = await claim(3)
    await record([first], budget=1)
    await ask("resume", "channel")
    await record([second], budget=1)
    overridden = await gate()
    await connection.execute("UPDATE reactor.intake SET budget_day = budget_day - 1")
    await record([third], budget=1)

    assert (overridden["paused_until"], overridden["budget_bought"]) == (None, 2)
    assert ((await gate())["until_midnight"], (await gate())["budget_bought"]) == (True, 1)


async def test_the_resume_of_an_operators_own_pause_leaves_the_budgets(ask, claim, record, gate):
    first, second = await claim(2)
    await record([first], budget=1)
    await ask("pause", "maintenance", None)
    (resumed,) = await ask("resume", "channel")
    left = await gate()
    (lifted,) = await ask("resume", "channel")
    await record([second], budget=1)

    until = f"{left['paused_until']:%Y-%m-%d} 00:00 UTC"
    assert (resumed["reason"], resumed["stays_closed"]) == ("maintenance", until)
    assert (left["until_midnight"], left["opens_on"]) == (True, "time")
    assert left["reason"] == f"The daily budget is spent; the gate opens at {until}"
    assert (lifted["reason"], lifted["stays_closed"]) == (left["reason"], None)
    assert (await gate())["paused_until"] is None


async def test_a_budget_that_was_spent_yesterday_keeps_no_gate_closed(connection, ask, claim, record, gate):
    await record(await claim(), budget=1)
    await ask("pause", "maintenance", None)
    await connection.execute("UPDATE reactor.intake SET budget_day = budget_day - 1")

    (resumed,) = await ask("resume", "channel")

    assert (resumed["stays_closed"], (await gate())["paused_until"]) == (None, None)


async def test_a_resume_says_that_the_budget_keeps_it_closed(database, ask, claim, record, reactor):
    await record(await claim(), budget=1)
    await ask("pause", "maintenance", None)
    _, once, _ = await to_thread.run_sync(reactor, "resume")
    await ask("pause", "maintenance", None)
    async with served(database, worker_batch_size=1, daily_budget=1) as (client, _):
        api = (await client.post("/api/resume", json={})).json()
        await ask("pause", "maintenance", None)
        page = (await client.post("/resume", follow_redirects=True)).text
        last = (await client.post("/api/resume", json={})).json()

    until = api["stays_closed_until"]
    assert once == (
        f"no longer paused: maintenance; but the daily budget is spent, so the gate stays closed until {until};"
        " `reactor resume` again lifts it\n"
    )
    assert not api["resumed"]
    assert "the daily budget is spent, so the gate stays closed until midnight UTC" in page
    assert last == {"resumed": True, "stays_closed_until": None}


async def test_a_larger_budget_opens_what_a_smaller_one_closed_and_closes_it_itself(ask, claim, record, gate):
    first, second = await claim(2)
    await record([first], budget=1)
    reason = (await gate())["reason"]
    (raised,) = await ask("raise_budget", 2, "channel")
    opened = await gate()
    await record([second], budget=2)

    assert (raised["opened"], raised["reason"], raised["bought"]) == (True, reason, 1)
    assert (opened["paused_until"], opened["opens_on"], opened["budget_closed"]) == (None, None, False)
    assert ((await gate())["until_midnight"], (await gate())["budget_bought"]) == (True, 2)


@pytest.mark.parametrize(
    ("budget", "then"),
    [
        (1, "SELECT"),
        (0, "SELECT"),
        (2, "UPDATE reactor.intake SET budget_day = budget_day - 1"),
        (2, "UPDATE reactor.intake SET paused_until = NULL, opens_on = NULL"),
    ],
    ids=["as large", "none", "of yesterday", "lifted by resume"],
)
async def test_no_other_budget_changes_anything(connection, ask, claim, record, gate, budget, then):
    await record(await claim(), budget=1)
    await connection.execute(then)
    before = await gate()

    assert await ask("raise_budget", budget, "channel") == []
    assert await gate() == before


async def test_a_larger_budget_leaves_an_operators_pause_whose_resume_then_opens_the_gate(ask, claim, record, gate):
    await record(await claim(), budget=1)
    await ask("pause", "maintenance", None)
    before = await gate()
    (raised,) = await ask("raise_budget", 2, "channel")
    after = await gate()
    (resumed,) = await ask("resume", "channel")

    assert not raised["opened"]
    assert [after[name] for name in ("paused_until", "opens_on", "reason")] == [
        before["paused_until"], "time", "maintenance",
    ]  # fmt: skip
    assert (resumed["stays_closed"], (await gate())["paused_until"]) == (None, None)


async def test_a_larger_budget_opens_the_gate_though_an_operator_paused_it_for_a_moment(ask, claim, record, gate):
    await record(await claim(), budget=1)
    before = await gate()
    (paused,) = await ask("pause", "maintenance", 10.0)
    unchanged = await gate() == before
    (raised,) = await ask("raise_budget", 2, "channel")

    assert (paused["reason"], unchanged) == (before["reason"], True)
    assert paused["stays_closed"] == f"{before['paused_until']:%Y-%m-%d} 00:00 UTC"
    assert (raised["opened"], (await gate())["paused_until"]) == (True, None)


async def test_a_larger_budget_leaves_a_refused_api_token(ask, claim, record, gate):
    await record(await claim(), budget=1)
    await ask("resume", "channel")
    await ask("refuse_gate", "mark", "401", 600.0)

    assert await ask("raise_budget", 2, "channel") == []
    assert ((await gate())["opens_on"], (await gate())["reason"]) == ("check", "401")


async def test_with_a_larger_budget_a_gate_that_waits_for_an_image_tries_one_token(
    ask, claim, make_token, failing, gate
):
    (raised,) = await ask("raise_budget", 2, "channel")
    waiting = await gate()
    await make_token()
    claimed = await claim(2)

    assert (raised["opened"], waiting["opens_on"], waiting["reason"]) == (False, "image", "broken")
    assert len(claimed) == 1
    assert len(await ask("open_gate", "image", None, "channel")) == 1


async def test_a_pause_by_hand_does_not_shorten_it(ask, claim, record, gate):
    await record(await claim(), budget=1)

    await ask("pause", "for good", None)
    await ask("pause", "for a moment", 10.0)
    shortened = await gate()
    await ask("resume", "channel")
    (paused,) = await ask("pause", "for a moment", 10.0)

    assert (shortened["until_midnight"], shortened["opens_on"]) == (True, "time")
    assert shortened["reason"].startswith("The daily budget is spent; the gate opens at ")
    assert (paused["reason"], paused["stays_closed"]) == ("for a moment", None)
    assert not (await gate())["until_midnight"]


async def test_a_short_pause_says_that_the_budget_keeps_it_closed_anyway(database, ask, claim, record, reactor):
    await record(await claim(), budget=1)
    _, said, _ = await to_thread.run_sync(reactor, "pause", "--for", "10s")
    async with served(database, worker_batch_size=1, daily_budget=1) as (client, _):
        api = (await client.post("/api/pause", json={"for": "10s", "reason": "maintenance"})).json()
        page = (await client.post("/pause", data={"for": "10s"}, follow_redirects=True)).text

    assert re.fullmatch(r"the gate stays closed until \S+ 00:00 UTC anyway, because the daily budget is spent\n", said)
    assert (api["paused"], api["reason"].startswith("The daily budget of 1 creates is spent")) == (True, True)
    assert "The gate stays closed until midnight UTC anyway, because the daily budget is spent." in page


async def test_a_new_day_counts_from_nothing(connection, claim, record, gate):
    await connection.execute(
        f"UPDATE reactor.intake SET budget_day = {TODAY} - 1, budget_bought = 9, budget_closed = true"
    )

    await record(await claim(), budget=5)

    now = await gate()
    assert (now["budget_bought"], now["is_today"], now["budget_closed"], now["paused_until"]) == (1, True, False, None)


async def test_a_clock_that_was_set_back_begins_no_new_day(connection, claim, record, gate):
    await connection.execute(f"UPDATE reactor.intake SET budget_day = {TODAY} + 1, budget_bought = 4")
    first, second = await claim(2)
    await record([first], budget=6)
    counted_on = await gate()
    await record([second], budget=6)

    now = await gate()
    assert (counted_on["budget_bought"], counted_on["paused_until"]) == (5, None)
    assert (now["budget_bought"], now["budget_closed"]) == (6, True)
    ends_at = await connection.fetchval(f"SELECT ({TODAY} + 2)::timestamp AT TIME ZONE 'UTC'")
    assert now["paused_until"] == ends_at


async def test_two_workers_that_record_at_once_both_count(connection, connect, claim, record, gate, until_blocked):
    first, second = await claim(2)
    one, other = await connect(), await connect()
    transaction = one.transaction()
    await transaction.start()
    await record([first], budget=2, on=one)

    async with anyio.create_task_group() as group:

        async def second_one():
            await record([second], budget=2, on=other)

        group.start_soon(second_one)
        await until_blocked(other)
        await transaction.commit()

    assert ((await gate())["budget_bought"], (await gate())["until_midnight"]) == (2, True)


# By workers.

NOBODY_WORKS = "SELECT count(*) = 0 FROM tokens_s0 WHERE status = 'generating'"
CLOSED = "SELECT paused_until > now() AND opens_on = 'time' FROM reactor.intake"


async def test_a_fleet_exceeds_it_by_no_more_than_what_is_in_flight(database, connection, make_token, ask):
    budget, slots, tokens = 30, 40, 120
    for _ in range(tokens):
        await make_token()
    providers = [DirectedProvider() for _ in range(4)]
    async with AsyncExitStack() as fleet:
        logs = []
        for provider in providers:
            worker = running(
                database, provider, idle=False, timings=LOOKING, daily_budget=budget, rate_limit_per_minute=0
            )
            logs.append((await fleet.enter_async_context(worker))[1])
        await until(lambda: connection.fetchval(f"SELECT ({NOBODY_WORKS}) AND ({CLOSED})"))
        for log in logs:
            assert "daily budget of 30" in (await log.wait("intake.paused"))["reason"]
        creates = sum(len(provider.asked("create")) for provider in providers)
        counted = await connection.fetchval("SELECT budget_bought FROM reactor.intake")
        await ask("resume", "public_tokens_s0_wake")
        await until(lambda: connection.fetchval("SELECT count(*) = 120 FROM tokens_s0 WHERE status = 'uploading'"))

    assert budget <= creates <= budget + slots
    assert counted == creates
    assert sum(len(provider.asked("create")) for provider in providers) == tokens
    assert await connection.fetchval("SELECT budget_bought FROM reactor.intake") == tokens


async def test_a_create_that_is_accepted_after_its_worker_has_lost_the_token_counts(database, connection, make_token):
    provider, creating = DirectedProvider(), Barrier()
    provider.script["create"] = [creating]
    async with running(database, provider, daily_budget=9) as (_, log):
        await make_token()
        await creating.entered()
        await connection.execute(f"UPDATE tokens_s0 SET generation_epoch = 9, generation_worker = 9, {BOUGHT_ANEW}")
        creating.open()
        await log.wait("token.lease_lost")
        await until(lambda: connection.fetchval("SELECT outcome = 'lost' FROM reactor.attempts"))

    assert await connection.fetchval("SELECT budget_bought FROM reactor.intake") == 1


@pytest.mark.parametrize("counted", [1, 0], ids=["recorded by the worker", "named by the claim"])
async def test_a_purchase_that_was_recorded_does_not_count_again_when_its_token_is_removed(
    database, connection, make_token, counted
):
    provider, generating = DirectedProvider(), Barrier()
    provider.script["wait"] = [generating]
    if not counted:
        now = await connection.fetchval("SELECT now()")
        bought = {"generation_prediction_id": "bought-before", "generation_seed": 5, "generation_seeded_at": now}
        await make_token(status="detected", generation_due_at=now, **bought)
    async with running(database, provider, idle=False, daily_budget=9) as (_, log):
        if counted:
            await make_token()
        await generating.entered()
        await until(lambda: connection.fetchval("SELECT generation_prediction_id IS NOT NULL FROM tokens_s0"))
        await connection.execute("DELETE FROM tokens_s0")
        generating.open()
        await log.wait("token.lease_lost")
        await until(lambda: connection.fetchval("SELECT outcome = 'lost' FROM reactor.attempts"))

    assert await connection.fetchval("SELECT budget_bought FROM reactor.intake") == counted


async def test_a_worker_that_starts_with_a_larger_budget_opens_the_gate_and_says_so_once(
    database, connection, make_token
):
    provider = DirectedProvider()
    for _ in range(3):
        await make_token()
    async with running(database, provider, idle=False, timings=LOOKING, daily_budget=1, worker_batch_size=1) as (
        _,
        log,
    ):
        reason = (await log.wait("intake.paused"))["reason"]
    async with running(database, provider, idle=False, daily_budget=9) as (_, log):
        await log.wait("token.generation.succeeded", times=2)

    (said,) = log.of("intake.resumed")
    assert (said["reason"], said["daily_budget"], said["bought_today"]) == (reason, 9, 1)
    assert log.of("intake.paused") == []
    assert await connection.fetchval("SELECT budget_bought FROM reactor.intake") == 3


CLOSE = (
    f"UPDATE reactor.intake SET budget_day = {TODAY}, budget_bought = budget_bought + 1, budget_closed = true,"
    f" paused_until = {MIDNIGHT}, opens_on = 'time', reason = 'The daily budget of 1 creates is spent'"
)


async def test_a_larger_budget_opens_the_gate_at_the_start_of_its_worker_and_not_later(database, connection, two_looks):
    async with running(database, DirectedProvider(), daily_budget=99, timings=LOOKING) as (_, log):
        await two_looks()
        await connection.execute(CLOSE)
        await log.wait("intake.paused")
        await two_looks()
        closed = await connection.fetchval(CLOSED)

    assert closed
    assert log.of("intake.resumed") == []


async def test_a_create_that_a_killed_worker_never_recorded_counts_when_it_is_found(
    database, connection, make_token, claim
):
    """And resuming costs nothing: of two purchases of a dead worker, one was recorded and counted before."""
    provider = DirectedProvider()
    unrecorded, recorded = await claim(2)
    for row in (unrecorded, recorded):
        provider.buy("a lighthouse", row["seed"])
    await connection.execute(
        "UPDATE tokens_s0 SET generation_prediction_id = 'prediction2' WHERE id = $1", recorded["id"]
    )
    await connection.execute("UPDATE tokens_s0 SET generation_lease_ends_at = now() - interval '1 s'")
    async with running(database, provider, idle=False, timings=LOOKING, daily_budget=1) as (_, log):
        await until(lambda: connection.fetchval("SELECT count(*) = 2 FROM tokens_s0 WHERE status = 'uploading'"), 30)
        await log.wait("intake.paused")

    assert provider.asked("create") == []
    assert await connection.fetchval("SELECT budget_bought FROM reactor.intake") == 1
    assert await connection.fetchval(CLOSED)


async def test_a_fallback_prompt_is_not_bought_once_it_is_spent(database, connection, make_token, ask):
    provider = DirectedProvider()
    provider.script["wait"] = [ContentPolicyError("NSFW")]
    async with running(database, provider, daily_budget=1) as (_, log):
        await make_token()
        released = await log.wait("token.generation.released")
        bought = len(provider.asked("create"))
        await ask("resume", "public_tokens_s0_wake")
        await log.wait("token.generation.succeeded")

    assert (released["error_message"], bought) == ("The daily budget is spent", 1)
    assert [prompt for prompt, _ in provider.asked("create")] == ["a lighthouse in a storm", "a calm sea"]
    assert (await connection.fetchval("SELECT generation_attempts FROM tokens_s0")) == 1


async def test_the_gate_opens_by_itself_when_the_day_is_over(database, connection, make_token):
    provider = DirectedProvider()
    await connection.execute(f"UPDATE reactor.intake SET budget_day = {TODAY}, budget_bought = 1")
    async with running(database, provider, daily_budget=2, timings=LOOKING) as (_, log):
        await make_token()
        await log.wait("token.generation.succeeded")
        await log.wait("intake.paused")
        await connection.execute(  # before the mint: the worker that is woken reads when the gate opens, and that once
            "UPDATE reactor.intake SET budget_day = budget_day - 1, paused_until = clock_timestamp() + interval '0.3 s'"
        )
        await make_token()
        await log.wait("token.generation.succeeded", times=2)
        await log.wait("intake.resumed")

    assert len(provider.asked("create")) == 2


@pytest.mark.parametrize(("bought", "day", "remaining"), [(3, 0, 2.0), (9, 0, 0.0), (3, -1, 5.0), (3, 1, 2.0)])
async def test_what_remains_of_it_is_a_gauge(database, connection, monkeypatch, bought, day, remaining):
    monkeypatch.setattr("reactor.engine.health.GAUGES_WITHIN", inf)  # a loaded machine may exceed it
    await connection.execute(f"UPDATE reactor.intake SET budget_day = {TODAY} + {day}, budget_bought = {bought}")
    session = Session(database, name="test")

    with_budget = await Health(session, "tokens_s0", slots=1, daily_budget=5).gauges()
    without = await Health(session, "tokens_s0", slots=1).gauges()
    await session.aclose()

    assert with_budget["reactor_budget_remaining"] == remaining
    assert without["reactor_budget_remaining"] is None


@pytest.fixture
async def counted(connection):
    """A budget that has counted 87 creates today, and a history that has one purchase."""
    await connection.execute(f"UPDATE reactor.intake SET budget_day = {TODAY}, budget_bought = 87")
    await connection.execute(
        "INSERT INTO reactor.attempts (tokens_table, key, epoch, outcome, prediction_id, images)"
        " VALUES ('public.tokens_s0', '1', 1, 'succeeded', 'p', 1)"
    )


async def test_status_the_page_and_the_api_show_the_budgets_own_count(database, counted, reactor, monkeypatch):
    async with served(database, daily_budget=100) as (client, _):
        page, api = (await client.get("/")).text, (await client.get("/api/status")).json()
    monkeypatch.setenv("DAILY_BUDGET", "100")
    plain = (await to_thread.run_sync(reactor, "status"))[1]
    told = orjson.loads((await to_thread.run_sync(reactor, "status", "--json"))[1])

    words = "87 of 100 creates accepted today, those under way included"
    assert f"budget        {words}\n" in plain
    assert f"<dt>Budget</dt><dd>{words}</dd>" in page
    assert 'aria-label="87 % of the day\'s budget"' in page
    assert told["budget"] == api["budget"] == {"counted": 87, "limit": 100}
    assert told["today"]["bought"] == api["today"]["bought"] == 1
    assert re.search(r"^today +1 bought", plain, re.MULTILINE)


async def test_the_budget_is_shown_where_no_history_is_kept(database, counted):
    async with served(database, daily_budget=100, history_days=0) as (client, _):
        page = (await client.get("/")).text

    assert "Unknown: no history is kept." in page
    assert "87 of 100 creates accepted today" in page


async def test_status_elsewhere_does_not_know_the_limit(counted, reactor):
    plain = (await to_thread.run_sync(reactor, "status"))[1]
    told = orjson.loads((await to_thread.run_sync(reactor, "status", "--json"))[1])

    assert "87 creates accepted today, those under way included; DAILY_BUDGET is not set here" in plain
    assert told["budget"] == {"counted": 87, "limit": None}


async def test_without_a_budget_status_says_nothing_of_it(database, reactor):
    async with served(database) as (client, _):
        page = (await client.get("/")).text

    assert "<dt>Budget</dt><dd>none set</dd>" in page
    assert "budget" not in (await to_thread.run_sync(reactor, "status"))[1]
