"""Whether an attempt that failed counts against its token."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Blamed:
    """The failure is the token's own: the attempt counts."""


@dataclass(frozen=True, slots=True)
class Excused:
    """Other tokens have shown that the account or the provider is at fault: nothing counts against this token."""

    wait: float = 0.0  # seconds until the token may be tried again


Blame = Blamed | Excused
