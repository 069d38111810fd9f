"""Durations as people write them: `90s`, `10m`, `1h30m`, `2d`."""

from __future__ import annotations

import re

LONGEST = 366 * 86400.0  # seconds
LONGEST_SHOWN = 60  # characters of another text in a refusal
REFUSED = "is no duration like 90s, 10m, 1h30m or 2d, of at most a year"  # what a refusal says of another text
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = r"(\d{1,9}(?:\.\d{1,9})?)([smhd])"


def seconds_of(text: str) -> float | None:
    """The seconds, more than zero and at most a year; None for any other text."""
    parts = re.findall(_PART, text, re.ASCII)
    seconds = sum(float(count) * _UNITS[unit] for count, unit in parts)
    return seconds if "".join(map("".join, parts)) == text and 0 < seconds <= LONGEST else None
