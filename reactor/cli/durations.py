"""Durations on the command line."""

from __future__ import annotations

from typing import Any

import click

from reactor.text.durations import LONGEST_SHOWN, REFUSED, seconds_of
from reactor.text.foreign import fit_line


class Duration(click.ParamType[float]):
    """`90s`, `10m`, `1h30m` or `2d` as seconds, more than zero and at most a year."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds. Any other text is a usage error."""
        if isinstance(value, float):
            return value
        if (seconds := seconds_of(value)) is None:
            self.fail(f"{fit_line(value, longest=LONGEST_SHOWN)!r} {REFUSED}", param, ctx)
        return seconds
