"""Makes spans of events, by the semantic conventions for messaging and for generative models.

A span begins and ends at the moment its event arrives here, less the seconds that the event's fields name. Attributes
hold neither prompts nor error messages, and no image's URL: of an error only its type is told.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TraceFlags

from reactor import events
from reactor.measures import DURATIONS, OUTCOMES

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

    from reactor.text.redaction import Redactor

MOST_OPEN = 2000  # twice the most slots; if there are more, the oldest ended without an event
LONGEST = 200  # characters of an attribute: a token's key may be a longer text
SECOND = 10**9  # nanoseconds


@dataclass(slots=True)
class _Timed:
    """A span, and what its duration is recorded with. `began`: nanoseconds since 1970."""

    span: Span
    began: int
    measured: dict[str, Any]


@dataclass(slots=True)
class _Attempt:
    """An attempt under way, and the provider's call that it waits for."""

    process: _Timed
    call: _Timed | None = None


class Spans:
    """A sink that keeps the spans of the attempts under way."""

    def __init__(
        self,
        redact: Redactor,
        *,
        model: str,
        tracers: TracerProvider | None = None,
        meters: MeterProvider | None = None,
    ) -> None:
        self._redact = redact
        self._tracer = trace.get_tracer("reactor", tracer_provider=tracers)
        meter = metrics.get_meter("reactor", meter_provider=meters)
        self._process_duration, self._call_duration = (
            meter.create_histogram(name, "s", meaning, explicit_bucket_boundaries_advisory=DURATIONS)
            for name, meaning in (
                ("messaging.process.duration", "Duration of an attempt."),
                ("gen_ai.client.operation.duration", "From the create to its image or error."),
            )
        )
        self._model, self._table, self._worker = model, "", ""
        self._received: dict[Any, SpanContext] = {}  # by token id, until the attempt begins
        # By token id and epoch: a token that is due at once may be claimed again before its last end is told.
        self._rescued: set[Any] = set()
        self._open: dict[Any, _Attempt] = {}

    def __call__(self, event: str, fields: dict[str, Any]) -> None:
        match event:
            case events.WORKER_STARTED:
                self._close(len(self._open))  # of a worker that died, and whose supervisor began anew
                self._table, self._worker = fields["table"].replace('"', ""), str(fields["worker"])
            case events.WORKER_STOPPED:
                self._close(len(self._open))
            case events.TOKENS_CLAIMED if fields["count"]:
                self._claimed(fields)
            case events.GENERATION_RESCUED:
                self._rescued.add(_key(fields))
            case events.GENERATION_STARTED | events.GENERATION_RESUMED:
                self._began(fields)
            case events.CREATE_SENT:
                self._sent(fields)
            case events.CENSORED:
                self._rejected(fields)
            case _ if event in OUTCOMES:
                self._ended(OUTCOMES[event], fields)

    def _claimed(self, fields: dict[str, Any]) -> None:
        now = time.time_ns()
        span = self._tracer.start_span(
            f"receive {self._table}",
            Context(),
            SpanKind.CLIENT,
            {**self._messaging("receive"), "messaging.batch.message_count": fields["count"]},
            start_time=now - int(fields["duration_seconds"] * SECOND),
        )
        span.end(now)
        self._received |= dict.fromkeys(fields["token_ids"], span.get_span_context())

    def _began(self, fields: dict[str, Any]) -> None:
        token_id, key, now = fields["token_id"], _key(fields), time.time_ns()
        self._close(len(self._open) + 1 - MOST_OPEN)
        rescued = key in self._rescued
        self._rescued.discard(key)
        contexts = self._received.pop(token_id, None), _context_of(fields.get("traceparent"))
        span = self._tracer.start_span(
            f"process {self._table}",
            Context(),
            SpanKind.CONSUMER,
            {
                **self._messaging("process"),
                "messaging.message.id": self._fit(token_id),
                "reactor.attempt": fields["attempt"],
                "reactor.max_attempts": fields["max_attempts"],
                "reactor.epoch": fields["epoch"],
                "reactor.censored": "censored" in fields,
                "reactor.rescued": rescued,
                "reactor.resumed": "prediction_id" in fields,
            },
            [Link(context) for context in contexts if context is not None],
            now,
        )
        self._open[key] = _Attempt(_Timed(span, now, self._messaging("process", span=False)))

    def _sent(self, fields: dict[str, Any]) -> None:
        if (attempt := self._open.get(_key(fields))) is None:
            return
        call = {
            "gen_ai.operation.name": "generate_content",
            "gen_ai.provider.name": "replicate",
            "gen_ai.request.model": self._model,
        }
        seed = {} if fields["seed"] is None else {"gen_ai.request.seed": fields["seed"]}
        now = time.time_ns()
        span = self._tracer.start_span(
            f"generate_content {self._model}",
            trace.set_span_in_context(attempt.process.span, Context()),
            SpanKind.CLIENT,
            {**call, **seed, "gen_ai.output.type": "image"},
            start_time=now,
        )
        attempt.call = _Timed(span, now, call)

    def _rejected(self, fields: dict[str, Any]) -> None:
        """The provider refused the prompt, and the attempt goes on with the fallback prompt."""
        if attempt := self._open.get(_key(fields)):
            self._call_ended(attempt, time.time_ns(), fields, "ContentPolicyError")
            attempt.process.span.set_attribute("reactor.censored", value=True)

    def _ended(self, outcome: str, fields: dict[str, Any]) -> None:
        """The outcome is written, or the token lost. Settling began when the provider's call was over."""
        if attempt := self._open.pop(_key(fields), None):  # else the token failed without an attempt
            self._over(attempt, outcome, fields)

    def _over(self, attempt: _Attempt, outcome: str, fields: dict[str, Any]) -> None:
        process, now = attempt.process, time.time_ns()
        settling, error = fields.get("settle_seconds"), fields.get("error_type")
        settled_from = max(process.began, now - int((settling or 0.0) * SECOND))
        self._call_ended(attempt, settled_from, fields, None if outcome == "succeeded" else error or outcome)
        lost = outcome if outcome in {"lost", "unknown"} else None
        if settling is not None:
            self._settled(attempt, settled_from, now, lost)
        process.span.set_attribute("reactor.outcome", outcome)
        if prediction_id := fields.get("prediction_id"):
            process.span.set_attribute("reactor.prediction_id", self._fit(prediction_id))
        self._process_duration.record(*_end(process, now, error or lost))

    def _settled(self, attempt: _Attempt, began: int, ended: int, error: str | None) -> None:
        span = self._tracer.start_span(
            f"settle {self._table}",
            trace.set_span_in_context(attempt.process.span, Context()),
            SpanKind.CLIENT,
            self._messaging("settle"),
            start_time=began,
        )
        _end(_Timed(span, began, {}), ended, error)

    def _call_ended(self, attempt: _Attempt, at: int, fields: dict[str, Any], error: str | None) -> None:
        if (call := attempt.call) is None:
            return
        attempt.call = None
        if prediction_id := fields.get("prediction_id"):
            call.span.set_attribute("gen_ai.response.id", self._fit(prediction_id))
        self._call_duration.record(*_end(call, max(call.began, at), error))

    def _close(self, oldest: int) -> None:
        """Close so many of the oldest attempts, whose end no event told."""
        for key in list(islice(self._open, max(0, oldest))):
            self._over(self._open.pop(key), "unknown", {})

    def _messaging(self, operation: str, *, span: bool = True) -> dict[str, Any]:
        return {
            "messaging.system": "postgresql",
            "messaging.operation.name": operation,
            "messaging.destination.name": self._table,
            **({"messaging.operation.type": operation, "messaging.client.id": self._worker} if span else {}),
        }

    def _fit(self, text: Any) -> str:
        return self._redact(str(text), longest=LONGEST)


def _key(fields: dict[str, Any]) -> tuple[Any, Any]:
    return fields["token_id"], fields.get("epoch")


def _end(timed: _Timed, at: int, error: str | None) -> tuple[float, dict[str, Any]]:
    """End the span; return its duration in seconds, and the attributes to record it with."""
    attributes = timed.measured
    if error is not None:
        timed.span.set_status(StatusCode.ERROR)
        timed.span.set_attribute("error.type", error)
        attributes = attributes | {"error.type": error}
    timed.span.end(at)
    return (at - timed.began) / SECOND, attributes


def _context_of(traceparent: str | None) -> SpanContext | None:
    """The span that a W3C traceparent names. It was checked when it was read."""
    if traceparent is None:
        return None
    _, trace_id, span_id, flags = traceparent.split("-")
    sampled = TraceFlags(int(flags, 16) & TraceFlags.SAMPLED)
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=sampled)
