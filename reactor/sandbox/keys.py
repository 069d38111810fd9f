"""The sandbox's token, and a guard that asks for it if other machines can reach the port.

The API always asks for a token. Pictures are open everywhere, as the real ones are, because nobody guesses their URLs.
The books, the faults and the page show prompts and change what the sandbox does, so off loopback they need the token.
"""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_OPEN = ("/v1/", "/files/")


def is_token(given: bytes, token: str) -> bool:
    """Compare in constant time."""
    return secrets.compare_digest(given, token.encode())


def credentials(headers: Headers) -> tuple[str, bytes]:
    """The scheme of the Authorization header, and the rest of it."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return scheme, given.encode("latin-1")


class Locked:
    """Asks for the token, as a bearer or as the password of any user: a browser asks its user for that."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(_OPEN) or is_token(_given(Headers(scope=scope)), self._token):
            await self._app(scope, receive, send)
            return
        asking = {"www-authenticate": 'Basic realm="sandbox", charset="UTF-8"'}
        await PlainTextResponse("unauthorized\n", 401, asking)(scope, receive, send)


def _given(headers: Headers) -> bytes:
    scheme, given = credentials(headers)
    if scheme.lower() != "basic":
        return given
    try:
        return base64.b64decode(given).partition(b":")[2]
    except ValueError:
        return b""
