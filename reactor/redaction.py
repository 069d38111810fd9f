"""What is stored or logged passes through here: redacted, sanitised, then cut, in that order.

Cut first, and half a secret would survive; store first, and a NUL or a lone surrogate would make PostgreSQL refuse
the very row that reports the error.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST = 1000  # characters, as `generation_error` holds them
_SHORTEST_SECRET = 6  # characters; anything shorter would blank out ordinary words
_SHAPES = re.compile(r"(?i)\br8_[\w-]{4,}|(?<=bearer )[^\s\"']+|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)")


class Redactor:
    """Makes any text fit to be stored or logged."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted({secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}, key=len, reverse=True)
        self._known = re.compile("|".join(re.escape(secret) for secret in known)) if known else None

    def __call__(self, text: str, *, longest: int = LONGEST) -> str:
        """Return `text` without secrets, NULs and lone surrogates, at most `longest` characters long."""
        if self._known is not None:
            text = self._known.sub("[redacted]", text)
        text = _SHAPES.sub("[redacted]", text)
        text = text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")
        return text if len(text) <= longest else text[: longest - 1] + "…"
