"""Cleans every text that is stored or logged: it is redacted, made fit (foreign.py), then cut, in that order.

If a text were cut first, half a secret could survive. If it were not made fit, a NUL or a lone surrogate would make
PostgreSQL refuse the row that reports the error. Only a text that is far too long is cut before; then its last
characters are removed as well, because they may be half a secret.
"""

from __future__ import annotations

import codecs
import re
from copy import copy
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
        # A URL may contain a password plain or percent-encoded, and the driver's message may show the other form.
        spelled = {form for secret in secrets for form in (secret, unquote(secret), _quoted(secret))}
        known = sorted((form for form in spelled if len(form) >= _SHORTEST_SECRET), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None
        self._tail = max(_TAIL, *map(len, known), 0)
        self._codec: str | None = None

    def storing_in(self, encoding: str) -> Redactor:
        """A redactor whose texts a database of that encoding (by PostgreSQL's name) can hold."""
        other = copy(self)
        other._codec = _codec(encoding)  # noqa: SLF001  (its own)
        return other

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
        return text if self._codec is None else text.encode(self._codec, "replace").decode(self._codec)


def _codec(encoding: str) -> str | None:
    """Python's name of the encoding. None if it holds any text; ASCII, a part of all others, if Python lacks it."""
    if encoding in {"UTF8", "SQL_ASCII"}:
        return None
    name = re.sub(r"^WIN(?=\d)", "cp", re.sub(r"^KOI8(?=.)", "koi8_", encoding))
    try:
        return codecs.lookup(name).name
    except LookupError:
        return "ascii"


def _may_match(text: str) -> bool:
    """Whether _SHAPES could match at all, so that most texts skip its slow search."""
    return "@" in text or "8_" in text or "=" in text or "bearer" in text.lower()


def _quoted(secret: str) -> str:
    # Python reads an environment variable that is not UTF-8 with lone surrogates.
    return quote(secret, safe="", errors="surrogatepass")
