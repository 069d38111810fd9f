"""What happened, told once. Code emits; sinks (logs, metrics) format."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from reactor.messages import message_of

if TYPE_CHECKING:
    from collections.abc import Callable


class Sink(Protocol):
    """Takes events. Must not block, await or raise."""

    def __call__(self, event: str, fields: dict[str, Any]) -> None:
        """Take one event, named `noun.past_verb`, with flat fields."""


class Telemetry:
    """Fans events out to the sinks.

    What happens to tokens is noted as it happens, and told in the loop's next turn, when the request that it tells of
    has left. Whatever else is told brings what was noted before it along.
    """

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks
        self._noted: list[tuple[str, dict[str, Any]]] = []

    def emit(self, event: str, **fields: Any) -> None:
        """Tell every sink. Prompts and secrets are never among the fields."""
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
            self._telemetry.emit("worker.error", role=self._role, error_type=kind, error_message=message_of(error))

    def passed(self) -> None:
        """The next error is news again."""
        self._told.clear()
