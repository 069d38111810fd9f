"""What happened, told once. Code emits; sinks (logs, metrics) format."""

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
    """Takes events. Must not block, await or raise."""

    def __call__(self, event: str, fields: dict[str, Any]) -> None:
        """Take one event, named `noun.past_verb`, with flat fields."""


class Repeats:
    """Errors of a role and kind that were told a moment ago: further ones are counted, and told together.

    One with a prediction id is always told: that prediction may have been paid for, and nothing else names it.
    """

    def __init__(self, tell: Callable[[dict[str, Any]], None]) -> None:
        self._tell = tell
        self._counted: dict[tuple[Any, Any], tuple[int, dict[str, Any]]] = {}  # how many, and the last one's fields

    def counts(self, fields: dict[str, Any]) -> bool:
        """Whether the error is counted, and not to be told now."""
        if fields.get("prediction_id") is not None:
            return False
        kind = fields.get("role"), fields.get("error_type")
        if kind in self._counted:
            self._counted[kind] = self._counted[kind][0] + 1, fields
            return True
        self._wait(kind, fields)
        return False

    def _wait(self, kind: tuple[Any, Any], fields: dict[str, Any]) -> None:
        if _later(REPEATS_EVERY, partial(self._told, kind)):  # else nothing could tell them later
            self._counted[kind] = 0, fields

    def _told(self, kind: tuple[Any, Any]) -> None:
        count, fields = self._counted.pop(kind, (0, {}))
        if count:
            self._wait(kind, fields)
            self._tell(fields | {"count": count})

    def tell(self) -> None:
        """Tell what was counted so far."""
        for kind in list(self._counted):
            self._told(kind)


class Telemetry:
    """Fans events out to the sinks.

    What happens to tokens is noted as it happens, and told in the loop's next turn, when the request that it tells of
    has left. Whatever else is told brings what was noted before it along.
    """

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks
        self._noted: list[tuple[str, dict[str, Any]]] = []
        self._repeats = Repeats(partial(self._note, events.WORKER_ERROR))

    def emit(self, event: str, **fields: Any) -> None:
        """Tell every sink; of errors that repeat, how many. Prompts and secrets are never among the fields."""
        if event == events.WORKER_ERROR and self._repeats.counts(fields):
            return
        if event == events.WORKER_STOPPED:
            self._repeats.tell()
        self._note(event, fields)

    def _note(self, event: str, fields: dict[str, Any]) -> None:
        self._noted.append((event, fields))
        if not event.startswith("token"):
            self._tell()
        elif len(self._noted) == 1:
            _soon(self._tell)

    def _tell(self) -> None:
        noted, self._noted = self._noted, []
        for event, fields in noted:
            for sink in self._sinks:
                sink(event, fields)


def _later(seconds: float, tell: Callable[[], None]) -> bool:
    """Whether there is a loop, which is going to call this."""
    try:
        asyncio.get_running_loop().call_later(seconds, tell)
    except RuntimeError:
        return False
    return True


def _soon(tell: Callable[[], None]) -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        tell()
    else:
        loop.call_soon(tell)


class Trouble:
    """One role's faults, each kind told once when it begins and not again until all have passed."""

    def __init__(self, telemetry: Telemetry, role: str) -> None:
        self._telemetry = telemetry
        self._role = role
        self._told: set[str] = set()

    def met(self, error: Exception) -> None:
        """Tell of the error, unless one of its kind was told already."""
        kind = type(error).__name__
        if kind not in self._told:
            self._told.add(kind)
            self._telemetry.emit(events.WORKER_ERROR, role=self._role, error_type=kind, error_message=message_of(error))

    def passed(self) -> None:
        """The next error is news again."""
        self._told.clear()
