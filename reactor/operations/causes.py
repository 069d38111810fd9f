"""Groups errors by cause: texts that differ only in a number, an id or a URL are one cause."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

UNKNOWN = "no reason given"
LONGEST_CAUSE = 160  # characters
_VARYING = (
    (re.compile(r"https?://[^\s\"'<>]+"), "…"),
    (re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE), "…"),
    # Ids of predictions and requests: long, and with both letters and digits.
    (re.compile(r"\b(?=[a-z_-]*\d)(?=[\d_-]*[a-z])[\w-]{12,}\b", re.IGNORECASE | re.ASCII), "…"),
    (re.compile(r"\d+(?:[.,]\d+)*"), "#"),
)


@dataclass(frozen=True, slots=True)
class Cause:
    """Tokens that failed for one reason, and one of them."""

    cause: str
    tokens: int
    example: str | None  # its token id


def cause_of(error: str) -> str:
    """The error without what differs from token to token."""
    for varying, same in _VARYING:
        error = varying.sub(same, error)
    return error[:LONGEST_CAUSE].strip() or UNKNOWN


def by_cause(texts: Iterable[tuple[str, int, str | None]]) -> list[Cause]:
    """Group (error, tokens, token id) by cause, the most frequent first."""
    tokens: dict[str, int] = defaultdict(int)
    examples: dict[str, str | None] = {}
    for error, count, token_id in texts:
        cause = cause_of(error)
        tokens[cause] += count
        examples.setdefault(cause, token_id)
    ordered = sorted(tokens, key=lambda cause: (-tokens[cause], cause))
    return [Cause(cause, tokens[cause], examples[cause]) for cause in ordered]
