"""What is stored or logged passes through here: redacted, made fit (foreign.py), then cut, in that order.

Cut first, and half a secret would survive; store first, and a NUL or a lone surrogate would make PostgreSQL refuse
the very row that reports the error.
"""

from __future__ import annotations

import codecs
import json
import re
from copy import copy
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from reactor.foreign import fit

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST = 1000  # characters, as `generation_error` holds them
_SHORTEST_SECRET = 6  # characters; anything shorter would blank out ordinary words
_SHORTEST_PROMPT = 5  # characters; "cat" gives nothing away, and "E005" or "NSFW" would hide what a text means
_TELLING = 16  # characters of a prompt's beginning by which it is recognised, however much of the rest is repeated
_SHAPES = re.compile(
    r"(?i)(\bbearer\s+|\bpassword=)[^\s\"'&,;]+"
    r"|(?<![a-z])r8_[\w-]{4,}"
    r"|(?<=://)[^\s/?#]+(?=@)"  # a URL's user and password
)


class Redactor:
    """Makes any text fit to be stored or logged."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # A password may stand in a URL as it is or percent-encoded, and the driver's message tells the other form.
        spelled = {form for secret in secrets for form in (secret, unquote(secret), _quoted(secret))}
        known = sorted((form for form in spelled if len(form) >= _SHORTEST_SECRET), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None
        self._codec: str | None = None

    def storing_in(self, encoding: str) -> Redactor:
        """One whose texts a database of that encoding can hold, which is named as PostgreSQL names it."""
        other = copy(self)
        other._codec = _codec(encoding)  # noqa: SLF001  (its own)
        return other

    def __call__(self, text: str, *, longest: int = LONGEST) -> str:
        """Return `text` without secrets and made fit, at most `longest` characters long."""
        if self._known is not None:
            text = self._known.sub("[redacted]", text)
        if _may_tell(text):
            text = _SHAPES.sub(r"\1[redacted]", text)
        text = fit(text)
        if len(text) > longest:
            text = text[: longest - 1] + "…"
        return text if self._codec is None else text.encode(self._codec, "replace").decode(self._codec)


def _codec(encoding: str) -> str | None:
    """Python's name of it; None where any text can be stored, and ASCII, a part of all others, where it has none."""
    if encoding in {"UTF8", "SQL_ASCII"}:
        return None
    name = re.sub(r"^WIN(?=\d)", "cp", re.sub(r"^KOI8(?=.)", "koi8_", encoding))
    try:
        return codecs.lookup(name).name
    except LookupError:
        return "ascii"


def _may_tell(text: str) -> bool:
    """Whether _SHAPES could find anything: most texts are spared its slow search."""
    return "@" in text or "8_" in text or "=" in text or "bearer" in text.lower()


def _quoted(secret: str) -> str:
    # A variable with bytes that are no UTF-8 comes with lone surrogates.
    return quote(secret, safe="", errors="surrogatepass")


def without_prompt(text: str, prompt: str | None) -> str:
    """Blank out what a text repeats of the prompt: whole, or only its beginning, as it is or escaped for JSON."""
    spellings = _spellings(prompt or "")
    for beginning in sorted({spelled[:_TELLING] for spelled in spellings}, key=len, reverse=True):
        place = text.find(beginning)
        while place >= 0:
            repeated = max(_shared(spelled, text[place : place + len(spelled)]) for spelled in spellings)
            text = f"{text[:place]}[prompt]{text[place + repeated :]}"
            place = text.find(beginning, place + len("[prompt]"))
    return text


def _spellings(prompt: str) -> list[str]:
    stripped = prompt.strip()
    escaped = {json.dumps(stripped, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)}
    spelled = {stripped, " ".join(stripped.split())} | escaped
    return [form for form in spelled if len(form) >= _SHORTEST_PROMPT]


def _shared(one: str, other: str) -> int:
    """How many characters both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))
