"""The headers that tell a browser how little our pages need, so that it refuses all else."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders

from reactor.hosts import is_loopback

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


def picture_source(base_url: str | None) -> str | None:
    """The origin of a provider on this machine, whose pictures come over http; None for any other provider."""
    if base_url is None:
        return None
    parts = urlsplit(base_url)
    local = parts.scheme == "http" and is_loopback(parts.hostname or "")
    return f"http://{parts.netloc}" if local else None


def policy(pictures: str | None = None) -> str:
    """The Content-Security-Policy: nothing but our own files, and pictures.

    Chromium and Firefox let a script write HTML only through a policy of Trusted Types, and we allow none.
    """
    return "; ".join([
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "font-src 'self'",
        "connect-src 'self'",
        f"img-src 'self' https:{f' {pictures}' if pictures else ''}",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ])  # fmt: skip


class SafeHeaders:
    """Adds the headers to every answer. `pictures`: see `picture_source`."""

    def __init__(self, app: ASGIApp, pictures: str | None = None) -> None:
        self._app = app
        self._headers = {
            "content-security-policy": policy(pictures),
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
            "cache-control": "no-store",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, told if scope["type"] == "http" else send)
