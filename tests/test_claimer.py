import pytest

from reactor import claimer
from reactor.claimer import Claimer
from reactor.database import Session
from reactor.redaction import Redactor
from reactor.store import Store, discover
from reactor.telemetry import Telemetry

pytestmark = pytest.mark.anyio

WORKER = 7


@pytest.fixture
async def store(database):
    sessions = {role: Session(database, name=role) for role in ("claims", "writes", "renewals", "rest")}
    table = await discover(sessions["rest"], "tokens_s0")
    yield Store(table, Redactor([]), **sessions, lease=60.0, create_interval=0.0)
    for session in sessions.values():
        await session.aclose()


@pytest.fixture
def claim(store):
    """Claim as a worker does; return the tokens, and whether there may be more."""
    one = Claimer(store, Telemetry())

    async def claim(slots):
        claims = await one.claim(slots, WORKER)
        return [claimed.token_id for claimed in claims], one.more

    return claim


@pytest.fixture
def mint(connection, make_token):
    """Mint a token so many seconds ago, or at a place in mint order."""

    async def mint(ago, **columns):
        place = ago if isinstance(ago, str) else f"now() - interval '{ago} s'"
        token_id = await make_token(**columns)
        await connection.execute(f"UPDATE tokens_s0 SET mint_timestamp = {place} WHERE token_id = $1", token_id)
        return token_id

    return mint


@pytest.fixture
def goes_on(monkeypatch):
    """For as long as a test takes."""
    monkeypatch.setattr(claimer, "ONWARD_FOR", 1e9)
    monkeypatch.setattr(claimer, "LONGEST_ONWARD", 1e9)


@pytest.mark.usefixtures("goes_on")
async def test_after_a_full_claim_the_next_goes_on_and_what_came_in_behind_it_is_found_at_the_end(claim, mint):
    first, second, third, fourth = [await mint(ago) for ago in (40, 30, 20, 10)]
    assert await claim(1) == ([first], True)
    behind = await mint(50)

    claims = [await claim(2) for _ in range(4)]

    assert claims == [([second, third], True), ([fourth], True), ([behind], False), ([], False)]


async def test_what_came_in_behind_is_waited_for_no_longer_than_a_backlog_takes_twenty_claims(claim, mint, monkeypatch):
    monkeypatch.setattr(claimer, "ONWARD_FOR", 0.0)
    first, second = [await mint(ago) for ago in (40, 30)]
    assert await claim(1) == ([first], True)
    behind = await mint(50)

    assert await claim(2) == ([behind, second], True)


@pytest.mark.usefixtures("goes_on")
async def test_how_far_a_claim_got_is_told_by_its_fresh_tokens_alone(claim, mint, connection):
    first, second, retry = [await mint(ago) for ago in (40, 30, 20)]
    await connection.execute("UPDATE tokens_s0 SET generation_due_at = now() WHERE token_id = $1", retry)

    claims = [await claim(slots) for slots in (2, 1, 1, 1)]

    assert claims == [([first, retry], True), ([second], True), ([], True), ([], False)]


@pytest.mark.usefixtures("goes_on")
@pytest.mark.parametrize("place", ["'-infinity'", "'4000-01-01 BC'", "'20000-01-01'", "'infinity'"])
async def test_a_place_in_mint_order_may_be_any_that_the_table_holds(claim, mint, place):
    tokens = {await mint(place) for _ in range(3)}

    claims = [await claim(1) for _ in range(5)]

    assert {token_id for claimed, _ in claims for token_id in claimed} == tokens
    assert [more for _, more in claims] == [True, True, True, True, False]


@pytest.mark.usefixtures("goes_on")
async def test_a_token_that_was_deleted_is_no_place_to_go_on_from(claim, mint, connection):
    first, second = [await mint(ago) for ago in (40, 30)]
    assert await claim(1) == ([first], True)
    await connection.execute("DELETE FROM tokens_s0 WHERE token_id = $1", first)

    assert [await claim(1) for _ in range(2)] == [([], True), ([second], True)]


@pytest.mark.usefixtures("goes_on")
async def test_a_token_without_a_place_is_the_last(claim, mint, connection):
    await connection.execute("ALTER TABLE tokens_s0 ALTER mint_timestamp DROP NOT NULL")
    first, without = await mint(40), await mint("NULL")
    await connection.execute("UPDATE tokens_s0 SET mint_timestamp = NULL WHERE token_id = $1", without)

    claims = [await claim(1) for _ in range(5)]

    assert claims == [([first], True), ([], True), ([without], True), ([], True), ([], False)]
