"""Requires `Authorization: Bearer` for every path but the probes."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from starlette.types import ASGIApp, Receive, Scope, Send


class Guard:
    """Lets a request pass if it carries the token, compared in constant time, or if its path is unguarded.

    `request.state.trusted` says whether it carried the token.
    """

    def __init__(
        self, app: ASGIApp, token: str, *, unguarded: Container[str], refused: Callable[[], None] = lambda: None
    ) -> None:
        self._app = app
        self._token = token.encode()
        self._unguarded = unguarded
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            trusted = self._knows(Headers(scope=scope))
            if not trusted and scope["path"] not in self._unguarded:
                self._refused()
                refusal = PlainTextResponse("unauthorized\n", 401, headers={"www-authenticate": "Bearer"})
                await refusal(scope, receive, send)
                return
            scope.setdefault("state", {})["trusted"] = trusted
        await self._app(scope, receive, send)

    def _knows(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # Starlette decodes headers as latin-1, so this encoding gives the bytes that were sent.
        return scheme.lower() == "bearer" and secrets.compare_digest(given.strip().encode("latin-1"), self._token)
