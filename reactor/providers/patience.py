"""How long a 429 asks us to wait."""

from __future__ import annotations

import math
import re
import time
from email.utils import mktime_tz, parsedate_tz
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reactor.providers.transport import Answer

SHORTEST_WAIT, LONGEST_WAIT = 0.1, 300.0  # seconds
USUAL_WAIT = 30.0  # seconds, where none is named; "resets in ~30s" is the documented text
_RESETS_IN = re.compile(r"resets in ~?\s*(\d+(?:\.\d+)?)\s*s", re.IGNORECASE)


def retry_after(answer: Answer) -> float:
    """Seconds to wait, from the header, the body or the text, in this order; SHORTEST_WAIT to LONGEST_WAIT."""
    body = answer.body or {}
    found = _RESETS_IN.search(str(body.get("detail", "")))
    named = (
        _seconds(answer.headers.get("retry-after")),
        _seconds(body.get("retry_after")),
        _seconds(found[1] if found else None),
    )
    wait = next((seconds for seconds in named if seconds is not None), USUAL_WAIT)
    return min(max(wait, SHORTEST_WAIT), LONGEST_WAIT)


def _seconds(value: object) -> float | None:
    """A number of seconds, or an HTTP date; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = _until(str(value))
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) else None


def _until(date: str) -> float:
    parsed = parsedate_tz(date)
    try:
        return mktime_tz(parsed) - time.time() if parsed else math.nan
    except (ValueError, OverflowError):
        return math.nan
