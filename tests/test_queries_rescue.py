from uuid import UUID, uuid4

import anyio
import pytest
from strangers import stranger

pytestmark = pytest.mark.anyio

DEAD, US = 2**62 + 12345, 2**63 - 1
LEASE, RENEWED_EVERY = 60.0, 3.0
STARTED = "pg_postmaster_start_time()"


@pytest.fixture
def abandoned(connection, table):
    """Look for abandoned tokens, as if the server had run for `server_up`."""

    async def abandoned(slots=100, *, known=(), own=(US, -US), uptime=0.0, server_up="1 hour", on=connection, **walk):
        text = table.query("abandoned")
        assert text.count(STARTED) == 1
        text = text.replace(STARTED, f"(clock_timestamp() - interval '{server_up}')")
        after, held = walk.get("after", uuid4()), walk.get("held", 1000)
        rows = await on.fetch(text, slots, LEASE, RENEWED_EVERY, list(known), list(own), uptime, after, held)
        assert len(rows) >= 1
        return rows if walk else [row for row in rows if row["id"]]

    return abandoned


@pytest.fixture
def take(ask):
    """Take over the tokens that a look returned."""

    async def take(seen, *, most=5, **on):
        names = ("id", "epoch", "lease_ends_at", "owner")
        return await ask("rescue", *([row[name] for row in seen] for name in names), US, LEASE, most, **on)

    return take


@pytest.fixture
def rescue(abandoned, take):
    """Look for abandoned tokens, and take them over."""

    async def rescue(slots=100, *, most=5, **how):
        return await take(await abandoned(slots, **how), most=most)

    return rescue


@pytest.fixture
def make_held(connection, make_token):
    """Make a token in `generating` whose lease ends `lease` seconds from now."""

    async def make_held(lease=-1.0, *, worker=DEAD, **columns):
        ends = await connection.fetchval("SELECT clock_timestamp() + make_interval(secs => $1)", lease)
        values = {
            "status": "generating",
            "generation_worker": worker,
            "generation_lease_ends_at": ends,
            "generation_epoch": 3,
            **columns,
        }
        return await make_token(**values)

    return make_held


def owners(rows):
    return [row["owner"] for row in rows]


@pytest.fixture
def alive(connect):
    """Hold a worker's liveness lock."""

    async def alive(worker):
        client = await connect()
        await client.fetchval("SELECT pg_try_advisory_lock($1)", worker)
        return client

    return alive


OVERDUE = LEASE - RENEWED_EVERY - 2  # seconds of a lease that remain once its renewal is 2 s overdue


async def test_a_token_whose_lease_is_over_is_taken_over_in_place(connection, rescue, make_held, token_row):
    token_id = await make_held(
        -1.0, generation_attempts=2, generation_seed=5, generation_prediction_id="bought", generation_censored=True
    )

    (row,) = await rescue()

    stored = await token_row(token_id)
    lease = await connection.fetchval("SELECT $1 - now()", stored["generation_lease_ends_at"])
    assert (row["owner"], row["failed"]) == ("dead", False)
    assert (stored["status"], stored["generation_epoch"], stored["generation_worker"]) == ("generating", 4, US)
    assert 58 < lease.total_seconds() <= 60
    assert stored["generation_rescues"] == 1
    assert (row["id"], row["epoch"], row["attempts"], row["seed"]) == (stored["id"], 4, 2, 5)
    assert (row["prediction_id"], row["censored"], row["prompt"]) == ("bought", True, "a lighthouse in a storm")


async def test_a_seed_that_was_set_is_told_as_such(connection, rescue, make_held):
    seeded_at = await connection.fetchval("SELECT now() - interval '1 minute'")
    await make_held(generation_seed=5, generation_seeded_at=seeded_at)

    (row,) = await rescue()

    assert (row["seed"], row["seeded_at"], row["seed_was_set"]) == (5, seeded_at, True)


async def test_a_token_without_a_seed_gets_one(rescue, make_held):
    await make_held()

    (row,) = await rescue()

    assert 0 <= row["seed"] < 2**31
    assert row["seed_was_set"] is False


@pytest.mark.parametrize("lease", [1.0, OVERDUE - 1])
async def test_an_overdue_renewal_and_a_free_lock_are_enough(rescue, make_held, lease):
    await make_held(lease)

    assert owners(await rescue()) == ["dead"]


async def test_a_free_lock_alone_is_not_enough(rescue, make_held):
    await make_held(OVERDUE + 1)

    assert await rescue() == []


@pytest.mark.parametrize("worker", [DEAD, 1, 2**32 + 1, 2**63 - 2])
async def test_an_overdue_renewal_alone_is_not_enough(rescue, make_held, alive, worker):
    await make_held(1.0, worker=worker)
    holder = await alive(worker)

    while_it_lives = await rescue()
    await holder.fetchval("SELECT pg_advisory_unlock($1)", worker)

    assert while_it_lives == []
    assert owners(await rescue()) == ["dead"]


@pytest.mark.parametrize("lock", ["pg_advisory_lock", "pg_advisory_lock_shared"])
async def test_a_dead_workers_lock_that_a_stranger_holds_is_no_life(database, rescue, make_held, connect_to, lock):
    await make_held(1.0)
    async with stranger(database) as url:
        await (await connect_to(url)).execute(f"SELECT {lock}({DEAD})")
        taken = await rescue()

    assert owners(taken) == ["dead"]


async def test_a_lock_that_is_waited_for_or_shared_is_no_life(rescue, make_held, alive, connect, until_blocked):
    await make_held(1.0)
    holder, waiter = await connect(), await connect()
    await holder.execute(f"SELECT pg_advisory_lock_shared({DEAD})")
    async with anyio.create_task_group() as group:
        group.start_soon(waiter.execute, f"SELECT pg_advisory_lock({DEAD})")
        await until_blocked(waiter)
        taken = await rescue()
        await holder.execute("SELECT pg_advisory_unlock_all()")

    assert owners(taken) == ["dead"]


async def test_a_worker_that_may_write_what_workers_write_lives(database, rescue, make_held, connect_to):
    await make_held(1.0)
    async with stranger(database, "GRANT UPDATE (generation_epoch) ON tokens_s0 TO {role}") as url:
        await (await connect_to(url)).execute(f"SELECT pg_advisory_lock({DEAD})")
        taken = await rescue()

    assert taken == []


async def test_the_lease_decides_over_the_lock(rescue, make_held, alive):
    await make_held(-1.0)
    await alive(DEAD)

    assert owners(await rescue()) == ["dead"]


async def test_a_lock_in_another_database_saves_nobody(rescue, make_held, connect_to, server_url):
    await make_held(1.0)
    elsewhere = await connect_to(server_url)
    await elsewhere.fetchval("SELECT pg_advisory_lock($1)", DEAD)

    assert owners(await rescue()) == ["dead"]


@pytest.mark.parametrize(("lease", "taken"), [(1.0, []), (-1.0, ["dead"])])
async def test_a_worker_without_a_lock_is_judged_by_the_lease_alone(rescue, make_held, lease, taken):
    await make_held(lease, worker=-DEAD)

    assert owners(await rescue()) == taken


@pytest.mark.parametrize(("server_up", "taken"), [("9 seconds", []), ("11 seconds", ["dead", "dead"])])
async def test_after_a_restart_nobody_is_rescued_for_ten_seconds(rescue, make_held, server_up, taken):
    await make_held(-1.0)
    await make_held(1.0)

    assert owners(await rescue(server_up=server_up)) == taken


async def test_the_restart_is_the_servers_own(connection, table):
    assert STARTED in table.query("abandoned")
    assert await connection.fetchval(f"SELECT {STARTED} <= now()")


@pytest.mark.parametrize("worker", [US, -US])
async def test_claims_whose_answer_never_came_are_taken_up_at_once(rescue, make_held, token_row, worker):
    token_id = await make_held(59.0, worker=worker)

    rows = await rescue(server_up="0 seconds")

    assert owners(rows) == ["own"]
    assert (await token_row(token_id))["generation_rescues"] == 0


async def test_what_a_worker_knows_that_it_holds_is_not_taken_from_itself(rescue, make_held, token_row):
    known, unknown = [await make_held(lease, worker=US) for lease in (59.0, 59.0)]

    rows = await rescue(known=[(await token_row(known))["id"]])

    assert [row["token_id"] for row in rows] == [unknown]


async def test_even_with_the_lease_over_a_worker_keeps_what_it_holds(rescue, make_held, token_row):
    known = await make_held(-1.0, worker=US)

    assert await rescue(known=[(await token_row(known))["id"]]) == []


@pytest.mark.parametrize(("uptime", "taken"), [(LEASE - 1, []), (LEASE, ["foreign"])])
async def test_what_another_program_left_is_taken_after_a_leases_time(rescue, make_token, token_row, uptime, taken):
    token_id = await make_token(status="generating")

    assert owners(await rescue(uptime=uptime)) == taken
    assert (await token_row(token_id))["generation_rescues"] == 0


@pytest.mark.parametrize("status", ["detected", "uploading", "failed", "ready"])
async def test_only_generating_tokens_are_rescued(rescue, make_held, status):
    await make_held(-1.0, status=status, image_url="https://x")

    assert await rescue(uptime=LEASE) == []


async def test_a_token_that_outlived_five_workers_fails_with_the_reason(rescue, make_held, token_row):
    token_id = await make_held(generation_rescues=5, generation_prediction_id="bought", generation_seed=5)
    spared = await make_held(generation_rescues=4)

    rows = {row["token_id"]: row for row in await rescue()}

    row = await token_row(token_id)
    assert (rows[token_id]["failed"], rows[token_id]["error"]) == (True, "worker died 5 times")
    assert (row["status"], row["generation_error"]) == ("failed", "worker died 5 times")
    assert row["generation_worker"] is row["generation_lease_ends_at"] is row["generation_due_at"] is None
    assert (row["generation_epoch"], row["generation_rescues"]) == (4, 5)
    assert (row["generation_prediction_id"], row["generation_seed"]) == ("bought", 5)
    assert rows[spared]["failed"] is False
    assert (await token_row(spared))["generation_rescues"] == 5


async def test_a_lost_claim_of_ones_own_is_no_death(rescue, make_held):
    await make_held(59.0, worker=US, generation_rescues=5)

    (row,) = await rescue()

    assert (row["owner"], row["failed"]) == ("own", False)


async def test_no_more_than_the_slots_are_taken(rescue, make_held):
    for _ in range(5):
        await make_held()

    taken = [len(await rescue(2, own=())) for _ in range(4)]

    assert taken == [2, 2, 1, 0]


async def test_locked_tokens_are_skipped(connection, abandoned, take, make_held, connect):
    locked, free = await make_held(), await make_held()
    other = await connect()

    async with connection.transaction():
        await connection.execute("SELECT FROM tokens_s0 WHERE token_id = $1 FOR UPDATE", locked)
        rows = await take(await abandoned(), on=other)

    assert [row["token_id"] for row in rows] == [free]


@pytest.mark.parametrize(
    "change",
    [
        "generation_lease_ends_at = generation_lease_ends_at + interval '1 minute'",
        "generation_lease_ends_at = NULL",
        "generation_epoch = generation_epoch + 1",
        "status = 'uploading', image_url = 'https://x'",
    ],
)
async def test_a_holder_that_shows_itself_after_the_look_is_not_dead(
    connection, abandoned, take, make_held, token_row, change
):
    token_id = await make_held()
    seen = await abandoned()
    await connection.execute(f"UPDATE tokens_s0 SET {change}")
    before = await token_row(token_id)

    assert await take(seen) == []
    assert await token_row(token_id) == before


async def test_two_that_look_at_once_take_a_token_once(abandoned, take, make_held):
    await make_held()
    first, second = await abandoned(), await abandoned()

    taken = [len(await take(seen)) for seen in (first, second)]

    assert taken == [1, 0]


async def test_workers_that_look_at_once_do_not_all_go_for_the_same_tokens(abandoned, make_held):
    for _ in range(20):
        await make_held()

    looks = {frozenset(row["id"] for row in await abandoned(5)) for _ in range(8)}

    assert len(looks) > 1


async def test_a_look_goes_through_so_many_held_tokens_behind_a_key_and_on_from_the_front(abandoned, make_held):
    keys = [UUID(int=number) for number in range(1, 7)]
    for key in keys:
        await make_held(3600.0 if key.int % 2 else -1.0, id=key)  # only even keys are abandoned

    async def looked(**walk):
        rows = await abandoned(**walk)
        return [row["id"].int for row in rows if row["id"]], rows[0]["last"]

    assert await looked(after=keys[3], held=5) == ([6, 2], keys[2])
    assert await looked(after=keys[0], held=1) == ([2], keys[1])
    assert await looked(after=keys[1], held=1) == ([], keys[2])
    assert await looked(after=keys[3], held=7) == ([6, 2, 4], None)
    assert await looked(slots=1, after=keys[3], held=7) == ([6], None)


async def test_a_rescue_is_not_repeated(rescue, make_held):
    await make_held()

    first, second = await rescue(), await rescue(own=())

    assert (len(first), second) == (1, [])
