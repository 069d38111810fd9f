"""Events as log lines: JSON on stdout for machines, colours on a terminal, or the host application's logging."""

from __future__ import annotations

import io
import logging
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import structlog

from reactor import events
from reactor.text.foreign import LONGEST_LINE, fit, fit_values

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from reactor.text.redaction import Redactor

# All other events are logged at INFO: a token's life in two lines, and the worker's start and stop.
_LEVELS = {
    events.WORKER_ERROR: logging.ERROR,
    events.WORKER_RESTRICTED: logging.WARNING,
    events.LISTENER_LOST: logging.WARNING,
    events.LISTENER_DEGRADED: logging.WARNING,
    events.LOCK_BLOCKED: logging.WARNING,
    events.INTAKE_PAUSED: logging.WARNING,
    events.INTAKE_LIMITED: logging.WARNING,
    events.HTTP_REFUSED: logging.WARNING,
    events.GENERATION_RETRIED: logging.WARNING,
    events.GENERATION_EXHAUSTED: logging.ERROR,
    events.GENERATION_FAILED: logging.ERROR,
    events.LEASE_LOST: logging.WARNING,
    events.CENSORED: logging.WARNING,
    events.CREATE_SENT: logging.DEBUG,
    events.PURCHASE_ENDED: logging.DEBUG,
    events.TOKENS_CLAIMED: logging.DEBUG,
    events.WATCH_TAKEN: logging.DEBUG,
    events.WATCH_LEFT: logging.DEBUG,
    events.WATCH_TAKEN_ELSEWHERE: logging.DEBUG,
}

_NO_TEXT = (int, float, datetime)
_LONGEST_EVENT = len(events.GENERATION_SUCCEEDED)


class StructuredLog:
    """The sink of the command line: one line for each event, on stdout unless a stream is given."""

    def __init__(
        self, redact: Redactor, *, level: str = "INFO", style: str | None = None, stream: TextIO | None = None
    ) -> None:
        self._level = logging.getLevelName(level)
        out = stream or sys.stdout
        if isinstance(out, io.TextIOWrapper):  # its encoding may lack our "…"
            out.reconfigure(errors="backslashreplace")
        terminal = out.isatty()
        console = (style or ("console" if terminal else "json")) == "console"
        self._logger = structlog.wrap_logger(
            structlog.WriteLogger(out),
            # Redact first: the processors after it add no secret.
            processors=[_redacting(redact), *(_for_people(colours=terminal) if console else [_json])],
            wrapper_class=structlog.make_filtering_bound_logger(level),
        ).bind()  # once, not at every event

    def __call__(self, event: str, fields: dict[str, Any]) -> None:
        level = _LEVELS.get(event, logging.INFO)
        if level >= self._level:
            with suppress(OSError):  # a full disk or a closed pipe must not stop a generation
                self._logger.log(level, event, timestamp=datetime.now(tz=UTC), **fields)


def _for_people(*, colours: bool) -> list[Any]:
    return [structlog.processors.add_log_level, _time_of_day, _console(colours=colours)]


def _time_of_day(_logger: Any, _method: str, fields: Any) -> Any:
    now = fields["timestamp"].astimezone()
    present = {name: value for name, value in fields.items() if value is not None}
    return {**present, "timestamp": f"{now:%H:%M:%S}.{now.microsecond // 1000:03}"}


def _console(*, colours: bool) -> structlog.dev.ConsoleRenderer:
    """For people: time of day, level, event, token and attempt in columns, then the other fields in their order."""

    def column(style: str, *, key: str | None = None, width: int = 0) -> structlog.dev.KeyValueColumnFormatter:
        paint = (lambda colour: colour) if colours else (lambda _colour: "")
        return structlog.dev.KeyValueColumnFormatter(
            key_style=None if key is None else paint(key),
            value_style=paint(style),
            reset_style=paint(structlog.dev.RESET_ALL),
            value_repr=_plain,
            width=width,
        )

    levels = structlog.dev.ConsoleRenderer.get_default_level_styles(colors=colours)
    reset = structlog.dev.RESET_ALL if colours else ""
    dim, bright, cyan = structlog.dev.DIM, structlog.dev.BRIGHT, structlog.dev.CYAN
    return structlog.dev.ConsoleRenderer(
        sort_keys=False,
        columns=[
            structlog.dev.Column("timestamp", column(dim)),
            structlog.dev.Column("level", structlog.dev.LogLevelColumnFormatter(levels, reset)),
            structlog.dev.Column("event", column(bright, width=_LONGEST_EVENT)),
            structlog.dev.Column("token_id", column(bright, key=cyan, width=5)),
            structlog.dev.Column("attempt", column("", key=cyan)),
            structlog.dev.Column("", column("", key=cyan)),
        ],
    )


def _plain(value: Any) -> str:
    """The value as text; quoted and escaped if it has spaces or control characters."""
    text = f"{value}"
    return text if text.isprintable() and " " not in text else repr(text)


class HostLog:
    """The sink inside another application: its logging, handlers and level are used."""

    def __init__(self, redact: Redactor) -> None:
        self._redact = redact
        self._logger = logging.getLogger("reactor")

    def __call__(self, event: str, fields: dict[str, Any]) -> None:
        level = _LEVELS.get(event, logging.INFO)
        if self._logger.isEnabledFor(level):
            clean = _clean(self._redact, fields)
            self._logger.log(level, "%s %s", event, _dumps(clean), extra={"reactor": clean})


def _redacting(redact: Redactor) -> Callable[[Any, str, Any], Any]:
    return lambda _logger, _method, fields: _clean(redact, fields)


def _clean(redact: Redactor, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields without secrets, safe to show. Values without text (most of them) are skipped, which saves time."""

    def clean(text: str) -> str:
        return redact(text, longest=LONGEST_LINE)

    return {
        fit(name): value if value is None or isinstance(value, _NO_TEXT) else fit_values(value, clean)
        for name, value in fields.items()
    }


def _json(_logger: Any, method: str, fields: Any) -> str:
    # One processor, because each of structlog's own takes about as long as this whole line.
    first = {"timestamp": fields.pop("timestamp"), "level": method, "event": fields.pop("event")}
    return _dumps(first | fields)


def _dumps(fields: dict[str, Any]) -> str:
    """One line of JSON, for values of any type."""
    try:
        return _line(fields)
    except TypeError:
        return _line({name: _acceptable(value) for name, value in fields.items()})


def _acceptable(value: Any) -> Any:
    """The value, or its text if orjson refuses it: it refuses lone surrogates and integers beyond 64 bits."""
    try:
        _line(value)
    except TypeError:
        return fit(str(value))
    return value


def _line(value: Any) -> str:
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z).decode()
