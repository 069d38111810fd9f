"""How a rescuer goes through the held tokens, pass by pass."""

import asyncio
import time
from types import SimpleNamespace
from uuid import UUID

import anyio
import pytest
from doubles import Log, refuse
from stores import store_of

from reactor.backoff import jittered
from reactor.database.store import Store
from reactor.engine.leases import MOST_LEFT_ALONE, Leases
from reactor.engine.rescuer import HELD_AT_ONCE, MOST_TRIED, Rescuer
from reactor.engine.timings import TIMINGS, Timings
from reactor.telemetry import Telemetry

pytestmark = pytest.mark.anyio

US = 7
SELDOM = Timings(rescue_every=3600.0)  # no pass is due by itself: a rest that is shorter has another reason


@pytest.fixture
def slots():
    return Leases(None, None, None, slots=2, lease=60.0, timings=TIMINGS)


@pytest.fixture
def looked():
    """Set once the rescuer knows what a look has found."""
    return anyio.Event()


@pytest.fixture
async def rescues(database, slots, looked):
    """A rescuer, and the tokens that it took over."""
    started = []

    def start(claim):
        slots.hold(claim)
        started.append(claim)

    class Looking(Store):
        async def abandoned(self, *arguments, **named):
            found = await super().abandoned(*arguments, **named)
            looked.set()
            return found

    async with store_of(database, Looking) as store:
        store.availability = SimpleNamespace(steady_for=1e9)
        given = {
            "room": lambda: slots.free,
            "worker": lambda: US,
            "start": start,
            "claiming": asyncio.Lock(),
            "lease": 60.0,
        }
        yield Rescuer(store, slots, Telemetry(Log()), **given, timings=SELDOM), started


@pytest.fixture
def begin(rescues):
    """The key behind which the rescuer's first look begins, as a number."""
    looks, _ = rescues
    return looks._after.int


@pytest.fixture
def hold(connection, begin):
    """Insert held tokens whose keys follow each other from where the rescuer begins."""

    async def hold(numbers, *, worker=US, lease="now() + interval '1 hour'"):
        keys = [UUID(int=begin + number) for number in numbers]
        await connection.execute(
            "INSERT INTO tokens_s0 (id, status, generation_worker, generation_epoch, generation_lease_ends_at)"
            f" SELECT id, 'generating', $2, 1, {lease} FROM unnest($1::uuid[]) AS given (id)",
            keys,
            worker,
        )

    return hold


async def test_a_pass_that_saw_all_and_was_refused_is_followed_by_a_rest(connection, rescues, hold):
    await hold(range(1, 4))
    await refuse(connection, "true")
    looks, started = rescues

    assert not await looks._pass()
    assert (looks._next_in, started) == (SELDOM.rescue_every, [])


async def test_a_pass_that_left_some_goes_on_behind_them_after_a_little_rest(connection, rescues, hold, begin):
    last = 2 * MOST_TRIED + 1
    await hold(range(1, last + 1))
    await refuse(connection, f"NEW.id < '{UUID(int=begin + last)}'")
    looks, started = rescues

    assert [(await looks._pass(), looks._next_in < SELDOM.rescue_every) for _ in range(2)] == [(False, True)] * 2
    assert await looks._pass()
    assert [claim.id.int - begin for claim in started] == [last]


async def test_held_tokens_beyond_one_look_are_looked_at_by_the_next(rescues, hold, begin):
    last = 2 * HELD_AT_ONCE + 1
    await hold(range(1, last), worker=8)
    await hold([last])
    looks, started = rescues

    assert [(await looks._pass(), looks._next_in < SELDOM.rescue_every) for _ in range(2)] == [(False, True)] * 2
    assert await looks._pass()
    assert [claim.id.int - begin for claim in started] == [last]


async def test_no_more_is_taken_over_than_there_are_slots(rescues, hold):
    await hold(range(1, 8))
    looks, started = rescues

    assert await looks._pass()
    assert len(started) == 2


async def test_a_look_does_not_use_the_connection_of_the_claims(rescues, connection):
    looks, _ = rescues

    await looks._pass()

    roles = await connection.fetch("SELECT application_name FROM pg_stat_activity WHERE datname = current_database()")
    assert "claims" not in {row["application_name"] for row in roles}


async def test_a_token_whose_claim_was_on_its_way_during_the_look_is_not_taken_over(
    rescues, hold, begin, slots, looked, connection
):
    await hold([1])
    looks, started = rescues
    async with anyio.create_task_group() as group, looks._claiming:
        group.start_soon(looks._pass)
        with anyio.fail_after(5):
            await looked.wait()
        slots.hold(SimpleNamespace(id=UUID(int=begin + 1), asked_at=0.0))

    assert started == []
    assert await connection.fetchval("SELECT generation_epoch FROM tokens_s0") == 1


def test_tokens_that_are_left_alone_are_a_bounded_number(slots):
    for number in range(MOST_LEFT_ALONE + 15):
        slots.leave_alone(UUID(int=number))

    assert slots.known == {UUID(int=number) for number in range(15, MOST_LEFT_ALONE + 15)}


def test_a_token_that_is_left_again_is_left_twice_as_long(slots):
    token, now, waits = UUID(int=1), time.monotonic(), []
    for _ in range(6):
        slots.leave_alone(token)
        waits.append(slots._left_alone[token][0] - now)

    assert waits == pytest.approx([60.0, 120.0, 240.0, 480.0, 600.0, 600.0], abs=5)


def test_a_token_runs_again_8_s_after_its_worker_died_at_most():
    overdue = TIMINGS.renewal(60.0) + 2  # seconds after the last renewal; see abandoned.sql

    assert overdue + jittered_at_most(TIMINGS.rescue_every) <= 8.0


def jittered_at_most(seconds):
    return max(jittered(seconds) for _ in range(1000))
