"""Counts events for Prometheus, in a registry of its own, so that two workers in a process do not mix."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from reactor.measures import INSTRUMENTS, measured

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from decimal import Decimal

    from prometheus_client import Metric

    from reactor.measures import Instrument

GAUGES = {
    "image_generation_queue_depth": "Tokens that wait to be claimed: counted up to 10,000, estimated beyond.",
    "image_generation_oldest_seconds": "Seconds for which the longest waiting token could have been claimed.",
    "image_generation_uploading_oldest_seconds": "Seconds since the oldest image that the next stage has not taken.",
    "reactor_listener_up": "Whether the listener is proven to hear notifications.",
    "reactor_intake_paused": "Whether the gate is closed or half-open.",
    "reactor_slots_in_use": "Tokens that this worker holds.",
    "reactor_purchases_expired_today": "Purchases of the fleet whose image expired unused, by this UTC day's history.",
    "reactor_purchases_expired_cost_today": "Cost of these images, if PRICE_PER_IMAGE was set when they were made.",
    "reactor_budget_remaining": "Creates that the day's budget still allows the fleet.",
    "reactor_notify_queue_usage": "How full the server's notification queue is, 0 to 1.",
}


class Metrics:
    """A sink that counts events. `render` adds the gauges' current values."""

    def __init__(self, *, price_per_image: Decimal | None = None) -> None:
        self._price = price_per_image
        self._registry = _Registry()
        self._gauges = _Gauges()
        self._registry.register(self._gauges)
        self._metrics = {each.prometheus: self._made(each) for each in INSTRUMENTS}
        build = Gauge("reactor_build_info", "The version of the reactor.", ["version"], registry=self._registry)
        build.labels(version("mint-reactor")).set(1)
        ProcessCollector(registry=self._registry)

    def _made(self, instrument: Instrument) -> Counter | Histogram:
        name, meaning = instrument.prometheus, instrument.meaning
        if instrument.buckets:
            return Histogram(name, meaning, buckets=instrument.buckets, registry=self._registry)
        labels = [] if instrument.label is None else [instrument.label]
        counter = Counter(name, meaning, labels, registry=self._registry)
        for value in instrument.known:
            counter.labels(value)
        return counter

    def __call__(self, event: str, fields: dict[str, Any]) -> None:
        for instrument, amount, label in measured(event, fields, price=self._price):
            metric = self._metrics[instrument.prometheus]
            if isinstance(metric, Histogram):
                metric.observe(amount)
            else:
                (metric if label is None else metric.labels(label)).inc(amount)

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
