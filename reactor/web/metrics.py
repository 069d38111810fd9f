"""Counts events for Prometheus, in a registry of its own, so that two workers in a process do not mix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from reactor import events

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client import Metric

OUTCOMES = {
    events.GENERATION_SUCCEEDED: "succeeded",
    events.GENERATION_RETRIED: "retry",
    events.GENERATION_EXHAUSTED: "exhausted",
    events.GENERATION_FAILED: "failed",
    events.GENERATION_RELEASED: "released",
    events.LEASE_LOST: "lost",
}
REFUSALS = ("malformed", "slow", "crowded", "host", "token")
DURATIONS = (0.5, 1, 2, 3, 5, 8, 13, 20, 30, 60, 120, 300)  # seconds
REACTIONS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)  # seconds
GAUGES = {
    "image_generation_queue_depth": "Tokens that wait to be claimed: counted up to 10,000, estimated beyond.",
    "image_generation_oldest_seconds": "Seconds for which the longest waiting token could have been claimed.",
    "image_generation_uploading_oldest_seconds": "Seconds since the oldest image that the next stage has not taken.",
    "reactor_listener_up": "Whether the listener is proven to hear notifications.",
    "reactor_intake_paused": "Whether the gate is closed or half-open.",
    "reactor_slots_in_use": "Tokens that this worker holds.",
    "reactor_notify_queue_usage": "How full the server's notification queue is, 0 to 1.",
}
# Attempt numbers with a label of their own. Others share one, because the inserter of a row can write any number.
ATTEMPTS = range(1, 11)


class Metrics:
    """A sink that counts events. `render` adds the gauges' current values."""

    def __init__(self) -> None:
        self._registry = _Registry()
        self._gauges = _Gauges()
        self._registry.register(self._gauges)
        counter = self._counter
        self._total = counter("image_generation_total", "Attempts by outcome.", "outcome")
        self._retries = counter("image_generation_retries_total", "Attempts that are repeated.", "attempt_number")
        self._claims = counter("reactor_claims_total", "Tokens that this worker claimed.")
        self._rescues = counter("reactor_rescues_total", "Tokens taken over from workers that could not finish them.")
        self._lost = counter("reactor_lease_lost_total", "Tokens that another worker took over from this one.")
        self._ambiguous = counter(
            "reactor_ambiguous_creates_total", "Creates without a readable answer: an image may have been bought."
        )
        self._refused = counter("reactor_http_refused_total", "HTTP requests that were refused.", "reason")
        self._duration = Histogram(
            "image_generation_duration_seconds",
            "From the claim to the image in the row.",
            buckets=DURATIONS,
            registry=self._registry,
        )
        self._reaction = Histogram(
            "image_generation_reaction_seconds",
            "From a new token's row to the request to the provider.",
            buckets=REACTIONS,
            registry=self._registry,
        )
        for outcome in OUTCOMES.values():  # Prometheus needs a zero before the first event to compute a rate
            self._total.labels(outcome)
        for reason in REFUSALS:
            self._refused.labels(reason)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, registry=self._registry)

    def __call__(self, event: str, fields: dict[str, Any]) -> None:
        match event:
            case events.TOKENS_CLAIMED:
                self._claims.inc(fields.get("count", 0))
            case events.GENERATION_RESCUED:
                self._rescues.inc()
            case events.CREATE_SENT:
                if (age := fields.get("age_seconds")) is not None:
                    self._reaction.observe(age + fields.get("waited_seconds", 0.0))
            case events.CREATE_AMBIGUOUS:
                self._ambiguous.inc()
            case events.HTTP_REFUSED:
                for reason in REFUSALS:
                    self._refused.labels(reason).inc(fields.get(reason, 0))
            case events.LEASE_LOST:
                self._lost.inc()
        if outcome := OUTCOMES.get(event):
            self._ended(outcome, fields)

    def _ended(self, outcome: str, fields: dict[str, Any]) -> None:
        self._total.labels(outcome).inc()
        if outcome == "retry":
            attempt = fields.get("attempt")
            self._retries.labels(str(attempt) if attempt in ATTEMPTS else "more").inc()
        if outcome == "succeeded":
            self._duration.observe(fields.get("duration_seconds", 0.0))

    def render(self, gauges: Mapping[str, float | None]) -> bytes:
        """All metrics in Prometheus's format. A gauge without a value is left out, because an old value misleads."""
        self._gauges.values = gauges
        return generate_latest(self._registry)


class _Gauges(Collector):
    """The gauges, with the values of the current scrape."""

    def __init__(self) -> None:
        self.values: Mapping[str, float | None] = {}

    def collect(self) -> Iterable[Metric]:
        for name, meaning in GAUGES.items():
            if (value := self.values.get(name)) is not None:
                yield GaugeMetricFamily(name, meaning, value=value)


class _Registry(CollectorRegistry):
    """Drops the `_created` series, because the client library can turn them off only for the whole process."""

    def collect(self) -> Iterable[Metric]:
        for metric in super().collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
