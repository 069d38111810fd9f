"""From the bytes of an answer to the JSON object in it, whatever the bytes are.

An answer must not stop the worker, so its size is bounded. Within the bounds it takes less than 50 ms and less than
64 MB. Beyond them it is unreadable, which for a create means that something may have been bought. Only a page of the
listing may have more values, because it also shows what else the account buys: see `pages.py`.
"""

from __future__ import annotations

import json
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable

LARGEST_SLOWLY = 2 * 1024 * 1024  # bytes of a body, if the standard library has to parse it
MOST_VALUES = 150_000  # as `weight` counts them: each costs up to 100 ns and 100 bytes
MOST_VALUES_SLOWLY = 50_000  # if the standard library has to parse it
_LONGEST_INTEGER = 1000  # digits; Python refuses to convert 4,300 and more
_WITH_HEADER, _WITHOUT = zlib.MAX_WBITS + 32, -zlib.MAX_WBITS  # zlib's `wbits`: detect the header; raw deflate
_CODINGS = {b"gzip": [_WITH_HEADER], b"x-gzip": [_WITH_HEADER], b"deflate": [_WITH_HEADER, _WITHOUT]}


class UnreadableError(Exception):
    """A success whose body cannot be used: no JSON object, too large, or not about what was asked."""


class TooManyError(UnreadableError):
    """A body with too many values, or too much that is not strict JSON, to be parsed at once."""


def decoded(headers: Iterable[tuple[bytes, bytes]], body: bytes, *, largest: int) -> bytes:
    """The body, decompressed; `largest` bytes at most. Raises UnreadableError.

    We ask for no compression, but a server may compress anyway. More than one coding is refused, because it has no use
    and can turn 270 bytes into gigabytes.
    """
    named = b",".join(value for name, value in headers if name.lower() == b"content-encoding").lower().split(b",")
    codings = [coding for coding in map(bytes.strip, named) if coding not in {b"", b"identity"}]
    if not codings:
        return body
    if len(codings) > 1 or codings[0] not in _CODINGS:
        raise UnreadableError("it is compressed in a way that was not asked for")
    for bits in _CODINGS[codings[0]]:
        with suppress(zlib.error):
            return _decompressed(body, bits, largest)
    raise UnreadableError("it cannot be decompressed")


def _decompressed(body: bytes, bits: int, largest: int) -> bytes:
    """Raises UnreadableError, and zlib.error if the body is not such a stream."""
    stream = zlib.decompressobj(bits)
    content = stream.decompress(body, largest + 1)
    if len(content) > largest:
        raise UnreadableError(f"more than {largest:,} bytes")
    if not stream.eof:
        raise UnreadableError("it cannot be decompressed")
    return content


def weight(content: bytes) -> int:
    """What it costs to parse the values, in units of a number or text in a list. Marks inside texts are counted too.

    A list, an object and a name cost three each. A name is counted by its colon.
    """
    return content.count(b",") + 3 * (content.count(b"[") + content.count(b"{") + content.count(b":"))


def json_object(content: bytes, values: int | None = None) -> dict[str, Any] | None:
    """The JSON object in a body; None if there is none. Raises TooManyError. `values` is its weight, if it is known.

    All that the standard library parses is accepted: lone surrogates, NaN, control characters, bytes that are not
    UTF-8. An answer refused for its form could be the only one that names the purchase. Its texts are made fit for
    storage where they are kept: see `redaction.py`.
    """
    values = weight(content) if values is None else values
    if values > MOST_VALUES:
        raise TooManyError("too many values")
    try:
        parsed = orjson.loads(content)  # five times as fast as the standard library
    except orjson.JSONDecodeError:
        if values > MOST_VALUES_SLOWLY or len(content) > LARGEST_SLOWLY:
            raise TooManyError("too large, and no strict JSON") from None
        parsed = _parsed(content)
    return parsed if isinstance(parsed, dict) else None


def _parsed(content: bytes) -> Any:
    with suppress(ValueError, RecursionError):
        return _LENIENT.decode(content.decode(json.detect_encoding(content), "replace"))
    return None


def _number(digits: str) -> int | float:
    """An integer of JSON; as a float if it is so long that Python refuses to convert it."""
    return int(digits) if len(digits) < _LONGEST_INTEGER else float(digits)


_LENIENT = json.JSONDecoder(strict=False, parse_int=_number)
