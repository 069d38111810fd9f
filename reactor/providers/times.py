"""A prediction's times. They come from the provider's clock, so they are compared only with each other."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

LONGEST_DURATION = 86400.0  # seconds; a longer one is not believed, because the provider ends a prediction long before
_LONGEST_TEXT = 64  # characters


def parse_time(value: object) -> datetime | None:
    """A time as the API writes it, in UTC if it names no zone; None for anything else."""
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        return None  # str(value) may fail, because a list may be nested too deep for Python to print
    try:
        read = datetime.fromisoformat(value)
    except ValueError:
        return None
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def duration_of(body: dict[str, Any]) -> float | None:
    """Seconds from a prediction's creation to its end, or else the total or running time in its metrics.

    None if none of these is usable.
    """
    created, completed = parse_time(body.get("created_at")), parse_time(body.get("completed_at"))
    between = (completed - created).total_seconds() if created and completed else None
    metrics = body.get("metrics")
    totals = metrics if isinstance(metrics, dict) else {}
    return next(filter(_usable, (between, totals.get("total_time"), totals.get("predict_time"))), None)


def predict_seconds(body: dict[str, Any]) -> float | None:
    """Seconds that the model ran for a prediction, as its metrics say."""
    metrics = body.get("metrics")
    seconds = metrics.get("predict_time") if isinstance(metrics, dict) else None
    return next(filter(_usable, (seconds,)), None)


def _usable(seconds: object) -> bool:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return False
    return 0.0 <= seconds < LONGEST_DURATION  # a NaN is not
