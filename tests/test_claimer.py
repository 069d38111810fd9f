import pytest
from stores import store_of

from reactor.database.store import Store
from reactor.engine.claim.claimer import Claimer
from reactor.engine.timings import TIMINGS
from reactor.telemetry import Telemetry
from reactor.tokens import FRONT

pytestmark = pytest.mark.anyio

WORKER = 7


class Clock:
    """A clock that only claims move, by the given seconds for each kind of claim."""

    def __init__(self):
        self._now = self.from_the_front = self.onward = 0.0

    def claims(self, after):
        self._now += self.onward if after.fresh else self.from_the_front

    def __call__(self):
        return self._now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def store(database, clock):
    class Timed(Store):
        async def claim(self, slots, worker, after=FRONT):
            clock.claims(after)
            return await super().claim(slots, worker, after)

    async with store_of(database, Timed) as store:
        yield store


@pytest.fixture
def claim(store, clock):
    """Claim as a worker does; return the token ids, and whether more may be due."""
    one = Claimer(store, Telemetry(), timings=TIMINGS, clock=clock)

    async def claim(slots):
        batch = await one.claim(slots, WORKER)
        return [claimed.token_id for claimed in batch.claims], batch.more

    return claim


@pytest.fixture
def mint(connection, make_token):
    """Mint a token; `ago` is its age in seconds, or an SQL expression of its mint timestamp."""

    async def mint(ago, **columns):
        place = ago if isinstance(ago, str) else f"now() - interval '{ago} s'"
        token_id = await make_token(**columns)
        await connection.execute(f"UPDATE tokens_s0 SET mint_timestamp = {place} WHERE token_id = $1", token_id)
        return token_id

    return mint


@pytest.fixture
def goes_on(clock):
    """For as long as a test takes."""
    clock.from_the_front, clock.onward = 1e-3, 1e-9


@pytest.fixture
def backlog(claim, mint):
    """Forty tokens, two of them claimed one by one: the next claim goes on."""

    async def backlog():
        for ago in range(99, 59, -1):
            await mint(ago)
        return [await claim(1) for _ in range(2)]

    return backlog


@pytest.mark.usefixtures("goes_on")
async def test_after_two_full_claims_the_next_goes_on_and_what_came_in_behind_it_is_found_at_the_end(claim, mint):
    tokens = [await mint(ago) for ago in range(90, 40, -10)]
    assert [await claim(1) for _ in range(2)] == [([token_id], True) for token_id in tokens[:2]]
    behind = await mint(99)

    claims = [await claim(2) for _ in range(4)]

    assert claims == [(tokens[2:4], True), (tokens[4:], True), ([behind], False), ([], False)]


@pytest.mark.usefixtures("goes_on")
async def test_a_full_claim_by_itself_is_no_backlog(claim, mint):
    first, _ = await mint(40), await mint(20)
    assert await claim(1) == ([first], True)
    behind = await mint(50)

    assert await claim(1) == ([behind], True)


async def test_going_on_ends_when_it_has_taken_twenty_times_what_it_saves(clock, claim, mint, backlog):
    clock.from_the_front = clock.onward = 0.01  # what going on takes is not known before
    claims, behind = await backlog(), await mint(200)
    claims += [await claim(1) for _ in range(21)]
    assert [tokens[0] for tokens, _ in claims].index(behind) == 2 + 20

    behind = await mint(300)

    assert await claim(1) == ([behind], True)


async def test_what_came_in_behind_is_found_within_a_second(clock, claim, mint, backlog):
    clock.from_the_front, clock.onward = 0.5, 0.25
    claims, behind = await backlog(), await mint(200)

    claims += [await claim(1) for _ in range(5)]

    assert [tokens[0] for tokens, _ in claims].index(behind) == 2 + 4


@pytest.mark.usefixtures("goes_on")
async def test_where_to_go_on_is_told_by_fresh_tokens_alone(claim, mint, connection):
    first, second, third, retry = [await mint(ago) for ago in (40, 30, 20, 10)]
    assert await claim(1) == ([first], True)
    await connection.execute("UPDATE tokens_s0 SET generation_due_at = now() WHERE token_id = $1", retry)

    claims = [await claim(slots) for slots in (2, 1, 1, 1)]

    assert claims == [([second, retry], True), ([third], True), ([], True), ([], False)]


@pytest.mark.usefixtures("goes_on")
@pytest.mark.parametrize("place", ["'-infinity'", "'4000-01-01 BC'", "now()", "'20000-01-01'", "'infinity'"])
async def test_a_place_in_mint_order_may_be_any_that_the_table_holds(claim, mint, place):
    tokens = {await mint(place) for _ in range(4)}

    claims = [await claim(1) for _ in range(6)]

    assert {token_id for claimed, _ in claims for token_id in claimed} == tokens
    assert [more for _, more in claims] == [True, True, True, True, True, False]


@pytest.mark.usefixtures("goes_on")
async def test_a_token_that_was_deleted_is_no_place_to_go_on_from(claim, mint, connection):
    first, second, third = [await mint(ago) for ago in (40, 30, 20)]
    assert [await claim(1) for _ in range(2)] == [([first], True), ([second], True)]
    await connection.execute("DELETE FROM tokens_s0 WHERE token_id = $1", second)

    assert [await claim(1) for _ in range(2)] == [([], True), ([third], True)]


@pytest.mark.usefixtures("goes_on")
async def test_tokens_without_a_place_are_the_last_and_none_to_go_on_from(claim, mint, connection):
    await connection.execute("ALTER TABLE tokens_s0 ALTER mint_timestamp DROP NOT NULL")
    placed = [await mint(ago) for ago in (40, 30)]
    without = {await mint("NULL") for _ in range(2)}

    claims = [await claim(1) for _ in range(6)]

    assert claims[:3] == [([placed[0]], True), ([placed[1]], True), ([], True)]
    assert {claimed[0] for claimed, _ in claims[3:5]} == without
    assert claims[5] == ([], False)
