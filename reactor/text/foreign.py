"""Makes foreign text fit to be shown, stored and logged. All code that prints, stores or logs such text uses this.

Foreign text is text that others wrote: a prompt, a provider's answer, an operator's reason, a message of the database.
A NUL or a surrogate makes PostgreSQL and JSON refuse the text. A terminal obeys control characters. Format and
bidirectional characters hide or turn the text beside them. Each of these becomes U+FFFD, or a space if it is a kind of
space.

Four of them stay: tab and line feed, and the joiners U+200C and U+200D, because Persian, the scripts of India and emoji
need them. Variation selectors are marks, not format characters, and stay too. `fit_line` is for text that must be one
line, because a line feed would let the text add lines of its own: it also turns tab and line feed into spaces.

This module knows nothing of secrets and prompts. See redaction.py, which removes secrets first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_LINE = 2048  # characters
_DEEPEST = 5  # levels of nested values; a deeper value becomes one text
# Unicode's categories Cc, Cf, Cs, Zl and Zp without those that stay; also U+2065, U+FFF0 to U+FFF8 and the other tags,
# which Unicode reserves for future format characters.
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff0-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
)


def fit(text: str) -> str:
    """Return `text` with unfit characters replaced. Its length and its lines stay the same."""
    if text.isprintable():
        return text
    return _UNFIT.sub(lambda found: " " if found[0].isspace() else "\ufffd", text)


def fit_line(text: str, *, longest: int = LONGEST_LINE) -> str:
    """Return `text` with unfit characters replaced, as one line of at most `longest` characters."""
    if len(text) > longest:
        text = f"{text[: longest - 1]}…"
    return fit(text).replace("\n", " ").replace("\t", " ")


def fit_values(value: Any, make: Callable[[str], str] = fit, *, deepest: int = _DEEPEST) -> Any:
    """Return a value with `make` applied to every text in it: keys, items, and the text of any unknown type."""
    match value:
        case str():
            return make(value)
        case None | bool() | int() | float():
            return value
        case dict() if deepest:
            return {
                fit_values(name, make, deepest=0): fit_values(each, make, deepest=deepest - 1)
                for name, each in value.items()
            }
        case list() | tuple() if deepest:
            return [fit_values(each, make, deepest=deepest - 1) for each in value]
        case _:
            return make(str(value))
