"""Records what measures.py counts, with OpenTelemetry's instruments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import metrics
from opentelemetry.metrics import Counter, Histogram

from reactor.measures import INSTRUMENTS, measured

if TYPE_CHECKING:
    from decimal import Decimal

    from opentelemetry.metrics import Meter, MeterProvider

    from reactor.measures import Instrument


class Meters:
    """A sink that counts events."""

    def __init__(self, meters: MeterProvider | None = None, *, price_per_image: Decimal | None = None) -> None:
        self._price = price_per_image
        meter = metrics.get_meter("reactor", meter_provider=meters)
        self._instruments = {each.opentelemetry: _made(meter, each) for each in INSTRUMENTS}

    def __call__(self, event: str, fields: dict[str, Any]) -> None:
        for instrument, amount, label in measured(event, fields, price=self._price):
            attributes = {} if label is None else {f"reactor.{instrument.label}": label}
            match self._instruments[instrument.opentelemetry]:
                case Histogram() as histogram:
                    histogram.record(amount, attributes)
                case Counter() as counter:
                    counter.add(amount, attributes)


def _made(meter: Meter, instrument: Instrument) -> Counter | Histogram:
    name, meaning = instrument.opentelemetry, instrument.meaning
    if instrument.buckets:
        return meter.create_histogram(name, "s", meaning, explicit_bucket_boundaries_advisory=instrument.buckets)
    return meter.create_counter(name, description=meaning)
