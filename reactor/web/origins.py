"""Refuses a request by which another website acts in the name of whoever looks at its page.

A browser says where a request comes from: in `Sec-Fetch-Site` over https and on loopback, in `Origin` with every POST.
A client that says neither is no browser, so nobody's cookie or address is misused by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from reactor.web.refusals import refused as answered

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class SameOriginOnly:
    """Lets a request pass if it changes nothing, or if it comes from our own page or from no browser."""

    def __init__(self, app: ASGIApp, refused: Callable[[], None] = lambda: None) -> None:
        self._app = app
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _SAFE or is_same_origin(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        self._refused()
        answer = answered(scope, 403, "This was sent by another website, and is refused.")
        await answer(scope, receive, send)


def is_same_origin(headers: Headers) -> bool:
    """Whether the request comes from a page of ours, or from no browser. Each header may come only once."""
    sites, origins, hosts = (headers.getlist(name) for name in ("sec-fetch-site", "origin", "host"))
    if sites:
        return sites == ["same-origin"]
    if origins:
        return len(origins) == len(hosts) == 1 and _netloc(origins[0]) == hosts[0].lower()
    return True


def _netloc(origin: str) -> str | None:
    """The host and port of an Origin, None for `null` and for anything odd."""
    try:
        parts = urlsplit(origin.lower())
    except ValueError:
        return None
    return parts.netloc if parts.scheme in {"http", "https"} and parts.netloc else None
