"""`Cancel-After`: how long a prediction may live, as the API's description has it."""

from __future__ import annotations

import re

from reactor.sandbox.bounds import LONGEST

LEAST = 5.0  # seconds
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", re.ASCII)


def seconds_of(cancel_after: str | None) -> float | None:
    """`1h30m45s`, `90s` or `90` in seconds; None for None. Raises ValueError for anything else, and below LEAST."""
    if cancel_after is None:
        return None
    parts = _DURATION.fullmatch(cancel_after.strip()) if len(cancel_after) < 100 else None
    if parts is None or not any(parts.groups()):
        raise ValueError("not a duration of hours, minutes and seconds, like 1h30m45s")
    hours, minutes, seconds = (int(part or 0) for part in parts.groups())
    total = 3600.0 * hours + 60.0 * minutes + seconds
    if not LEAST <= total <= LONGEST:
        raise ValueError(f"must be at least {LEAST:g} seconds, and at most {LONGEST:.0f}")
    return total
