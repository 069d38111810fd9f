"""Reads the filter of a list of tokens from a query, a form or a JSON object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reactor.operations.tokens import FilterError, TokenFilter
from reactor.text.durations import LONGEST_SHOWN, REFUSED, seconds_of
from reactor.text.foreign import fit_line

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_LIMIT, MOST = 50, 200  # tokens of one page
LIKE = {"for": ', like "10m"', "since": ', like "10m"', "status": ', like "failed"'}
LONGEST_CURSOR = 2_000  # characters: a table's key may be a text


def filter_of(given: Mapping[str, Any]) -> TokenFilter:
    """The filter by `status`, `matching` and `since`; an empty value is none. Raises FilterError."""
    return TokenFilter(
        status=text(given, "status"), matching=text(given, "matching"), since_seconds=seconds(given, "since")
    )


def text(given: Mapping[str, Any], name: str) -> str | None:
    """A text, None if it is empty. Raises FilterError."""
    value = given.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise FilterError(f"{name} must be a text{LIKE.get(name, '')}")
    if "\x00" in value or not _encodable(value):
        raise FilterError(f"{name} is no text that PostgreSQL can hold")
    return value


def seconds(given: Mapping[str, Any], name: str) -> float | None:
    """A duration in seconds. Raises FilterError."""
    if (value := text(given, name)) is None:
        return None
    if (found := seconds_of(value)) is None:
        raise FilterError(f"{fit_line(value, longest=LONGEST_SHOWN)!r} {REFUSED}")
    return found


def limit_of(given: Mapping[str, str]) -> int:
    """The most tokens to list. Raises FilterError."""
    value = text(given, "limit") or str(DEFAULT_LIMIT)
    if not (value.isascii() and value.isdecimal() and len(value) < 6 and 1 <= int(value) <= MOST):
        raise FilterError(f"limit is a whole number from 1 to {MOST}")
    return int(value)


def after_of(given: Mapping[str, str]) -> str | None:
    """Where the page begins. Raises FilterError."""
    value = text(given, "after")
    if value is not None and len(value) > LONGEST_CURSOR:
        raise FilterError("that is no place in the list: use the `next` of a page")
    return value


def _encodable(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
