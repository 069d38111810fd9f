"""Parses an answer that has too many values to be parsed at once, such as a page of the listing.

The listing shows all predictions of the account. 100 predictions of a language model contain some hundred thousand
texts, and their logs contain more. If such a page could not be read, a purchase on it would be lost. So its
predictions are parsed one by one, and other tasks run in between.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import orjson
from anyio.lowlevel import checkpoint

from reactor.providers.bodies import MOST_VALUES, TooManyError, UnreadableError, json_object, weight
from reactor.providers.listing import MOST_ENTRIES

MOST_OUTPUTS = 32  # values of a long output that are kept; an image's URL is among the first
FEW = 1000  # values: a prediction with more has its output shortened
STEPS = 50  # of a walk until other tasks have a turn: less than 10 ms
_RESULTS = re.compile(rb'"results"\s*+:\s*+\[')
_GAP = re.compile(rb"[\s,]*+")
_RUN = re.compile(rb'(?:[^"{}\[\]]++|"[^"]*+"){0,1000}+')  # up to where the next list or object begins or ends
_TEXT = re.compile(rb'"[^"]*+"')


async def read_object(content: bytes) -> dict[str, Any] | None:
    """The JSON object in a body; None if there is none. Raises UnreadableError."""
    try:
        return json_object(content)
    except TooManyError:
        plain = await _without_escapes(content)
        if results := _RESULTS.search(plain):
            return await _page(content, plain, results.end())
        _, values = await _object_end(plain, _skip(_GAP, plain, 0))
        return json_object(content, values)


async def _without_escapes(content: bytes) -> bytes:
    """The content without escapes, so that each quote begins or ends a text. The length stays the same."""
    await checkpoint()
    plain = content.replace(b"\\\\", b"__")
    await checkpoint()
    plain = plain.replace(b'\\"', b"__")
    await checkpoint()
    return plain


async def _page(content: bytes, plain: bytes, begins: int) -> dict[str, Any]:
    """The page. Its list of predictions begins at `begins`."""
    entries: list[dict[str, Any] | None] = []
    place, kept = _skip(_GAP, plain, begins), 0
    while plain[place : place + 1] == b"{":
        end, values = await _object_end(plain, place)
        await checkpoint()
        entry = json_object(content[place:end], values)
        kept += await _trim(entry, values)
        entries.append(entry)
        if len(entries) > MOST_ENTRIES or kept > MOST_VALUES:
            raise TooManyError("too many values")
        place = _skip(_GAP, plain, end)
    page = json_object(content[:begins] + content[place:])
    if None in entries or page is None or page.get("results") != []:
        raise UnreadableError("no JSON")
    return page | {"results": entries}


async def _object_end(plain: bytes, place: int) -> tuple[int, int]:
    """Where the object that begins at `place` ends, and its weight without the marks inside texts."""
    depth = values = steps = 0
    while True:
        began, place = place, _skip(_RUN, plain, place)
        values += weight(_TEXT.sub(b"", plain[began:place]))
        mark = plain[place : place + 1]
        if mark in (b"{", b"["):
            depth, values, place = depth + 1, values + 3, place + 1
        elif mark in (b"}", b"]"):
            depth, place = depth - 1, place + 1
        elif place == began:
            raise UnreadableError("no JSON")
        if depth == 0:
            return place, values
        if values > MOST_VALUES:
            raise TooManyError("too many values")
        steps += 1
        if steps % STEPS == 0:
            await checkpoint()


def _skip(pattern: re.Pattern[bytes], plain: bytes, place: int) -> int:
    found = pattern.match(plain, place)
    return found.end() if found else place


async def _trim(entry: dict[str, Any] | None, values: int) -> int:
    """Drop what nobody reads of a prediction. Return the weight of the rest."""
    if entry is None:
        return 0
    entry.pop("logs", None)
    if values > FEW and isinstance(output := entry.get("output"), list):
        del output[MOST_OUTPUTS:]
        with suppress(orjson.JSONEncodeError):  # nested too deep, or a text that is not valid Unicode
            _, values = await _object_end(await _without_escapes(orjson.dumps(entry)), 0)
    return values
