"""Delivers events to sinks. Code emits an event once; each sink (logs, metrics) formats it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from reactor import events
from reactor.text.messages import message_of

if TYPE_CHECKING:
    from collections.abc import Callable

REPEATS_EVERY = 60.0  # seconds between two lines about one kind of error


class Sink(Protocol):
    """Receives events. Must not block, await or raise."""

    def __call__(self, event: str, fields: dict[str, Any]) -> None:
        """Receive one event, named `noun.past_verb`, with flat fields."""


class Repeats:
    """Emits the first error of a role and kind, then counts its repeats and emits their number once a minute.

    An error with a prediction id is always emitted: that prediction may be paid for, and no other line names it.
    """

    def __init__(self, emit: Callable[[dict[str, Any]], None]) -> None:
        self._emit = emit
        self._counted: dict[tuple[Any, Any], tuple[int, dict[str, Any]]] = {}  # repeats, and the last one's fields

    def suppress(self, fields: dict[str, Any]) -> bool:
        """Count the error if it is a repeat, and return True: then it must not be emitted now."""
        if fields.get("prediction_id") is not None:
            return False
        kind = fields.get("role"), fields.get("error_type")
        if kind in self._counted:
            self._counted[kind] = self._counted[kind][0] + 1, fields
            return True
        self._wait(kind, fields)
        return False

    def _wait(self, kind: tuple[Any, Any], fields: dict[str, Any]) -> None:
        if _call_later(REPEATS_EVERY, partial(self._flush, kind)):  # without a loop the repeats could not be emitted
            self._counted[kind] = 0, fields

    def _flush(self, kind: tuple[Any, Any]) -> None:
        count, fields = self._counted.pop(kind, (0, {}))
        if count:
            self._wait(kind, fields)
            self._emit(fields | {"count": count})

    def flush(self) -> None:
        """Emit the repeats that were counted so far."""
        for kind in list(self._counted):
            self._flush(kind)


class Telemetry:
    """Delivers each event to every sink.

    Events about tokens are queued and delivered in the loop's next turn: the attempt goes on first, which brings its
    request to the provider 0.1 ms sooner. Any other event is delivered at once, and the queue before it.
    """

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks
        self._queue: list[tuple[str, dict[str, Any]]] = []
        self._repeats = Repeats(partial(self._enqueue, events.WORKER_ERROR))

    def emit(self, event: str, **fields: Any) -> None:
        """Emit an event; repeated errors are counted (see Repeats). Fields never contain prompts or secrets."""
        if event == events.WORKER_ERROR and self._repeats.suppress(fields):
            return
        if event == events.WORKER_STOPPED:
            self._repeats.flush()
        self._enqueue(event, fields)

    def _enqueue(self, event: str, fields: dict[str, Any]) -> None:
        self._queue.append((event, fields))
        if not event.startswith("token"):
            self._flush()
        elif len(self._queue) == 1:
            _call_soon(self._flush)

    def _flush(self) -> None:
        queue, self._queue = self._queue, []
        for event, fields in queue:
            for sink in self._sinks:
                sink(event, fields)


def _call_later(seconds: float, flush: Callable[[], None]) -> bool:
    """Schedule the call, and return True; False if no loop runs."""
    try:
        asyncio.get_running_loop().call_later(seconds, flush)
    except RuntimeError:
        return False
    return True


def _call_soon(flush: Callable[[], None]) -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        flush()
    else:
        loop.call_soon(flush)


class Trouble:
    """One role's errors. Each kind is emitted once when it begins, and again only after `passed`."""

    def __init__(self, telemetry: Telemetry, role: str) -> None:
        self._telemetry = telemetry
        self._role = role
        self._emitted: set[str] = set()

    def met(self, error: Exception) -> None:
        """Emit the error, unless one of its kind was emitted since the last `passed`, or another role tells it."""
        if getattr(error, "told_elsewhere", False):
            return
        kind = type(error).__name__
        if kind not in self._emitted:
            self._emitted.add(kind)
            self._telemetry.emit(events.WORKER_ERROR, role=self._role, error_type=kind, error_message=message_of(error))

    def passed(self) -> None:
        """Record that the role works again: the next error is emitted, whatever its kind."""
        self._emitted.clear()
