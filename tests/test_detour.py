import time

import pytest
from doubles import DirectedProvider, Log, refuse, running
from stores import store_of
from strangers import stranger

from reactor.database.connections import ConnectionLostError
from reactor.database.store import Store
from reactor.engine.claim import detour
from reactor.engine.claim.claimer import Claimer
from reactor.engine.claim.detour import Detour
from reactor.engine.timings import TIMINGS, Timings
from reactor.telemetry import Telemetry
from reactor.tokens import FRONT

pytestmark = pytest.mark.anyio

WORKER = 7
HOSTILE = 3000
MINT = "INSERT INTO tokens_s0 (author_id) SELECT id FROM authors"


class Noting(Store):
    """Notes its statements by name, and the tokens that a detour tries to claim."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.asked, self.tried = [], []

    async def claim(self, *arguments):
        self.asked.append("claim")
        return await super().claim(*arguments)

    async def claim_among(self, tokens, worker):
        self.asked.append("claim_among")
        self.tried.extend(tokens)
        return await super().claim_among(tokens, worker)

    async def look(self, *arguments):
        self.asked.append("look")
        return await super().look(*arguments)


@pytest.fixture
async def store(database):
    async with store_of(database, Noting) as store:
        yield store


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def timings():
    return TIMINGS


@pytest.fixture
def rounds():
    return Detour


@pytest.fixture
def bounds():
    return {}


@pytest.fixture
def claimer(store, log, timings, rounds, bounds):
    detour = rounds(store, Telemetry(log), timings=timings, **bounds)
    return Claimer(store, Telemetry(log), timings=timings, detour=detour)


@pytest.fixture
def claimed(claimer):
    """Claim until no more tokens are due, as a worker does; return the token ids."""

    async def claimed(slots=10):
        batches = [await claimer.claim(slots, WORKER)]
        while batches[-1].more:
            batches.append(await claimer.claim(slots, WORKER))
        return {claim.token_id for batch in batches for claim in batch.claims}

    return claimed


class Seldom(Detour):
    """Begins no round from the front by itself after the first."""

    @property
    def due(self):
        return self.under_way or self._next_round == 0.0


class Always(Detour):
    """Starts a round from the front after each claim that passed all refused tokens."""

    due = True


seldom = pytest.mark.parametrize("rounds", [Seldom])
always = pytest.mark.parametrize("rounds", [Always])
forgetful = pytest.mark.parametrize("bounds", [{"most_remembered": 10}], ids=["forgetful"])


@pytest.fixture
async def flood(connection):
    """Make `count` tokens whose claim a host's trigger refuses, and five claimable tokens behind them."""

    async def flood(count, due="NULL"):
        await connection.execute(
            "ALTER TABLE tokens_s0 DISABLE TRIGGER USER;"
            "INSERT INTO authors (prompt_text) VALUES ('a fox');"
            "INSERT INTO tokens_s0 (author_id, mint_timestamp, generation_due_at)"
            f" SELECT id, '-infinity', {due} FROM authors, generate_series(1, {count});"
            f"{MINT}, generate_series(1, 5);"
            "ALTER TABLE tokens_s0 ENABLE TRIGGER USER"
        )
        await refuse(connection, f"NEW.token_id <= {count} AND NEW.status = 'generating'")

    return flood


@pytest.mark.parametrize("due", ["NULL", "'-infinity'"], ids=["fresh", "retries"])
async def test_behind_a_flood_of_refused_tokens_others_are_served_and_it_is_told_in_two_lines(
    database, connection, flood, due
):
    await flood(HOSTILE, due)

    async with running(database, DirectedProvider(), idle=False) as (_, log):
        await log.wait("token.generation.succeeded", times=5)
        await connection.execute(MINT)
        await log.wait("token.generation.succeeded", times=6)
    first, others = log.of("worker.error")

    assert (first["role"], first["error_type"]) == ("claimer", "RaiseError")
    assert 0 < others["count"] < HOSTILE


@pytest.mark.parametrize("due", ["NULL", "'-infinity'"], ids=["fresh", "retries"])
async def test_tokens_whose_epoch_is_at_its_end_are_in_nobodys_way(database, connection, due):
    await connection.execute(
        "INSERT INTO authors (prompt_text) VALUES ('a fox');"
        "INSERT INTO tokens_s0 (author_id, generation_epoch, mint_timestamp, generation_due_at)"
        f" SELECT id, 9223372036854775807, '-infinity', {due} FROM authors, generate_series(1, {HOSTILE});"
        f"{MINT}, generate_series(1, 5)"
    )
    provider = DirectedProvider()

    async with running(database, provider, idle=False) as (_, log):
        await log.wait("token.generation.succeeded", times=5)
        await connection.execute(MINT)
        await log.wait("token.generation.succeeded", times=6)

    assert log.errors() == []
    assert len(provider.asked("create")) == 6
    assert await connection.fetchval("SELECT count(*) FROM tokens_s0 WHERE status = 'detected'") == HOSTILE


@seldom
@pytest.mark.parametrize("due", ["NULL", "'-infinity'"], ids=["fresh", "retries"])
async def test_behind_the_place_of_refused_tokens_a_claim_is_one_statement_that_meets_none(
    connection, store, claimed, flood, due
):
    await flood(250, due)
    assert await claimed() == set(range(251, 256))
    store.asked.clear()
    await connection.execute(MINT)

    assert await claimed() == {256}
    assert store.asked == ["claim"]


@always
@pytest.mark.parametrize("due", ["NULL", "'-infinity'"], ids=["fresh", "retries"])
async def test_what_came_in_behind_refused_tokens_is_served_by_the_next_round(connection, claimed, flood, due):
    await flood(50, "NULL")
    assert await claimed() == set(range(51, 56))
    await connection.execute(
        "INSERT INTO tokens_s0 (author_id, mint_timestamp, generation_due_at)"
        f" SELECT id, '4000-01-01 BC', {due} FROM authors"
    )

    assert await claimed() == {56}


@pytest.fixture
def tried(store):
    """The tokens that a detour tries to claim, each time that it does."""
    return store.tried


@seldom
@forgetful
@pytest.mark.parametrize("due", ["NULL", "'-infinity'"], ids=["fresh", "retries"])
async def test_behind_any_number_of_refused_tokens_others_are_claimed_after_few_refusals(claimed, flood, tried, due):
    await flood(30_000, due)

    assert await claimed() == set(range(30_001, 30_006))
    assert len(tried) <= 3 * detour.MOST_TRIES


@always
@forgetful
async def test_a_round_meets_few_refusals_however_many_tokens_were_forgotten(claimed, flood, tried):
    await flood(HOSTILE)
    await claimed()

    for _ in range(3):
        tried.clear()
        assert await claimed() == set()
        assert len(tried) <= detour.MOST_TRIES + 5 * detour.SAMPLE


@always
@forgetful
async def test_between_two_goes_of_a_round_what_came_in_at_the_end_is_claimed(connection, claimer, claimed, flood):
    await flood(HOSTILE)
    await claimed()
    await connection.execute(MINT)

    assert not (await claimer.claim(10, WORKER)).claims
    assert [claim.token_id for claim in (await claimer.claim(10, WORKER)).claims] == [HOSTILE + 6]


@seldom
async def test_tokens_that_a_gallop_passed_untried_are_claimed_by_a_later_round(claimer, claimed, flood, connection):
    await flood(1500)
    await connection.execute(
        "UPDATE tokens_s0 SET mint_timestamp = '2000-01-01 BC' WHERE token_id > 1500;"
        "UPDATE tokens_s0 SET mint_timestamp = '1000-01-01 BC' WHERE token_id BETWEEN 1001 AND 1500"
    )
    served = await claimed()
    rounds = 0
    while served != set(range(1501, 1506)):
        claimer._detour._next_round = 0.0
        served |= await claimed()
        rounds += 1
        assert rounds <= 1500 / detour.MOST_TRIES


@always
@pytest.mark.parametrize("bounds", [{"most_again": 7}], ids=["seven"])
async def test_a_round_tries_few_refused_tokens_again(claimer, claimed, flood, tried):
    await flood(HOSTILE // 10)
    await claimed()
    tried.clear()
    assert (await claimed(), tried) == (set(), [])
    kept = claimer._detour._refused
    kept.update(dict.fromkeys(kept, (1e-9, 5.0)))  # every one may be tried again

    assert await claimed() == set()
    assert len(tried) == 7


@always
@pytest.mark.parametrize("bounds", [{"most_again": 1}], ids=["one"])
@pytest.mark.parametrize("timings", [Timings(refused_token=0.0)])
async def test_once_one_is_refused_no_longer_the_others_are_tried_at_once(connection, claimed, flood):
    await flood(60)
    await claimed()
    await connection.execute("DROP TRIGGER refuse ON tokens_s0")

    assert await claimed() | await claimed() == set(range(1, 61))


@always
async def test_once_nothing_is_refused_any_more_there_is_nothing_to_go_around(connection, claimer, claimed, flood):
    await flood(3)
    await claimed()
    await connection.execute("DELETE FROM tokens_s0 WHERE status = 'detected'")

    await claimed()

    assert (claimer._detour.place, claimer._detour._refused) == (FRONT, {})


@pytest.mark.parametrize(("took", "rest"), [(0.01, 0.2), (0.1, 1.0), (10.0, 40.0)])
async def test_rounds_take_a_fifth_of_the_time_at_most(claimer, took, rest):
    before = time.monotonic()
    claimer._detour._began = before - took

    claimer._detour._end(over=False)

    after = time.monotonic()
    late = detour.ROUND_FOR * (after - before)
    assert before + rest <= claimer._detour._next_round + 1e-6 <= after + rest + late + 2e-6


@forgetful
async def test_what_is_remembered_of_refused_tokens_is_bounded(claimer, claimed, flood):
    await flood(150)

    assert await claimed() == set(range(151, 156))
    assert len(claimer._detour._refused) == 10


async def test_a_row_that_a_policy_of_row_level_security_refuses_is_gone_around(database, connection, log):
    await connection.execute(
        f"INSERT INTO authors (prompt_text) VALUES ('a fox'); {MINT}, generate_series(1, 3);"
        "ALTER TABLE tokens_s0 ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY most ON tokens_s0 USING (true) WITH CHECK (token_id <> 1)"
    )
    grants = (
        "GRANT USAGE ON SCHEMA reactor TO {role}",
        "GRANT SELECT, UPDATE ON tokens_s0, reactor.intake TO {role}",
        "GRANT SELECT ON authors, reactor.alembic_version TO {role}",
        "GRANT SELECT, INSERT, DELETE ON reactor.attempts TO {role}",
    )
    async with stranger(database, *grants) as url, store_of(url) as store:
        claims = (await Claimer(store, Telemetry(log), timings=TIMINGS).claim(10, WORKER)).claims

    assert {claim.token_id for claim in claims} == {2, 3}
    assert log.of("worker.error", role="claimer", token_id=1)


async def test_a_row_whose_trigger_waits_for_a_lock_is_gone_around(connection, connect, claimed, flood):
    await flood(1)
    await connection.execute(
        """
        CREATE TABLE held ();
        CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = '1ms' AS
          $$ BEGIN IF NEW.token_id = 1 THEN LOCK TABLE public.held; END IF; RETURN NEW; END $$
        """
    )
    other = await connect()
    async with other.transaction():
        await other.execute("LOCK TABLE held")
        claims = await claimed()

    assert claims == {2, 3, 4, 5, 6}


async def test_what_was_claimed_before_the_database_went_away_is_not_forgotten(database, log, flood):
    await flood(1)
    answers = []

    class GoneAfterOne(Store):
        async def claim_among(self, tokens, worker):
            if answers:
                raise ConnectionLostError("gone")
            batch = await super().claim_among(tokens, worker)
            answers.append(batch)
            return batch

    async with store_of(database, GoneAfterOne) as store:
        claims = (await Claimer(store, Telemetry(log), timings=TIMINGS).claim(10, WORKER)).claims

    assert len(claims) == 1


async def test_on_the_way_around_the_gate_counts_too(connection, claimed, flood):
    await flood(2)
    await connection.execute(
        "UPDATE reactor.intake SET paused_until = clock_timestamp() - interval '1 s', pause_seconds = 60"
    )

    assert len(await claimed()) == 1
