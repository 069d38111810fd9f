r"""A normal form of a text, the same for all its spellings: in another case, spaced, accented or escaped.

The normal form keeps only letters, digits and symbols, in lower case and without accents, each as its UTF-8 bytes. So a
Chinese character weighs as much as three Latin letters. Each byte knows its place in the original text.

Programs escape a text like JSON and Python (`\u00e4`, `\xc3\xa4`, `\n`), like HTML (`&auml;`, `&#228;`) or like URLs
(`%C3%A4`). These escapes are undone, nested up to MOST_LEVELS times. The time is linear in the text.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, chain, repeat
from unicodedata import category, normalize

MOST_LEVELS = 3  # of escapes inside escapes
_ESCAPE = re.compile(
    r"(?P<pair>\\{1,8}u[dD][89abAB][0-9a-fA-F]{2}\\{1,8}u[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|(?:\\{1,8}[uU]|%u)(?P<code>0[0-9a-fA-F]{7}|[0-9a-fA-F]{4})"
    r"|(?P<bytes>(?:(?:\\{1,8}x|%)[0-9a-fA-F]{2})+)"
    r"|(?P<entity>&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});?)"
    r"|\\{1,8}(?P<sign>[^a-zA-Z0-9\\]|[abfnrtv])"
)
_BYTE = re.compile(r"(?:x|%)([0-9a-fA-F]{2})")
_LATIN = {0xDC00 + byte: byte for byte in range(0x80, 0x100)}  # Python escapes a Latin-1 character as one byte
_MOST_LETTERS = 3  # of one character: some Unicode characters expand to whole sentences
_HANGUL = range(0xAC00, 0xD7A4)  # NFKD would split these into their letters


@dataclass(frozen=True, slots=True)
class Spelled:
    """A normal form. The byte at `place` comes from `text[starts[place]:ends[place]]`."""

    normal: str  # a character per byte
    starts: list[int]
    ends: list[int]
    words: frozenset[int]  # places where a word begins


def cut(text: str, most: int) -> str:
    """The longest beginning of the text whose normal form has at most `most` bytes."""
    if text.isascii():  # a byte per character at most
        return text[:most]
    weights = accumulate(len(_form(character)) for character in text)
    return text[: next((place for place, weight in enumerate(weights) if weight > most), len(text))]


def normal(text: str) -> str:
    """The normal form alone, a character per byte: much quicker than `spelled` if the text is ASCII."""
    return text.translate(_ASCII_FORMS) if text.isascii() else "".join(map(_form, text))


def spelled(text: str) -> Spelled:
    """The normal form of a text as it is."""
    places = list(range(len(text) + 1))
    return _normal(text, places[:-1], places[1:])


def unescaped(text: str) -> Spelled:
    """The normal form of a text after undoing all that looks like an escape."""
    places = list(range(len(text) + 1))
    starts, ends = places[:-1], places[1:]
    for _ in range(MOST_LEVELS):
        before = text
        text, starts, ends = _undone(text, starts, ends)
        if text == before:
            break
    return _normal(text, starts, ends)


def _normal(text: str, starts: list[int], ends: list[int]) -> Spelled:
    forms = [_form(character) for character in text]
    words, place, inside = set(), 0, False
    for form in forms:
        if form and not inside:
            words.add(place)
        place, inside = place + len(form), bool(form)
    return Spelled(
        "".join(forms),
        list(chain.from_iterable(repeat(at, len(form)) for form, at in zip(forms, starts, strict=True))),
        list(chain.from_iterable(repeat(at, len(form)) for form, at in zip(forms, ends, strict=True))),
        frozenset(words),
    )


@lru_cache(maxsize=4096)
def _form(character: str) -> str:
    """A character's part of the normal form: empty for spaces, punctuation, accents and invisible characters."""
    plain = character if ord(character) in _HANGUL else normalize("NFKD", character)
    kept = "".join(each for each in plain.casefold() if each.isalnum() or (each > "\x7f" and category(each)[0] == "S"))
    return kept[:_MOST_LETTERS].encode("utf-8", "replace").decode("latin-1")


_ASCII_FORMS = [_form(chr(code)) or None for code in range(128)]


def _undone(text: str, starts: list[int], ends: list[int]) -> tuple[str, list[int], list[int]]:
    """The text with one level of escapes undone, and where each of its characters comes from."""
    pieces: list[str] = []
    starting: list[int] = []
    ending: list[int] = []
    place = 0
    for found in _ESCAPE.finditer(text):
        begin, end, meant = found.start(), found.end(), _meant(found)
        pieces += (text[place:begin], meant)
        starting += starts[place:begin] + [starts[begin]] * len(meant)
        ending += ends[place:begin] + [ends[end - 1]] * len(meant)
        place = end
    return "".join((*pieces, text[place:])), starting + starts[place:], ending + ends[place:]


def _meant(found: re.Match[str]) -> str:
    """The characters that an escape stands for."""
    if pair := found["pair"]:
        high, low = (int(half, 16) for half in re.findall(r"u([0-9a-fA-F]{4})", pair))
        return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
    if code := found["code"]:
        number = int(code, 16)
        return chr(number) if number <= 0x10FFFF else " "
    if given := found["bytes"]:
        content = bytes.fromhex("".join(_BYTE.findall(given)))
        return content.decode("utf-8", "surrogateescape").translate(_LATIN)
    if entity := found["entity"]:
        return html.unescape(entity)
    return found["sign"] if not found["sign"].isalpha() else " "
