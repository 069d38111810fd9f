"""How far back and how fast the listing is searched for a purchase."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from doubles import DirectedProvider, running
from test_transport import asked, failing
from wire import Wire, http, quick_tls  # noqa: F401  (a fixture)

from reactor.errors import RateLimitedError
from reactor.providers import Prediction
from reactor.providers.limits import Limits
from reactor.providers.read_budget import ReadBudget
from reactor.providers.replicate import KEPT

pytestmark = pytest.mark.anyio

AGES_AGO = datetime.now(tz=UTC) - timedelta(days=330)


def page(number, ago, **found):
    """A page of the listing with one prediction that was created `ago`, and a next page."""
    created_at = (datetime.now(tz=UTC) - ago).isoformat()
    entry = {"id": f"p{number}", "status": "starting", "created_at": created_at, "input": {"seed": number}, **found}
    return http({"results": [entry], "next": f"?cursor={number}"})


async def test_a_look_back_ends_where_the_provider_keeps_no_seeds():
    wire = Wire(*(page(number, timedelta(minutes=30 * number)) for number in range(1, 100)))

    found = await asked(wire, lambda provider: provider.find(1000, AGES_AGO))

    assert found is None
    assert len(wire.requests) == KEPT / timedelta(minutes=30)


async def test_a_purchase_is_found_however_old_its_seed_is():
    wire = Wire(page(1, timedelta(minutes=5)), page(2, timedelta(minutes=55)))

    assert await asked(wire, lambda provider: provider.find(2, AGES_AGO)) == Prediction("p2")


async def test_a_young_seed_is_looked_for_no_further_back_than_it_is_old():
    wire = Wire(*(page(number, timedelta(minutes=5 * number)) for number in range(1, 100)))

    assert await asked(wire, lambda provider: provider.find(0, datetime.now(tz=UTC) - timedelta(minutes=12))) is None
    assert len(wire.requests) == 3


async def test_pages_are_read_no_faster_than_reads_are_to_spare():
    limits = Limits(reads_per_second=100.0, reads_at_once=0.0, most_pages=11)
    wire = Wire(*(page(number, timedelta(0)) for number in range(11)))

    began = time.monotonic()
    await asked(wire, lambda provider: failing(provider.find(1000, AGES_AGO)), limits=limits)

    assert len(wire.requests) == 11
    assert time.monotonic() - began >= 10 / 100.0


async def test_attempts_share_the_reads_to_spare(monkeypatch):
    async def two(provider):
        await provider.hiding("one").find(7, AGES_AGO)
        return provider.hiding("another")._history.reads._booked_until - time.monotonic()

    wire = Wire(*(page(number, timedelta(0)) for number in range(10)))

    assert await asked(wire, two, limits=Limits(reads_per_second=1.0)) > 0.0  # eight reads are booked for 8 s
    assert len(wire.requests) == 8


async def test_a_page_that_is_refused_for_its_rate_stops_all_reads_for_a_while():
    async def refused(provider):
        error = await failing(provider.find(1, AGES_AGO))
        return error, provider._history.reads.paused_until - time.monotonic()

    error, shut = await asked(Wire(http({"detail": "resets in ~3s"}, 429)), refused)

    assert (type(error), error.retry_after) == (RateLimitedError, 3.0)
    assert 0.0 < shut <= 3.0


def test_a_read_that_can_wait_comes_after_a_refusal_and_in_turn():
    spare = ReadBudget()
    spare.refused(100.0, 3.0)

    moments = [spare.book_next(101.0) for _ in range(3)]

    assert moments == sorted(moments)
    assert all(moment > 103.0 for moment in moments)
    assert len(set(moments)) == 3


async def test_a_seed_older_than_the_provider_keeps_is_searched_once_and_logged(
    database, make_token, connection, token_row
):
    provider = DirectedProvider()
    provider.finds_since = datetime.now(tz=UTC) - KEPT
    token_id = await make_token(
        generation_seed=5, generation_seeded_at=AGES_AGO, generation_due_at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    async with running(database, provider) as (_, log):
        told = await log.wait("token.create_ambiguous", token_id=token_id)
        await log.wait("token.generation.succeeded", token_id=token_id)

    assert told["error_message"].endswith("longer ago than the provider keeps")
    assert [name for name, _ in provider.calls] == ["find", "create", "wait"]
    assert (await token_row(token_id))["generation_attempts"] == 0


async def test_a_seed_that_the_provider_still_keeps_logs_nothing(database, make_token, connection):
    provider = DirectedProvider()
    provider.finds_since = AGES_AGO
    seeded_at = datetime.now(tz=UTC) - timedelta(hours=1)
    await make_token(generation_seed=5, generation_seeded_at=seeded_at, generation_due_at=seeded_at)
    async with running(database, provider) as (_, log):
        await log.wait("token.generation.succeeded")

    assert log.of("token.create_ambiguous") == []
