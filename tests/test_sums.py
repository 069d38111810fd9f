"""What was bought, by the ledger, the history, the metrics, `status` and the audit: the same to the unit."""

from decimal import Decimal

import pytest
from doubles import SECRET, running, until
from test_metrics import lines

from reactor.database.discovery import discover
from reactor.engine.timings import Timings
from reactor.operations.audit_reads import audit
from reactor.operations.history import purchases
from reactor.operations.overview import overview
from reactor.providers.limits import Limits
from reactor.providers.replicate import ReplicateProvider
from reactor.providers.walk import Inputs
from reactor.sandbox import Sandbox, Timing
from reactor.web.metrics import Metrics

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_day")]

PRICE = Decimal("0.003")
PROMPTS = (
    *["a fox"] * 6,
    *["a hare [sandbox: nsfw]"] * 2,
    "a boat [sandbox: canceled times=1]",
    "a mill [sandbox: failed text=(E1001)]",
    "a bell [sandbox: reset after=true times=1]",
    "a well [sandbox: 503 times=1]",
    "a door [sandbox: 422]",
)
ENDED = "SELECT count(*) = 0 FROM tokens_s0 WHERE status IN ('detected', 'generating')"
SOON = Timings(sure_after=0.3, listing_every=0.05)


async def test_all_accounts_of_a_run_are_equal(database, make_token, connection, open_session):
    session = open_session(database)
    table = await discover(session, "tokens_s0")
    sandbox = Sandbox(Timing.instant(), token=SECRET)
    async with sandbox.serve() as base_url:
        provider = ReplicateProvider(SECRET, base_url=base_url, limits=Limits(first_poll=0.02, reads_per_second=1000.0))
        given = {"price_per_image": str(PRICE), "breaker_threshold": 0, "max_attempts": 5}
        async with running(database, provider, timings=SOON, **given) as (_, log):
            for prompt in PROMPTS:
                await make_token(prompt=prompt)
            await until(lambda: connection.fetchval(ENDED), seconds=30)
            found = await audit(session, table, provider, Inputs("seed", {}), 3600.0)
        await provider.aclose()
    history, status = await purchases(session, seconds=3600.0), await overview(session, table)
    metrics = Metrics(price_per_image=PRICE)
    for told in log.events:
        metrics(told["event"], told)
    samples = lines(metrics)
    counted = {name: value for name, value in samples.items() if name.startswith("reactor_purchases_total")}

    bought, used = len(sandbox.ledger), await connection.fetchval("SELECT count(image_url) FROM tokens_s0")
    assert found.ok
    assert (used, bought) == (11, 15)
    assert (history.bought, history.used, history.wasted, history.cost) == (bought, used, bought - used, used * PRICE)
    assert (found.counts["used"], found.counts["unused"]) == (used, bought - used)
    assert found.cost("used") == history.cost
    assert sum(counted.values()) == bought
    assert counted['reactor_purchases_total{outcome="used"}'] == used
    assert samples["reactor_purchase_cost_total"] == pytest.approx(float(history.cost))
    assert status.as_json()["today"]["bought"] == bought
    reasons = {name: samples[f'reactor_purchases_total{{outcome="{name}"}}'] for name in ("rejected", "failed")}
    assert reasons == {name: history.counts.get(name, 0) for name in reasons}
