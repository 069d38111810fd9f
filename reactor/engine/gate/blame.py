"""Whether an attempt that failed counts against its token."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Blamed:
    """The failure is the token's own: the attempt counts."""


@dataclass(frozen=True, slots=True)
class Excused:
    """The account or the provider is at fault, as other tokens have shown: nothing counts against this token."""

    wait: float = 0.0  # seconds until the token may be tried again


Blame = Blamed | Excused
