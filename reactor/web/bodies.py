"""Reads the body of a request, which may not be long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import orjson
from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from starlette.requests import Request

LARGEST = 256 * 2**10  # bytes: the ids of a few thousand tokens
_MOST_FIELDS = 2_000


async def body_of(request: Request, largest: int = LARGEST) -> bytes:
    """Read the body. Raises HTTPException 413 as soon as it is too large."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > largest:
            raise HTTPException(413, f"the body has more than {largest:,} bytes")
    return body


async def object_of(request: Request) -> dict[str, Any]:
    """Read a JSON object; no body is an empty one. Raises HTTPException.

    The content type must say JSON, because a form of another website cannot.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await body_of(request)
    if not body and not kind:
        return {}
    if kind != "application/json":
        raise HTTPException(415, "the content type must be application/json")
    try:
        value = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError:
        raise HTTPException(400, "the body is no JSON") from None
    if not isinstance(value, dict):
        raise HTTPException(400, "the body is no JSON object")
    return value


async def form_of(request: Request) -> dict[str, list[str]]:
    """Read the fields of a form. Raises HTTPException."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await body_of(request)
    if body and kind != "application/x-www-form-urlencoded":
        raise HTTPException(415, "the content type must be application/x-www-form-urlencoded")
    try:
        return parse_qs(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise HTTPException(400, "the form cannot be read") from None
