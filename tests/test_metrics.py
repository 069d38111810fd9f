from decimal import Decimal

import pytest
from doubles import DirectedProvider, running

from reactor.errors import TransientError
from reactor.web.metrics import GAUGES, Metrics

NAMES = {
    *GAUGES,
    "image_generation_total",
    "image_generation_duration_seconds",
    "image_generation_retries_total",
    "image_generation_reaction_seconds",
    "reactor_claims_total",
    "reactor_rescues_total",
    "reactor_lease_lost_total",
    "reactor_ambiguous_creates_total",
    "reactor_http_refused_total",
    "reactor_purchases_total",
    "reactor_purchase_cost_total",
}


@pytest.fixture
def metrics():
    return Metrics(price_per_image=Decimal("0.25"))


def lines(metrics, **gauges):
    """The samples as Prometheus reads them: name and labels → value. The process's own change all the time."""
    text = metrics.render(gauges).decode()
    return {
        name: float(value)
        for name, _, value in (
            line.rpartition(" ") for line in text.splitlines() if not line.startswith(("#", "process_"))
        )
    }


def test_the_names_are_those_that_were_promised(metrics):
    text = metrics.render(dict.fromkeys(GAUGES, 1.0)).decode()

    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert {name for name in names if not name.startswith("process_")} == NAMES | {"reactor_build_info"}
    assert "process_resident_memory_bytes" in names
    assert not [line for line in text.splitlines() if "_created" in line]


def test_two_workers_do_not_mix(metrics):
    metrics("token.lease_lost", {"token_id": 1})

    assert lines(metrics)["reactor_lease_lost_total"] == 1
    assert lines(Metrics())["reactor_lease_lost_total"] == 0


EVENTS = [
    (
        "token.purchase_ended",
        {"outcome": "used", "images": 2, "prediction_id": "p"},
        {'reactor_purchases_total{outcome="used"}': 1, "reactor_purchase_cost_total": 0.5},
    ),
    (
        "token.purchase_ended",
        {"outcome": "lost", "images": None, "prediction_id": "p"},
        {'reactor_purchases_total{outcome="lost"}': 1},
    ),
    ("tokens.claimed", {"count": 3, "slots": 10}, {"reactor_claims_total": 3}),
    ("tokens.claimed", {"count": 0, "slots": 10}, {"reactor_claims_total": 0}),
    ("token.generation.rescued", {}, {"reactor_rescues_total": 1}),
    ("token.lease_lost", {}, {"reactor_lease_lost_total": 1, 'image_generation_total{outcome="lost"}': 1}),
    ("http.refused", {"count": 3, "slow": 3}, {'reactor_http_refused_total{reason="slow"}': 3}),
    ("token.create_ambiguous", {}, {"reactor_ambiguous_creates_total": 1}),
    (
        "token.generation.succeeded",
        {"duration_seconds": 4.5},
        {
            'image_generation_total{outcome="succeeded"}': 1,
            "image_generation_duration_seconds_count": 1,
            "image_generation_duration_seconds_sum": 4.5,
            'image_generation_duration_seconds_bucket{le="3.0"}': 0,
            'image_generation_duration_seconds_bucket{le="5.0"}': 1,
        },
    ),
    (
        "token.generation.retry",
        {"attempt": 2, "duration_seconds": 1.0},
        {
            'image_generation_total{outcome="retry"}': 1,
            'image_generation_retries_total{attempt_number="2"}': 1,
            "image_generation_duration_seconds_count": 0,
        },
    ),
    ("token.generation.exhausted", {}, {'image_generation_total{outcome="exhausted"}': 1}),
    ("token.generation.failed", {}, {'image_generation_total{outcome="failed"}': 1}),
    ("token.generation.released", {}, {'image_generation_total{outcome="released"}': 1}),
    (
        "token.create_sent",
        {"age_seconds": 0.02, "waited_seconds": 0.01},
        {"image_generation_reaction_seconds_count": 1, "image_generation_reaction_seconds_sum": 0.03},
    ),
    (
        "token.create_sent",
        {"age_seconds": None, "waited_seconds": 0.01},
        {"image_generation_reaction_seconds_count": 0},
    ),
]


@pytest.mark.parametrize(("event", "fields", "expected"), EVENTS)
def test_an_event_counts_once_where_it_belongs(metrics, event, fields, expected):
    before = lines(metrics)

    metrics(event, {"token_id": 1, **fields})

    after = lines(metrics)
    assert {name: after[name] for name in expected} == pytest.approx(expected)
    changed = {name for name in after if after[name] != before.get(name, 0)}
    assert {name for name in changed if "_bucket" not in name} <= expected.keys()


@pytest.mark.parametrize(
    "event",
    ["worker.started", "intake.paused", "token.censored", "token.generation.started", "token.generation.resumed"],
)
def test_other_events_count_nothing(metrics, event):
    before = lines(metrics)

    metrics(event, {})

    assert lines(metrics) == before


HOSTILE = [-(2**31), -1, 0, *range(1, 2000), 2**31, None, 1.5, "x" * 1000, "2\n", {}]


@pytest.mark.parametrize("event", sorted({event for event, *_ in EVENTS} | {"token.generation.junk", "junk"}))
def test_no_value_of_a_row_or_of_others_makes_series_without_end(metrics, event):
    names = ("attempt", "outcome", "reason", "error_type", "error_message", "prediction_id", "token_id", "status")

    for value in HOSTILE:
        metrics(event, dict.fromkeys(names, value))

    attempts = {f'image_generation_retries_total{{attempt_number="{label}"}}' for label in (*range(1, 11), "more")}
    assert lines(metrics).keys() <= lines(Metrics()).keys() | attempts


def test_a_gauge_without_a_value_is_left_out(metrics):
    told = lines(metrics, reactor_listener_up=1.0, image_generation_queue_depth=None)

    assert told["reactor_listener_up"] == 1
    assert "image_generation_queue_depth" not in told


@pytest.mark.anyio
async def test_a_tokens_life_is_counted(database, make_token, metrics):
    provider = DirectedProvider()
    provider.script["create"] = [TransientError("boom", retry_after=0.0)]
    async with running(database, provider) as (_, log):
        await make_token()
        await log.wait("token.generation.succeeded")

    for told in log.events:
        metrics(told["event"], {name: value for name, value in told.items() if name != "event"})
    counted = lines(metrics)
    assert counted["reactor_claims_total"] == 2
    assert counted['image_generation_total{outcome="succeeded"}'] == 1
    assert counted['image_generation_retries_total{attempt_number="1"}'] == 1
    assert counted["image_generation_reaction_seconds_count"] == 1
    assert 0 < counted["image_generation_reaction_seconds_sum"] < 5
