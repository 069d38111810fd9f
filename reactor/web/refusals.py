"""Answers refused requests; counts them by reason, and emits at most one event a minute."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING, Literal

from starlette.responses import JSONResponse, PlainTextResponse

from reactor import events
from reactor.telemetry import Trouble

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response
    from starlette.types import Scope

    from reactor.telemetry import Telemetry

EMIT_EVERY = 60.0  # seconds
Reason = Literal["malformed", "slow", "crowded", "host", "token", "origin"]


class Refusals:
    """Emits the first refusal at once, and those of the next minute together. `trouble` is for our own errors."""

    def __init__(self, telemetry: Telemetry, *, emit_every: float = EMIT_EVERY) -> None:
        self.trouble = Trouble(telemetry, "http")
        self._telemetry = telemetry
        self._emit_every = emit_every
        self._counts: Counter[str] = Counter()
        self._next: asyncio.TimerHandle | None = None

    def met(self, reason: Reason) -> None:
        """Count one refusal."""
        self._counts[reason] += 1
        if self._next is None:
            self._emit()

    def end(self) -> None:
        """Emit the refusals counted since the last event."""
        self._emit()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _emit(self) -> None:
        counts, self._counts, self._next = self._counts, Counter(), None
        if counts:
            self._telemetry.emit(events.HTTP_REFUSED, count=counts.total(), **counts)
            self._next = asyncio.get_running_loop().call_later(self._emit_every, self._emit)


def refused(scope: Scope, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a request that is not served: JSON below /api/, as openapi.py promises, else a line of text."""
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    if path.startswith("/api/"):
        return JSONResponse({"error": sentence}, status, headers)
    return PlainTextResponse(f"{sentence}\n", status, headers)


def quiet_logger(refusals: Refusals) -> logging.Logger:
    """A logger for uvicorn that writes nothing: a warning means a malformed request, an error is our own."""
    logger = logging.Logger("reactor.web", logging.WARNING)  # noqa: LOG001  (outside the host's logger hierarchy)
    logger.addHandler(_UvicornHandler(refusals))
    return logger


class _UvicornHandler(logging.Handler):
    def __init__(self, refusals: Refusals) -> None:
        super().__init__()
        self._refusals = refusals

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if record.levelno < logging.ERROR:
            self._refusals.met("malformed")
        elif error is None or isinstance(error, Exception):  # a cancellation with the worker is no error
            self._refusals.trouble.met(error or RuntimeError(record.getMessage()))
