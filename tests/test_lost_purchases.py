"""If a token is dropped after its purchase, the event names the prediction."""

import anyio
import pytest
from doubles import Barrier, DirectedProvider, refuse, running

from reactor.database.store import Store
from reactor.engine.rescuer import MOST_RESCUES
from reactor.engine.timings import Timings
from reactor.errors import ContentPolicyError

pytestmark = pytest.mark.anyio


@pytest.fixture
def provider():
    return DirectedProvider()


@pytest.mark.parametrize("finder", ["renewal", "settle", "censor"])
async def test_a_token_that_is_lost_after_its_purchase_is_told_with_the_prediction(
    database, provider, make_token, connection, finder
):
    generating = Barrier()

    async def rejected(argument):
        await generating(argument)
        raise ContentPolicyError("not this one")

    provider.script["wait"] = [rejected if finder == "censor" else generating]
    async with running(database, provider, lease_seconds=1 if finder == "renewal" else 60) as (_, log):
        await make_token()
        await generating.entered()
        await connection.execute("UPDATE tokens_s0 SET generation_epoch = generation_epoch + 1")
        if finder != "renewal":
            generating.open()
        told = await log.wait("token.lease_lost")

    assert told["prediction_id"] == "prediction1"
    assert len(log.of("token.lease_lost")) == 1


async def test_an_outcome_that_the_table_refuses_is_told_with_the_prediction(
    database, provider, make_token, connection
):
    await refuse(connection, "NEW.status IN ('uploading', 'failed')")
    async with running(database, provider) as (_, log):
        await make_token()
        for role in ("settler", "attempt"):
            told = await log.wait("worker.error", role=role)
            assert told["prediction_id"] == "prediction1"


async def test_an_outcome_that_a_stop_does_not_wait_for_is_told_with_the_prediction(database, provider, make_token):
    asked = anyio.Event()

    class Unanswered(Store):
        async def settle(self, _outcomes):
            asked.set()
            await anyio.sleep_forever()

    timings = Timings(answer_within=0.01, last_writes_within=0.01)
    async with running(database, provider, timings=timings, store=Unanswered) as (worker, log):
        await make_token()
        with anyio.fail_after(10):
            await asked.wait()
        worker.stop_now()
        told = await log.wait("worker.error", role="attempt")

    assert told["prediction_id"] == "prediction1"


async def test_a_rejected_prediction_is_named_as_the_fallback_takes_its_place(database, provider, make_token):
    provider.script["wait"] = [ContentPolicyError("not this one")]
    async with running(database, provider) as (_, log):
        await make_token()
        told = await log.wait("token.censored")

    assert told["prediction_id"] == "prediction1"


async def test_a_token_that_killed_too_many_workers_is_told_with_its_prediction(
    database, provider, make_token, connection
):
    ago = await connection.fetchval("SELECT now() - interval '1 hour'")
    await make_token(
        status="generating",
        generation_worker=7,
        generation_lease_ends_at=ago,
        generation_rescues=MOST_RESCUES,
        generation_prediction_id="bought-before",
    )
    async with running(database, provider) as (_, log):
        told = await log.wait("token.generation.failed")

    assert told["prediction_id"] == "bought-before"
