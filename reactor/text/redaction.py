"""Cleans every text that is stored or logged: it is redacted, made fit (foreign.py), then cut, in that order.

If a text were cut first, half a secret could survive. If it were not made fit, a NUL or a lone surrogate would make
PostgreSQL refuse the row that reports the error. Only a text that is far too long is cut before; then its last
characters are removed as well, because they may be half a secret.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from reactor.text.foreign import fit

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST = 1000  # characters that fit into `generation_error`
_SHORTEST_SECRET = 6  # characters; anything shorter would blank out ordinary words
_MOST_READ = 8000  # characters of one text; more would take too long
_TAIL = 256  # characters removed where a text was cut: half a secret, if no known secret is longer
_SHAPES = re.compile(
    r"(?i)(\bbearer\s+|\bpassword=)[^\s\"'&,;]+"
    r"|(?<![a-z])r8_[\w-]{4,}"
    r"|(?<=://)[^\s/?#]+(?=@)"  # a URL's user and password
)


class Redactor:
    """Makes any text fit to be stored or logged."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._spelled: set[str] = set()
        self._known: re.Pattern[str] | None = None
        self._tail = _TAIL
        self.learn(*secrets)

    def learn(self, *secrets: str) -> None:
        """Redact these secrets too, from now on: a secret was rotated."""
        # A URL may contain a password plain or percent-encoded, and the driver's message may show the other form.
        spelled = {form for secret in secrets for form in (secret, unquote(secret), _quoted(secret))}
        if spelled <= self._spelled:
            return
        self._spelled |= spelled
        known = sorted((form for form in self._spelled if len(form) >= _SHORTEST_SECRET), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None
        self._tail = max(_TAIL, *map(len, known), 0)

    def __call__(self, text: str, *, longest: int = LONGEST) -> str:
        """Return `text` without secrets and made fit, at most `longest` characters long."""
        cut = len(text) > _MOST_READ
        text = text[:_MOST_READ]
        if self._known is not None:
            text = self._known.sub("[redacted]", text)
        if _may_match(text):
            text = _SHAPES.sub(r"\1[redacted]", text)
        if cut:
            text = f"{text[: -self._tail]}…"
        text = fit(text)
        if len(text) > longest:
            text = text[: longest - 1] + "…"
        return text


def _may_match(text: str) -> bool:
    """Whether _SHAPES could match at all, so that most texts skip its slow search."""
    return "@" in text or "8_" in text or "=" in text or "bearer" in text.lower()


def _quoted(secret: str) -> str:
    # Python reads an environment variable that is not UTF-8 with lone surrogates.
    return quote(secret, safe="", errors="surrogatepass")
