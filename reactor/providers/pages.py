"""An answer that has too many values to be read at once, which may be a page of the listing.

The listing shows all predictions of the account. 100 of a language model have some hundred thousand texts, and their
logs have more. If such a page could not be read, nothing could be found on it, and what was bought would be lost. So
its predictions are read one by one, and others have a turn in between.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import orjson
from anyio.lowlevel import checkpoint

from reactor.providers.bodies import MOST_VALUES, TooManyError, UnreadableError, json_object, weight
from reactor.providers.listing import MOST_ENTRIES

MOST_OUTPUTS = 32  # of a prediction with many values that are kept: an image's URL is among the first
FEW = 1000  # values of a prediction
STEPS = 50  # of a walk, until others have a turn: less than 10 ms
_RESULTS = re.compile(rb'"results"\s*+:\s*+\[')
_GAP = re.compile(rb"[\s,]*+")
_RUN = re.compile(rb'(?:[^"{}\[\]]++|"[^"]*+"){0,1000}+')  # up to the next list or object, or its end
_TEXT = re.compile(rb'"[^"]*+"')


async def read_object(content: bytes) -> dict[str, Any] | None:
    """The JSON object in a body; None if there is none. Raises UnreadableError."""
    try:
        return json_object(content)
    except TooManyError:
        plain = await _plain(content)
        if results := _RESULTS.search(plain):
            return await _page(content, plain, results.end())
        _, values = await _walked(plain, _after(_GAP, plain, 0))
        return json_object(content, values)


async def _plain(content: bytes) -> bytes:
    """The same length, but each quote begins or ends a text."""
    await checkpoint()
    plain = content.replace(b"\\\\", b"__")
    await checkpoint()
    plain = plain.replace(b'\\"', b"__")
    await checkpoint()
    return plain


async def _page(content: bytes, plain: bytes, begins: int) -> dict[str, Any]:
    """The page whose list of predictions `begins` there."""
    entries: list[dict[str, Any] | None] = []
    place, kept = _after(_GAP, plain, begins), 0
    while plain[place : place + 1] == b"{":
        end, values = await _walked(plain, place)
        await checkpoint()
        entry = json_object(content[place:end], values)
        kept += await _thinned(entry, values)
        entries.append(entry)
        if len(entries) > MOST_ENTRIES or kept > MOST_VALUES:
            raise TooManyError("too many values")
        place = _after(_GAP, plain, end)
    page = json_object(content[:begins] + content[place:])
    if None in entries or page is None or page.get("results") != []:
        raise UnreadableError("no JSON")
    return page | {"results": entries}


async def _walked(plain: bytes, place: int) -> tuple[int, int]:
    """Where the object that begins there ends, and its weight without the marks inside texts."""
    depth = values = steps = 0
    while True:
        began, place = place, _after(_RUN, plain, place)
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


def _after(pattern: re.Pattern[bytes], plain: bytes, place: int) -> int:
    found = pattern.match(plain, place)
    return found.end() if found else place


async def _thinned(entry: dict[str, Any] | None, values: int) -> int:
    """Drop of a prediction what nobody reads. What is left of its values, as a weight."""
    if entry is None:
        return 0
    entry.pop("logs", None)
    if values > FEW and isinstance(output := entry.get("output"), list):
        del output[MOST_OUTPUTS:]
        with suppress(orjson.JSONEncodeError):  # deeply nested, or a text that is none
            _, values = await _walked(await _plain(orjson.dumps(entry)), 0)
    return values
