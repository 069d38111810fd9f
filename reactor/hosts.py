"""Which hosts mean this machine, and a guard for ports that only this machine may use.

A web page can make its own name resolve to 127.0.0.1 (DNS rebinding). The operator's browser then takes our port for
that page's own server, and lets the page read the answers. Such requests still carry the page's name in Host.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(:\d*)?")
_REFUSAL = "This port answers to localhost, 127.0.0.1 and [::1]; the Host of the request is another."


def is_loopback(host: str) -> bool:
    """Whether the name or address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def names_loopback(header: str) -> bool:
    """Whether a Host header names this machine, with any port."""
    parts = _HOST.fullmatch(header)
    return parts is not None and is_loopback(parts[1].lower().removesuffix("."))


class LoopbackOnly:
    """Lets a request pass if its Host means this machine, or if it has none: browsers always send one.

    `answer`: how others are refused, from the scope, the status and a sentence.
    """

    def __init__(
        self,
        app: ASGIApp,
        refused: Callable[[], None] = lambda: None,
        answer: Callable[[Scope, int, str], ASGIApp] = lambda _scope, status, said: PlainTextResponse(said, status),
    ) -> None:
        self._app = app
        self._refused = refused
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hosts = [value.decode("latin-1") for name, value in scope.get("headers", ()) if name == b"host"]
        if scope["type"] != "http" or all(map(names_loopback, hosts)):
            await self._app(scope, receive, send)
            return
        self._refused()
        await self._answer(scope, 421, _REFUSAL)(scope, receive, send)
