"""What a 429 asks for: how long to wait, and how many creates a minute to send at most."""

from __future__ import annotations

import math
import re
import time
from email.utils import mktime_tz, parsedate_tz
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reactor.providers.transport import Answer

SHORTEST_WAIT, LONGEST_WAIT = 0.1, 300.0  # seconds
USUAL_WAIT = 30.0  # seconds, if none is named; "resets in ~30s" is the documented text
_RESETS_IN = re.compile(r"resets in ~?\s*(\d+(?:\.\d+)?)\s*s", re.IGNORECASE)
# "… is reduced to 6 requests per minute with a burst of 1 requests while you have less than $5.0 in credit", or
# "until you add a payment method", or the burst alone.
_REDUCED_TO = re.compile(r"reduced to (\d{1,6}) requests? per (second|minute|hour)", re.IGNORECASE)
_BURST = re.compile(r"reduced to a burst of \d", re.IGNORECASE)
_A_MINUTE = {"second": 60.0, "minute": 1.0, "hour": 1 / 60}
USUAL_LIMIT = 6.0  # creates a minute, if only a burst is named: no other lower limit was seen
_LONGEST_DATE = 100  # characters
_MOST_READ = 4000  # characters of a text that are searched


def retry_after(answer: Answer) -> float:
    """Seconds to wait, from the header, the body or the text, in this order; SHORTEST_WAIT to LONGEST_WAIT."""
    body = answer.body or {}
    detail = body.get("detail")
    found = _RESETS_IN.search(detail[:_MOST_READ]) if isinstance(detail, str) else None
    named = (
        _seconds(answer.headers.get("retry-after"), answer),
        _seconds(body.get("retry_after"), answer),
        _seconds(found[1] if found else None, answer),
    )
    wait = next((seconds for seconds in named if seconds is not None), USUAL_WAIT)
    return min(max(wait, SHORTEST_WAIT), LONGEST_WAIT)


def lower_limit(answer: Answer) -> float | None:
    """Creates a minute that the account is reduced to for now; None if the answer names no such limit."""
    detail = (answer.body or {}).get("detail")
    if not isinstance(detail, str):
        return None
    named = _REDUCED_TO.search(detail[:_MOST_READ])
    if named is None:
        return USUAL_LIMIT if _BURST.search(detail[:_MOST_READ]) else None
    return int(named[1]) * _A_MINUTE[named[2].lower()] or None


def _seconds(value: object, answer: Answer) -> float | None:
    """A number of seconds, or an HTTP date; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and len(value) > _LONGEST_DATE:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = _until(str(value), answer)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) else None


def _until(date: str, answer: Answer) -> float:
    """Seconds from the answer to a date; NaN if it is not a date.

    If the answer has a `Date`, the provider's clock counts, because ours may be off.
    """
    answered_at = _timestamp(answer.headers.get("date", ""))
    return _timestamp(date) - (time.time() if math.isnan(answered_at) else answered_at)


def _timestamp(date: str) -> float:
    """Seconds since 1970. A date without a zone is read as UTC, as HTTP says. NaN if it is not a date."""
    try:
        parsed = parsedate_tz(date[:_LONGEST_DATE])
        return mktime_tz((*parsed[:9], parsed[9] or 0)) if parsed else math.nan
    except (ValueError, OverflowError, TypeError, IndexError):  # the parser was made for mail, and raises any of these
        return math.nan
