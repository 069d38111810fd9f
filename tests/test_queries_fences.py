import uuid

import pytest

pytestmark = pytest.mark.anyio

WORKER = 7


@pytest.fixture
def claim(ask, make_token):
    """Make tokens and claim them; return them in the order of their ids."""

    async def claim(count=1, **columns):
        for _ in range(count):
            await make_token(**columns)
        rows = await ask("claim", 0.0, count, WORKER, 60.0)
        return sorted(rows, key=lambda row: row["id"])

    return claim


def fences(claims):
    return [row["id"] for row in claims], [row["epoch"] for row in claims], [WORKER] * len(claims)


def uploading(url="https://x/1", *, prediction_id="p", attempts=0):
    return "uploading", url, None, prediction_id, attempts, None, False


def failed(error="broken", *, attempts=0):
    return "failed", None, error, None, attempts, None, False


def detected(due_in=2.0, *, error="boom", prediction_id=None, attempts=1, over=False):
    return "detected", None, error, prediction_id, attempts, due_in, over


@pytest.fixture
def settle(ask):
    async def settle(claims, *outcomes, **on):
        told = map(list, zip(*outcomes, strict=True))
        rows = await ask("settle", *fences(claims), *told, [row["seed"] for row in claims], **on)
        answers = {row["id"]: row["answer"] for row in rows}
        return [answers[row["id"]] for row in claims]

    return settle


@pytest.fixture
def all_tokens(connection):
    async def all_tokens():
        return await connection.fetch("SELECT * FROM tokens_s0 ORDER BY id")

    return all_tokens


# The fence: id, status, epoch and worker. A lost token's row stays as it is.

CALLS = {
    "renew": lambda fence, _: ("renew", *fence, 3600.0),
    "record": lambda fence, seed: ("record", *fence, ["another"], [seed]),
    "settle": lambda fence, seed: ("settle", *fence, *([value] for value in uploading("https://z")), [seed]),
    "censor": lambda fence, _: ("censor", *(value for (value,) in fence), 1, "rejected"),
}


def answer(name, rows):
    """A statement's answer about its only token: won, locked, lost or already."""
    if name == "settle":
        return rows[0]["answer"]
    if not rows:
        return "lost"
    taken = {"renew": "renewed", "record": "recorded", "censor": "seed"}[name]
    return "won" if rows[0][taken] not in {None, False} else "locked"


@pytest.mark.parametrize("name", CALLS)
async def test_a_holder_writes_its_own_row_and_no_other(ask, claim, all_tokens, name):
    mine, other = await claim(2)
    before = {row["id"]: row for row in await all_tokens()}

    rows = await ask(*CALLS[name](fences([mine]), mine["seed"]))

    after = {row["id"]: row for row in await all_tokens()}
    assert answer(name, rows) == "won"
    assert after[mine["id"]] != before[mine["id"]]
    assert after[other["id"]] == before[other["id"]]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "change",
    [
        "generation_epoch = generation_epoch + 1",
        "generation_epoch = generation_epoch - 1",
        "generation_worker = 8",
        "generation_worker = -generation_worker",
        "generation_worker = NULL",
        "status = 'detected'",
        "status = 'failed'",
        "id = gen_random_uuid()",
    ],
)
async def test_a_holder_that_lost_its_token_writes_nothing(connection, ask, claim, all_tokens, name, change):
    claims = await claim()
    await connection.execute(f"UPDATE tokens_s0 SET {change}")
    before = await all_tokens()

    rows = await ask(*CALLS[name](fences(claims), claims[0]["seed"]))

    assert answer(name, rows) == "lost"
    assert await all_tokens() == before


@pytest.mark.parametrize("name", CALLS)
async def test_a_token_that_is_gone_is_lost(ask, all_tokens, name):
    rows = await ask(*CALLS[name](([uuid.uuid4()], [1], [WORKER]), 5))

    assert answer(name, rows) == "lost"


@pytest.mark.parametrize("name", ["renew", "record", "settle"])
async def test_nothing_to_write_is_nothing_written(ask, name):
    empty = {"renew": ([], [], [], 1.0), "record": ([],) * 5, "settle": ([],) * 12}[name]

    assert await ask(name, *empty) == []


# Renew.


async def test_a_renewal_moves_the_leases_of_what_is_still_held(connection, ask, claim, token_row):
    claims = await claim(3)
    await connection.execute("UPDATE tokens_s0 SET generation_epoch = 9 WHERE id = $1", claims[1]["id"])

    held = await ask("renew", *fences(claims), 3600.0)

    assert {row["id"] for row in held} == {claims[0]["id"], claims[2]["id"]}
    renewed = await connection.fetchval("SELECT count(*) FROM tokens_s0 WHERE generation_lease_ends_at > now() + '50m'")
    assert renewed == 2


# Record.


async def test_each_prediction_is_recorded_with_its_token_and_again(connection, ask, claim):
    claims = await claim(3)
    bought = [f"prediction {row['token_id']}" for row in claims]

    seeds = [row["seed"] for row in claims]

    first = await ask("record", *fences(claims), bought, seeds)
    again = await ask("record", *fences(claims), bought, seeds)

    assert dict(first) == dict(again) == {row["id"]: True for row in claims}
    rows = await connection.fetch("SELECT token_id, generation_prediction_id FROM tokens_s0")
    assert all(row["generation_prediction_id"] == f"prediction {row['token_id']}" for row in rows)


# Censor.


async def test_turning_to_the_fallback_prompt_makes_a_new_intent_once(ask, claim, token_row):
    (held,) = await claim()
    await ask("record", *fences([held]), ["rejected"], [held["seed"]])
    call = ("censor", held["id"], held["epoch"], WORKER, 1, "NSFW")

    (first,) = await ask(*call)
    (again,) = await ask(*call)

    row = await token_row(held["token_id"])
    assert first == again
    assert first["seed"] == row["generation_seed"] != held["seed"]
    assert first["seeded_at"] == row["generation_seeded_at"] > held["seeded_at"]
    assert (row["generation_censored"], row["generation_attempts"], row["generation_error"]) == (True, 1, "NSFW")
    assert (row["status"], row["generation_prediction_id"]) == ("generating", None)


async def test_a_repeat_keeps_what_was_bought_with_the_fallback_prompt(ask, claim, token_row):
    (held,) = await claim()
    call = ("censor", held["id"], held["epoch"], WORKER, 1, "NSFW")
    (intent,) = await ask(*call)
    await ask("record", *fences([held]), ["censored"], [intent["seed"]])

    await ask(*call)

    assert (await token_row(held["token_id"]))["generation_prediction_id"] == "censored"


async def test_what_the_rejected_prompt_bought_is_not_recorded_over_the_new_intent(ask, claim, token_row):
    (held,) = await claim()
    await ask("censor", held["id"], held["epoch"], WORKER, 1, "NSFW")

    rows = await ask("record", *fences([held]), ["rejected"], [held["seed"]])

    assert answer("record", rows) == "lost"
    assert (await token_row(held["token_id"]))["generation_prediction_id"] is None


@pytest.mark.parametrize("over", [False, True])
async def test_a_release_that_does_not_know_of_the_fallback_leaves_its_intent_alone(
    ask, claim, settle, token_row, over
):
    (held,) = await claim()
    (intent,) = await ask("censor", held["id"], held["epoch"], WORKER, 1, "NSFW")
    release = detected(0.0, error=None, prediction_id="rejected", attempts=0, over=over)

    first, again = await settle([held], release), await settle([held], release)

    row = await token_row(held["token_id"])
    assert (first, again) == (["won"], ["already"])
    assert (row["status"], row["generation_censored"], row["generation_attempts"]) == ("detected", True, 1)
    assert (row["generation_seed"], row["generation_seeded_at"]) == tuple(intent)[:2]
    assert row["generation_prediction_id"] is None


# Settle.


async def test_success_leaves_the_image_and_where_it_came_from(claim, settle, token_row):
    (held,) = await claim()

    answers = await settle([held], uploading("https://x/1", prediction_id="p", attempts=2))

    row = await token_row(held["token_id"])
    assert answers == ["won"]
    assert (row["status"], row["image_url"], row["generation_error"]) == ("uploading", "https://x/1", None)
    assert (row["generation_attempts"], row["generation_prediction_id"]) == (2, "p")
    assert row["generation_due_at"] is row["generation_lease_ends_at"] is row["generation_worker"] is None
    assert (row["generation_seed"], row["generation_epoch"]) == (held["seed"], 1)


async def test_failure_leaves_its_reason_and_the_old_image(claim, settle, token_row):
    (held,) = await claim(image_url="https://old")

    answers = await settle([held], failed("broken", attempts=3))

    row = await token_row(held["token_id"])
    assert answers == ["won"]
    assert (row["status"], row["generation_error"], row["generation_attempts"]) == ("failed", "broken", 3)
    assert row["image_url"] == "https://old"
    assert row["generation_due_at"] is row["generation_lease_ends_at"] is row["generation_worker"] is None
    assert row["generation_seed"] == held["seed"]


async def test_a_retry_is_due_in_time_and_keeps_its_purchase(connection, ask, claim, settle, token_row):
    (held,) = await claim()
    await ask("record", *fences([held]), ["bought"], [held["seed"]])

    await settle([held], detected(30.0, error="boom", attempts=1))

    row = await token_row(held["token_id"])
    due_in = await connection.fetchval("SELECT $1 - now()", row["generation_due_at"])
    assert due_in.total_seconds() == pytest.approx(30, abs=1)
    assert (row["status"], row["generation_error"], row["generation_attempts"]) == ("detected", "boom", 1)
    assert (row["generation_seed"], row["generation_prediction_id"]) == (held["seed"], "bought")
    assert row["generation_lease_ends_at"] is row["generation_worker"] is None


async def test_a_retry_after_a_purchase_that_is_over_forgets_it(claim, settle, token_row):
    (held,) = await claim()

    await settle([held], detected(prediction_id="over", over=True))

    row = await token_row(held["token_id"])
    assert row["generation_seed"] is row["generation_seeded_at"] is row["generation_prediction_id"] is None


async def test_a_release_without_a_reason_keeps_the_last_error(connection, claim, settle, token_row):
    due = await connection.fetchval("SELECT now()")
    (held,) = await claim(generation_error="before", generation_due_at=due)

    await settle([held], detected(0.0, error=None, attempts=0))

    assert (await token_row(held["token_id"]))["generation_error"] == "before"


async def test_outcomes_of_a_batch_go_to_their_own_tokens(connection, claim, settle):
    claims = await claim(4)
    await connection.execute("UPDATE tokens_s0 SET generation_epoch = 9 WHERE id = $1", claims[3]["id"])

    answers = await settle(claims, uploading("https://x/a"), failed(), detected(), uploading("https://x/d"))

    rows = {row["id"]: row["status"] for row in await connection.fetch("SELECT id, status FROM tokens_s0")}
    assert answers == ["won", "won", "won", "lost"]
    assert [rows[row["id"]] for row in claims] == ["uploading", "failed", "detected", "generating"]


@pytest.mark.parametrize("outcome", [uploading(), failed(), detected(), detected(error=None), detected(over=True)])
async def test_a_repeat_is_told_as_such_and_changes_nothing(claim, settle, all_tokens, outcome):
    claims = await claim()
    await settle(claims, outcome)
    settled = await all_tokens()

    answers = await settle(claims, outcome)

    assert answers == ["already"]
    assert await all_tokens() == settled


async def test_a_repeat_is_told_as_such_after_the_next_stage_went_on(connection, claim, settle):
    claims = await claim()
    await settle(claims, uploading())
    await connection.execute("UPDATE tokens_s0 SET status = 'ready'")

    assert await settle(claims, uploading()) == ["already"]


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (uploading("https://x/1"), uploading("https://x/2")),
        (failed("one"), failed("two")),
        (failed(attempts=1), failed(attempts=2)),
        (failed(), uploading()),
    ],
)
async def test_another_outcome_for_a_settled_token_is_lost(claim, settle, first, then):
    claims = await claim()
    await settle(claims, first)

    assert await settle(claims, then) == ["lost"]


async def test_a_repeat_for_a_token_that_was_claimed_again_is_lost(ask, claim, settle):
    claims = await claim()
    await settle(claims, detected(0.0))
    await ask("claim", 0.0, 1, WORKER, 60.0)

    assert await settle(claims, detected(0.0)) == ["lost"]


async def test_a_repeat_for_a_token_that_another_worker_has_ended_since_is_lost(connection, ask, claim, settle):
    claims = await claim()
    await settle(claims, detected(0.0, attempts=0))
    (row,) = await ask("claim", 0.0, 1, 8, 60.0)
    await ask("settle", [row["id"]], [row["epoch"]], [8], *([value] for value in uploading()), [row["seed"]])

    assert await settle(claims, detected(0.0, attempts=0)) == ["lost"]


@pytest.mark.parametrize("status", ["detected", "failed"])
async def test_a_settle_after_an_operator_has_intervened_is_lost(connection, claim, settle, status):
    claims = await claim()
    await connection.execute("UPDATE tokens_s0 SET status = $1", status)

    assert await settle(claims, detected(0.0, attempts=0)) == ["lost"]


async def test_two_outcomes_of_one_token_are_each_held_against_their_own_claim(ask, claim, settle):
    (first,) = await claim()
    await settle([first], detected(0.0))
    (second,) = await ask("claim", 0.0, 1, WORKER, 60.0)
    told = map(list, zip(uploading("https://x/stale"), detected(), strict=True))

    rows = await ask("settle", *fences([first, second]), *told, [first["seed"], second["seed"]])

    assert {row["epoch"]: row["answer"] for row in rows} == {1: "lost", 2: "won"}


# A row that another session has locked is skipped and reported as locked. It holds up no other row.


@pytest.mark.parametrize("name", CALLS)
async def test_a_locked_row_is_told_as_such_and_not_written(connection, ask, claim, connect, all_tokens, name):
    (held,) = await claim()
    before, other = await all_tokens(), await connect()
    call = CALLS[name](fences([held]), held["seed"])

    async with connection.transaction():
        await connection.execute("SELECT FROM tokens_s0 FOR UPDATE")
        while_locked = await ask(*call, on=other)
    unchanged = await all_tokens() == before

    assert answer(name, while_locked) == "locked"
    assert unchanged
    assert answer(name, await ask(*call, on=other)) == "won"


@pytest.mark.parametrize("name", ["renew", "record", "settle"])
async def test_a_locked_row_holds_up_no_other_of_its_batch(connection, ask, claim, connect, name):
    claims, other = await claim(3), await connect()
    seeds = [row["seed"] for row in claims]
    rest = {
        "renew": [60.0],
        "record": [["p"] * 3, seeds],
        "settle": [*map(list, zip(*[uploading()] * 3, strict=True)), seeds],
    }[name]

    async with connection.transaction():
        await connection.execute("SELECT FROM tokens_s0 WHERE id = $1 FOR UPDATE", claims[1]["id"])
        rows = await ask(name, *fences(claims), *rest, on=other)

    told = {row["id"]: answer(name, [row]) for row in rows}
    assert [told[row["id"]] for row in claims] == ["won", "locked", "won"]


async def test_a_repeat_that_overtakes_a_settle_in_flight_waits_for_what_becomes_of_it(
    connection, claim, settle, connect
):
    claims, other = await claim(2), await connect()
    outcomes = uploading("https://x/1"), failed()

    async with connection.transaction():
        await settle(claims, *outcomes)
        meanwhile = await settle(claims, *outcomes, on=other)

    assert meanwhile == ["locked", "locked"]
    assert await settle(claims, *outcomes, on=other) == ["already", "already"]


async def test_a_token_that_was_lost_is_told_as_lost_even_where_it_is_locked(connection, ask, claim, connect):
    (held,) = await claim()
    other = await connect()
    await connection.execute("UPDATE tokens_s0 SET generation_epoch = 9")

    async with connection.transaction():
        await connection.execute("SELECT FROM tokens_s0 FOR UPDATE")
        told = [answer(name, await ask(*call(fences([held]), held["seed"]), on=other)) for name, call in CALLS.items()]

    assert told == ["lost"] * 4
