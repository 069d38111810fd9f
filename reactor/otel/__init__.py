"""Traces and metrics by OpenTelemetry, if its API is installed: `pip install '.[otel]'`.

spans.py   turns a token's events into spans, and measures how long they took
meters.py  records with the host's meter what Prometheus counts too

A token's spans, with the links between them:

    the producer's transaction ◀─┐                    receive {table}: a claim that found tokens
                                 └── process {table} ──▶ ┘
                                       ├── generate_content {model}: from a create to its image or error
                                       └── settle {table}

Each `process` is one attempt, and a trace of its own. It links to the claim, because a claim takes up to 50 tokens; and
to the producer's transaction, by the row's traceparent, because an attempt may begin hours after that trace has ended,
be one of several, and be sampled otherwise. A rescued token has no claim. An attempt that resumes a prediction has no
call: the attempt that bought it has.

The spans are made of events, so nothing in the engine knows of them. They are never the current span: what other
instrumentation makes of our queries and requests are traces of their own. Which exporters and samplers there are is the
host's affair. It sets its providers up before the reactor starts; without any, there is no sink, and nothing is spent.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

try:
    from opentelemetry import metrics, trace

    from reactor.otel.meters import Meters
    from reactor.otel.spans import Spans
except ImportError as missing:
    if (missing.name or "").partition(".")[0] != "opentelemetry":
        raise
    _INSTALLED = False
else:
    _INSTALLED = True

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from reactor.text.redaction import Redactor


_OF_THE_API = ("opentelemetry.trace", "opentelemetry.metrics")


class OpenTelemetry:
    """The sink for spans and measurements."""

    def __init__(self, *sinks: Callable[[str, dict[str, Any]], None]) -> None:
        self._sinks = sinks

    def __call__(self, event: str, fields: dict[str, Any]) -> None:
        for sink in self._sinks:
            with suppress(Exception):  # a span processor or exporter of the host's must not stop a generation
                sink(event, fields)


def opentelemetry(
    redact: Redactor,
    *,
    model: str,
    price_per_image: Decimal | None = None,
    tracers: TracerProvider | None = None,
    meters: MeterProvider | None = None,
) -> list[OpenTelemetry]:
    """The sink, if there are providers: those given, or the host's global ones. `model`: what is bought."""
    if not (tracers or meters or (_INSTALLED and _set_up())):
        return []
    spans = Spans(redact, model=model, tracers=tracers, meters=meters)
    return [OpenTelemetry(spans, Meters(meters, price_per_image=price_per_image))]


def _set_up() -> bool:
    """Whether the host has set a provider. Those of the API itself do nothing."""
    providers = trace.get_tracer_provider(), metrics.get_meter_provider()
    return any(not type(each).__module__.startswith(_OF_THE_API) for each in providers)
