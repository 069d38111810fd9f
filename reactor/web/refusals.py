"""Requests that were refused: counted by reason, and told as one event a minute at most."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING, Literal

from reactor import events
from reactor.telemetry import Trouble

if TYPE_CHECKING:
    from reactor.telemetry import Telemetry

TELL_EVERY = 60.0  # seconds
Reason = Literal["malformed", "slow", "crowded", "host", "token"]


class Refusals:
    """The first is told at once, the rest of a minute together at its end. `trouble` is for faults of our own."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.trouble = Trouble(telemetry, "http")
        self._telemetry = telemetry
        self._counts: Counter[str] = Counter()
        self._next: asyncio.TimerHandle | None = None

    def met(self, reason: Reason) -> None:
        """Count one."""
        self._counts[reason] += 1
        if self._next is None:
            self._tell()

    def end(self) -> None:
        """Tell what was not told yet."""
        self._tell()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _tell(self) -> None:
        counts, self._counts, self._next = self._counts, Counter(), None
        if counts:
            self._telemetry.emit(events.HTTP_REFUSED, count=counts.total(), **counts)
            self._next = asyncio.get_running_loop().call_later(TELL_EVERY, self._tell)


def quiet_logger(refusals: Refusals) -> logging.Logger:
    """A logger for uvicorn that writes nothing: a warning is a request that makes no sense, an error is ours."""
    logger = logging.Logger("reactor.web", logging.WARNING)  # noqa: LOG001  (in nobody's hierarchy)
    logger.addHandler(_Heard(refusals))
    return logger


class _Heard(logging.Handler):
    def __init__(self, refusals: Refusals) -> None:
        super().__init__()
        self._refusals = refusals

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if record.levelno < logging.ERROR:
            self._refusals.met("malformed")
        elif error is None or isinstance(error, Exception):  # not one that was cancelled with the worker
            self._refusals.trouble.met(error or RuntimeError(record.getMessage()))
