"""Durations on the command line."""

from __future__ import annotations

import re
from typing import Any

import click

from reactor.text.foreign import fit_line

LONGEST = 366 * 86400.0  # seconds
LONGEST_SHOWN = 60  # characters of a bad value in the error
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = r"(\d{1,9}(?:\.\d{1,9})?)([smhd])"


class Duration(click.ParamType[float]):
    """`90s`, `10m`, `1h30m` or `2d` as seconds, more than zero and at most a year."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds. Any other text is a usage error."""
        if isinstance(value, float):
            return value
        parts = re.findall(_PART, value, re.ASCII)
        seconds = sum(float(count) * _UNITS[unit] for count, unit in parts)
        if "".join(map("".join, parts)) != value or not 0 < seconds <= LONGEST:
            given = fit_line(value, longest=LONGEST_SHOWN)
            self.fail(f"{given!r} is no duration like 90s, 10m, 1h30m or 2d, of at most a year", param, ctx)
        return seconds
