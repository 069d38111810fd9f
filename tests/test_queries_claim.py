from collections import Counter

import anyio
import orjson
import pytest

pytestmark = pytest.mark.anyio

WORKER = 7
UNLIMITED = 0.0


@pytest.fixture
def claim(ask):
    async def claim(slots=100, *, worker=WORKER, lease=60.0, create_interval=UNLIMITED, **on):
        return await ask("claim", create_interval, slots, worker, lease, **on)

    return claim


@pytest.fixture
def seconds(connection):
    """The database's time, `seconds` from now."""

    async def at(offset):
        return await connection.fetchval("SELECT clock_timestamp() + make_interval(secs => $1)", float(offset))

    return at


@pytest.fixture
def set_gate(connection):
    async def set_gate(assignments):
        await connection.execute(f"UPDATE reactor.intake SET {assignments}")

    return set_gate


def ids(rows):
    return [row["token_id"] for row in rows]


@pytest.mark.parametrize("indexes", ["on", "off"])
async def test_due_retries_come_first_then_fresh_tokens_by_mint(connection, claim, make_token, seconds, indexes):
    await connection.execute(f"SET enable_indexscan = {indexes}; SET enable_bitmapscan = {indexes}")
    young, old = [await make_token(mint_timestamp=await seconds(offset)) for offset in (-10, -20)]
    later, sooner = [await make_token(generation_due_at=await seconds(offset)) for offset in (-1, -2)]

    claimed = [ids(await claim(1)) for _ in range(5)]

    assert claimed == [[sooner], [later], [old], [young], []]


async def test_a_claim_takes_what_fits_the_slots_and_answers_in_mint_order(claim, make_token, seconds):
    retry = await make_token(mint_timestamp=await seconds(-5), generation_due_at=await seconds(-1))
    fresh = [await make_token(mint_timestamp=await seconds(offset)) for offset in (-9, -7, -3)]

    assert ids(await claim(3)) == [fresh[0], fresh[1], retry]
    assert ids(await claim(3)) == [fresh[2]]


@pytest.mark.parametrize("status", ["generating", "uploading", "ready", "revealed", "failed"])
async def test_only_detected_tokens_are_claimed(claim, make_token, status):
    await make_token(status=status, image_url="https://x")

    assert await claim() == []


async def test_a_retry_is_not_claimed_before_it_is_due(claim, make_token, seconds):
    await make_token(generation_due_at=await seconds(60))

    assert await claim() == []


async def test_a_claim_sets_epoch_worker_lease_and_seed(connection, claim, make_token, token_row):
    token_id = await make_token(prompt="a red kite")

    (row,) = await claim(lease=60.0)

    stored = await token_row(token_id)
    lease = await connection.fetchval("SELECT $1 - now()", stored["generation_lease_ends_at"])
    assert (stored["status"], stored["generation_epoch"], stored["generation_worker"]) == ("generating", 1, WORKER)
    assert 58 < lease.total_seconds() <= 60
    assert 0 <= stored["generation_seed"] == row["seed"] < 2**31
    assert stored["generation_seeded_at"] == row["seeded_at"]
    assert stored["generation_due_at"] is None
    assert (row["id"], row["epoch"], row["prompt"]) == (stored["id"], 1, "a red kite")
    assert (row["attempts"], row["censored"], row["prediction_id"]) == (0, False, None)
    assert (row["seed_was_set"], row["probe"]) == (False, None)


async def test_seeds_differ(claim, make_token):
    for _ in range(50):
        await make_token()

    assert len({row["seed"] for row in await claim()}) == 50


USED = {
    "generation_attempts": 2,
    "generation_rescues": 4,
    "generation_censored": True,
    "generation_error": "boom",
    "generation_prediction_id": "bought",
    "generation_seed": 5,
    "generation_epoch": 8,
}


async def test_a_token_without_a_due_time_begins_from_nothing(claim, make_token, token_row, seconds):
    token_id = await make_token(**USED, generation_seeded_at=await seconds(-60))

    (row,) = await claim()

    stored = await token_row(token_id)
    assert (stored["generation_attempts"], stored["generation_rescues"]) == (0, 0)
    assert (stored["generation_censored"], stored["generation_error"]) == (False, None)
    assert stored["generation_prediction_id"] is row["prediction_id"] is None
    assert row["seed"] != 5
    assert (row["epoch"], row["seed_was_set"], row["attempts"], row["censored"]) == (9, False, 0, False)


async def test_a_retry_goes_on_with_what_it_has(claim, make_token, token_row, seconds):
    seeded_at = await seconds(-60)
    token_id = await make_token(**USED, generation_seeded_at=seeded_at, generation_due_at=await seconds(-1))

    (row,) = await claim()

    stored = await token_row(token_id)
    assert {name: stored[name] for name in USED} == {**USED, "generation_epoch": 9}
    assert (row["attempts"], row["censored"], row["prediction_id"]) == (2, True, "bought")
    assert (row["seed"], row["seeded_at"], row["seed_was_set"]) == (5, seeded_at, True)


async def test_a_retry_whose_purchase_was_over_gets_a_new_seed(claim, make_token, seconds):
    await make_token(generation_attempts=1, generation_due_at=await seconds(-1))

    (row,) = await claim()

    assert (row["seed_was_set"], row["attempts"]) == (False, 1)


async def test_a_token_without_author_or_prompt_is_claimed_all_the_same(claim, make_token):
    await make_token(author=False)
    await make_token(prompt=None)

    assert [row["prompt"] for row in await claim()] == [None, None]


@pytest.mark.parametrize("type_", ["json", "jsonb", "varchar(40)", "char(40)"])
async def test_a_prompt_of_any_type_is_read_as_text(connection, table, make_token, type_):
    await connection.execute(f"ALTER TABLE authors ALTER prompt_text TYPE {type_} USING prompt_text::{type_}")
    token = await make_token(prompt='{"a": "red kite"}')

    (shown,) = await connection.fetch(table.query("show"), str(token))
    (claimed,) = await connection.fetch(table.query("claim"), UNLIMITED, 1, WORKER, 60.0)

    assert (claimed["prompt"], shown["prompt_characters"]) == ('{"a": "red kite"}', 17)


async def test_age_is_told_at_the_first_claim_only(claim, make_token, seconds):
    await make_token(created_at=await seconds(-30))
    await make_token(created_at=await seconds(-30), generation_epoch=1)

    ages = {row["epoch"]: row["age"] for row in await claim()}

    assert ages == {1: pytest.approx(30, abs=2), 2: None}


@pytest.mark.parametrize("due", [None, -1])
async def test_locked_tokens_are_skipped_not_waited_for(connection, claim, make_token, connect, seconds, due):
    due = await seconds(due) if due else None
    locked, free = [await make_token(generation_due_at=due) for _ in range(2)]
    other = await connect()

    async with connection.transaction():
        await connection.execute("SELECT FROM tokens_s0 WHERE token_id = $1 FOR UPDATE", locked)
        claimed = await claim(on=other)

    assert ids(claimed) == [free]
    assert ids(await claim()) == [locked]


async def test_a_token_whose_child_is_being_inserted_is_claimed(connection, claim, make_token, connect):
    await connection.execute("CREATE TABLE children (token uuid REFERENCES tokens_s0 (id))")
    token_id = await make_token()
    other = await connect()

    async with connection.transaction():
        await connection.execute("INSERT INTO children SELECT id FROM tokens_s0")
        claimed = await claim(on=other)

    assert ids(claimed) == [token_id]


@pytest.mark.parametrize("create_interval", [UNLIMITED, 0.001])
async def test_eight_that_claim_at_once_get_each_token_once(connection, claim, connect, create_interval):
    await connection.execute("INSERT INTO tokens_s0 (author_id) SELECT NULL FROM generate_series(1, 500)")
    claimed = Counter()

    async def work(worker):
        client = await connect()
        while claimed.total() < 500:
            rows = await claim(10, worker=worker, create_interval=create_interval, on=client)
            claimed.update(ids(rows))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for worker in range(1, 9):
                group.start_soon(work, worker)

    assert (len(claimed), claimed.total()) == (500, 500)
    assert await connection.fetchval("SELECT max(generation_epoch) FROM tokens_s0") == 1


# The gate.


@pytest.mark.parametrize("until", ["now() + interval '1 minute'", "'infinity'"])
async def test_nobody_claims_while_the_gate_is_closed(connection, claim, make_token, set_gate, until):
    await make_token()
    await set_gate(f"paused_until = {until}, pause_seconds = 5")
    before = await connection.fetchrow("SELECT * FROM reactor.intake")

    assert await claim() == []
    assert await connection.fetchrow("SELECT * FROM reactor.intake") == before


HALF_OPEN = "paused_until = clock_timestamp() - interval '1 second', pause_seconds = 5"


@pytest.mark.parametrize("create_interval", [UNLIMITED, 0.1])
async def test_half_open_one_token_passes_and_the_gate_moves_on(
    connection, claim, make_token, set_gate, create_interval
):
    first, _ = await make_token(), await make_token()
    await set_gate(HALF_OPEN)

    rows = await claim(create_interval=create_interval)

    closed_for = await connection.fetchval("SELECT paused_until - now() FROM reactor.intake")
    assert [(row["token_id"], row["probe"]) for row in rows] == [(first, "create")]
    assert closed_for.total_seconds() == pytest.approx(5, abs=1)
    assert await claim(create_interval=create_interval) == []


async def test_half_open_a_fresh_token_goes_before_a_retry_and_retries_by_their_time(
    connection, claim, make_token, set_gate
):
    ago = await connection.fetchrow("SELECT now() - interval '2 s' AS longer, now() - interval '1 s' AS shorter")
    failed_last = await make_token(generation_due_at=ago["shorter"])
    failed_before = await make_token(generation_due_at=ago["longer"])
    fresh = await make_token()
    claimed = []
    for _ in range(3):
        await set_gate(HALF_OPEN)
        claimed += ids(await claim())

    assert claimed == [fresh, failed_before, failed_last]


@pytest.mark.parametrize("opens_on", ["image", "check"])
async def test_half_open_the_probe_says_what_opens_the_gate(claim, make_token, set_gate, opens_on):
    await make_token()
    await set_gate(f"{HALF_OPEN}, opens_on = '{opens_on}'")

    assert [row["probe"] for row in await claim()] == [opens_on]


async def test_an_operators_pause_whose_time_is_over_lets_all_through_and_is_open(
    connection, claim, ask, make_token, set_gate
):
    for _ in range(3):
        await make_token()
    await ask("pause", "by hand", 60.0)
    while_it_lasts = await claim()
    await set_gate("paused_until = clock_timestamp()")
    told = (await ask("gate_state"))[0]["paused"]

    rows = await claim()

    assert (while_it_lasts, told, len(rows), {row["probe"] for row in rows}) == ([], False, 3, {None})
    assert await connection.fetchval("SELECT paused_until FROM reactor.intake") is None


async def test_half_open_without_tokens_stays_half_open(connection, claim, set_gate):
    await set_gate(HALF_OPEN)
    before = await connection.fetchrow("SELECT * FROM reactor.intake")

    assert await claim() == []
    assert await connection.fetchrow("SELECT * FROM reactor.intake") == before


@pytest.fixture
def claim_at_once(connection, claim, connect, until_blocked):
    """Let several claims start from the same snapshot of the gate, which changes meanwhile."""

    async def claim_at_once(claimers, slots, *, create_interval, meanwhile=None):
        clients, answers = [await connect() for _ in range(claimers)], []

        async def work(client):
            answers.append(await claim(slots, create_interval=create_interval, on=client))

        async with anyio.create_task_group() as group, connection.transaction():
            await connection.execute("SELECT FROM reactor.intake FOR UPDATE")
            for client in clients:
                group.start_soon(work, client)
                await until_blocked(client)
            if meanwhile:
                await connection.execute(f"UPDATE reactor.intake SET {meanwhile}")
        return answers

    return claim_at_once


@pytest.mark.parametrize("create_interval", [UNLIMITED, 0.1])
async def test_of_many_that_claim_half_open_exactly_one_gets_a_token(
    make_token, set_gate, claim_at_once, create_interval
):
    for _ in range(20):
        await make_token()
    await set_gate(HALF_OPEN)

    answers = await claim_at_once(6, 3, create_interval=create_interval)

    assert sorted(map(len, answers)) == [0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(("create_interval", "burst"), [(1.0, 10), (0.5, 20), (0.1, 100), (60.0, 1), (15.0, 1)])
async def test_a_rate_limit_lets_ten_seconds_worth_through_at_once(connection, claim, create_interval, burst):
    await connection.execute("INSERT INTO tokens_s0 (author_id) SELECT NULL FROM generate_series(1, 200)")

    first, second = await claim(150, create_interval=create_interval), await claim(1, create_interval=create_interval)

    assert burst <= len(first) <= burst + (create_interval < 0.2)
    assert second == [] or create_interval < 0.2


SLOW = 30  # seconds that a statement may take
LIMITED = "limit_interval = 60, limited_until = clock_timestamp() + interval '10 minutes'"


@pytest.mark.parametrize("create_interval", [UNLIMITED, 0.1])
async def test_a_lower_limit_of_the_account_is_kept_whatever_ours_is(
    connection, claim, make_token, set_gate, create_interval
):
    for _ in range(3):
        await make_token()
    await set_gate(LIMITED)

    first, second = await claim(create_interval=create_interval), await claim(create_interval=create_interval)

    booked = await connection.fetchval("SELECT extract(epoch FROM arrival_at - clock_timestamp()) FROM reactor.intake")
    assert (len(first), second) == (1, [])
    assert 60 - SLOW < booked <= 61.2  # the limit and a margin, because requests do not arrive evenly


async def test_a_lower_limit_than_the_accounts_is_ours_and_ends(connection, claim, make_token, set_gate):
    for _ in range(9):
        await make_token()
    await set_gate(LIMITED.replace("60", "0.001"))
    ours = await claim(create_interval=60.0)
    await set_gate("arrival_at = NULL, limit_interval = 60, limited_until = clock_timestamp()")
    after_it = await claim(create_interval=UNLIMITED)

    assert (len(ours), len(after_it)) == (1, 8)


@pytest.mark.parametrize(("booked", "room"), [("-3600", 10), ("0", 10), ("5.5", 4), ("8.9", 1), ("9.5", 0), ("99", 0)])
async def test_a_rate_limit_refills_with_time(connection, claim, set_gate, booked, room):
    await connection.execute("INSERT INTO tokens_s0 (author_id) SELECT NULL FROM generate_series(1, 20)")
    await set_gate(f"arrival_at = clock_timestamp() + interval '{booked} seconds'")

    assert len(await claim(create_interval=1.0)) == room


async def test_many_that_claim_at_once_share_the_rate_limit(connection, claim_at_once):
    await connection.execute("INSERT INTO tokens_s0 (author_id) SELECT NULL FROM generate_series(1, 100)")

    answers = await claim_at_once(6, 4, create_interval=1.0)

    assert sum(map(len, answers)) == 10
    assert sorted(map(len, answers)) == [0, 0, 0, 2, 4, 4]


async def test_a_gate_that_closes_while_a_claim_waits_lets_nothing_through(make_token, token_row, claim_at_once):
    token_ids = [await make_token() for _ in range(2)]
    untouched = [await token_row(token_id) for token_id in token_ids]

    answers = await claim_at_once(2, 1, create_interval=1.0, meanwhile="paused_until = now() + interval '1 minute'")

    assert answers == [[], []]
    assert [await token_row(token_id) for token_id in token_ids] == untouched


async def test_a_gate_that_turns_half_open_while_claims_wait_lets_one_through(make_token, claim_at_once):
    for _ in range(6):
        await make_token()

    answers = await claim_at_once(2, 3, create_interval=1.0, meanwhile=HALF_OPEN)

    assert sorted(map(len, answers)) == [0, 1]
    assert [row["probe"] for rows in answers for row in rows] == ["create"]


async def test_a_gate_that_opens_while_a_probe_waits_lets_it_through(connection, make_token, set_gate, claim_at_once):
    await make_token()
    await set_gate(HALF_OPEN)

    answers = await claim_at_once(1, 3, create_interval=UNLIMITED, meanwhile="paused_until = NULL")

    assert [(len(rows), rows[0]["probe"]) for rows in answers] == [(1, None)]
    assert await connection.fetchval("SELECT paused_until FROM reactor.intake") is None


async def test_a_lower_limit_that_comes_while_a_claim_waits_counts(make_token, claim_at_once):
    for _ in range(3):
        await make_token()

    answers = await claim_at_once(1, 3, create_interval=0.1, meanwhile=LIMITED)

    assert list(map(len, answers)) == [1]


async def test_where_the_limit_admits_fewer_than_were_found_retries_come_first(claim, make_token, set_gate, seconds):
    await make_token(mint_timestamp=await seconds(-60))
    retry = await make_token(generation_due_at=await seconds(-1))
    await set_gate("arrival_at = clock_timestamp() + interval '8.5 seconds'")

    assert ids(await claim(create_interval=1.0)) == [retry]


@pytest.mark.parametrize(
    ("tokens", "gate", "create_interval", "claimed"),
    [
        (0, "paused_until = NULL", 1.0, 0),
        (1, "paused_until = now() + interval '1 minute'", 1.0, 0),
        (1, "arrival_at = now() + interval '1 minute'", 1.0, 0),
        (1, "paused_until = NULL", UNLIMITED, 1),
    ],
    ids=["nothing found", "closed", "spent", "no limit"],
)
async def test_the_gates_row_is_locked_only_where_there_is_something_to_book(
    connection, claim, make_token, set_gate, connect, tokens, gate, create_interval, claimed
):
    for _ in range(tokens):
        await make_token()
    await set_gate(gate)
    other = await connect()

    with anyio.fail_after(5):
        async with connection.transaction():
            await connection.execute("SELECT FROM reactor.intake FOR UPDATE")
            rows = await claim(create_interval=create_interval, on=other)

    assert len(rows) == claimed


# When to look next.


@pytest.fixture
def next_due(ask):
    async def next_due(create_interval=UNLIMITED):
        rows = await ask("next_due", create_interval)
        return rows[0]["due_in"] if rows else None

    return next_due


async def test_nothing_is_due_where_nothing_waits(next_due, make_token):
    await make_token(status="generating")
    await make_token(status="failed")

    assert await next_due() is None


async def test_a_fresh_token_is_due_now(next_due, make_token, seconds):
    await make_token(generation_due_at=await seconds(60))
    await make_token()

    assert await next_due() == 0


@pytest.mark.parametrize(("offsets", "due_in"), [((20, 40), 20), ((-5, 40), 0)])
async def test_the_earliest_retry_decides(next_due, make_token, seconds, offsets, due_in):
    for offset in offsets:
        await make_token(generation_due_at=await seconds(offset))

    assert await next_due() == pytest.approx(due_in, abs=1)


@pytest.mark.parametrize(
    ("gate", "due_in"),
    [
        ("paused_until = clock_timestamp() + interval '30 seconds'", 30),
        ("paused_until = 'infinity'", None),
        (HALF_OPEN, 0),
        ("arrival_at = clock_timestamp() + interval '9.5 seconds'", 0.5),
        ("arrival_at = clock_timestamp() + interval '30 seconds'", 21),
        ("arrival_at = clock_timestamp() + interval '5 seconds'", 0),
        ("arrival_at = clock_timestamp() - interval '1 hour'", 0),
    ],
)
async def test_a_closed_gate_or_a_spent_rate_limit_puts_it_off(next_due, make_token, set_gate, seconds, gate, due_in):
    await make_token()
    began = await seconds(0)
    await set_gate(gate)

    found = await next_due(create_interval=1.0)

    spent = (await seconds(0) - began).total_seconds()
    assert found == due_in or max(0, due_in - spent) <= found < due_in


async def test_the_next_is_due_when_a_lower_limit_lets_it_through(claim, next_due, make_token, set_gate):
    await make_token()
    await make_token()
    await set_gate(LIMITED)
    await claim()

    assert 60 - SLOW < await next_due() <= 61.2


@pytest.mark.parametrize("create_interval", [0.5, 1.0, 60.0])
async def test_after_a_claim_that_spent_the_rate_limit_the_next_is_due_an_interval_later(
    connection, claim, next_due, seconds, create_interval
):
    await connection.execute("INSERT INTO tokens_s0 (author_id) SELECT NULL FROM generate_series(1, 100)")
    began = await seconds(0)

    await claim(create_interval=create_interval)
    found = await next_due(create_interval)

    spent = (await seconds(0) - began).total_seconds()
    assert max(0, create_interval - spent) <= found <= create_interval


async def test_what_a_limit_that_ended_has_booked_puts_off_claims_and_looks_alike(
    claim, next_due, make_token, set_gate
):
    await make_token()
    await set_gate("arrival_at = clock_timestamp() + interval '3 minutes'")

    assert await claim() == []
    assert 170 - SLOW < await next_due() <= 170


# Restricted claims, and looks that return the tokens a claim would take.


@pytest.fixture
def restricted(connection, table):
    """Run a restricted claim or look; return the token ids."""

    async def restricted(name, *arguments, **restriction):
        given = (UNLIMITED, 100, WORKER, 60.0) if name == "claim" else (100,)
        return ids(await connection.fetch(table.query(name, **restriction), *given, *arguments))

    return restricted


@pytest.fixture
async def queue(make_token, seconds, token_row):
    """Three fresh tokens minted at one moment and three retries due at one moment, each list in the order of ids."""
    minted, due = await seconds(-20), await seconds(-10)
    rows = [
        await token_row(await make_token(mint_timestamp=minted, generation_due_at=when))
        for when in (None, None, None, due, due, due)
    ]
    return [sorted(some, key=lambda row: row["id"]) for some in (rows[:3], rows[3:])]


@pytest.mark.parametrize("name", ["claim", "look"])
async def test_fresh_tokens_and_retries_go_on_each_behind_a_place_of_their_own(restricted, queue, name):
    fresh, retries = queue

    found = await restricted(name, fresh[1]["id"], retries[0]["id"], after=("fresh", "retries"))

    assert sorted(found) == sorted([fresh[2]["token_id"], *ids(retries[1:])])


@pytest.mark.parametrize("name", ["claim", "look"])
@pytest.mark.parametrize("kind", [0, 1], ids=["fresh", "retries"])
async def test_where_one_kind_goes_on_the_other_is_taken_from_its_front(restricted, queue, name, kind):
    going_on, other = queue[kind], queue[1 - kind]

    found = await restricted(name, going_on[0]["id"], after=("fresh", "retries")[kind : kind + 1])

    assert sorted(found) == sorted([*ids(going_on[1:]), *ids(other)])


async def test_of_chosen_tokens_a_claim_takes_those_that_it_could_take_anyway(restricted, queue, make_token, seconds):
    fresh, retries = queue
    later = await make_token(generation_due_at=await seconds(60))
    chosen = [fresh[1]["id"], retries[2]["id"]]

    assert sorted(await restricted("claim", chosen, among=True)) == sorted(ids([fresh[1], retries[2]]))
    assert await restricted("claim", chosen, among=True) == []
    assert later not in await restricted("look")


async def test_a_look_tells_the_order_of_a_claim_and_which_are_fresh(ask, queue):
    fresh, retries = queue

    rows = await ask("look", 4)

    assert ids(rows) == [*ids(retries), fresh[0]["token_id"]]
    assert [row["fresh"] for row in rows] == [False, False, False, True]


async def test_where_nothing_is_due_a_look_finds_nothing(ask):
    assert await ask("look", 10) == []


LOOK_FROM_THE_FRONT = """
    EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)
    SELECT id FROM tokens_s0
    WHERE status = 'detected' AND generation_due_at IS NULL AND generation_epoch < 9223372036854775807
    ORDER BY mint_timestamp, id LIMIT 1
"""


async def worked_off(connection, ask):
    """Mint tokens, and take them to ready; return the blocks that a look from the front of the empty queue reads."""
    await connection.execute("INSERT INTO tokens_s0 (author_id) SELECT NULL FROM generate_series(1, 400)")
    await ask("claim", 0.0, 400, 7, 60.0)
    await connection.execute("UPDATE tokens_s0 SET status = 'ready' WHERE status = 'generating'")
    await connection.execute("VACUUM tokens_s0")
    plan = orjson.loads(await connection.fetchval(LOOK_FROM_THE_FRONT))[0]["Plan"]
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


async def test_a_vacuum_cleans_the_indexes_though_few_of_many_rows_are_dead(connection, ask):
    await connection.execute("SET session_replication_role = replica")
    await connection.execute("INSERT INTO tokens_s0 (status) SELECT 'ready' FROM generate_series(1, 100000)")

    blocks = [await worked_off(connection, ask) for _ in range(3)]

    assert max(blocks) <= 5
