"""Finds out who asks and what they may do, by a token or by the cookie of the sign-in form.

`request.state.access` is "act", "read" or absent, and `request.state.who` names the client for the log: how it was let
in, and its address. `request.state.trusted` says whether it proved anything: without tokens nobody can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from reactor.web.refusals import refused
from reactor.web.wrong_tokens import WrongTokens

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from reactor.web.keys import Access, Keys

# An orchestrator's probes carry no token, and the form needs its style and a place to send a token to.
OPEN = frozenset({"/livez", "/readyz", "/sign-in"})
OPEN_BELOW = "/static/"
TELLS_MORE = "/readyz"  # open, but with a token it says more, so a token can be guessed there
COOKIE, COOKIE_OVER_HTTPS = "reactor_session", "__Host-reactor_session"
_SAFE = frozenset({"GET", "HEAD"})


class Guard:
    """Lets a request pass if it may do what it asks for, or if its path is open.

    `ask`: answers a browser that carries no token with the sign-in form. `wrong`: slows the answers to wrong tokens.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: Keys,
        *,
        refused: Callable[[], None] = lambda: None,
        ask: Callable[[Scope, Receive, Send], Awaitable[None]] | None = None,
        wrong: WrongTokens | None = None,
    ) -> None:
        self._app = app
        self._keys = keys
        self._refused = refused
        self._ask = ask
        self._wrong = wrong or WrongTokens()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, path = Headers(scope=scope), scope["path"]
        access, how = self._let_in(headers)
        state = scope.setdefault("state", {})
        state["trusted"] = bool(self._keys) and access is not None
        state["who"] = f"{how} from {address_of(scope)}"
        if access is not None:
            state["access"] = access
        needed = path not in OPEN and not path.startswith(OPEN_BELOW)
        if access is None and (needed or path == TELLS_MORE) and bearer_of(headers) is not None:
            await self._wrong.met()
        if access is None and needed:
            self._refused()
            await self._unauthorized(scope, receive, send)
        elif access == "read" and scope["method"] not in _SAFE and path not in {"/sign-in", "/sign-out"}:
            self._refused()
            said = "HTTP_READ_TOKEN lets you look, but not act: sign in with HTTP_TOKEN."
            await refused(scope, 403, said)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _let_in(self, headers: Headers) -> tuple[Access | None, str]:
        if not self._keys:
            return "act", "anybody"
        if (given := bearer_of(headers)) is not None:
            return self._named(self._keys.access_of(given), "token")
        for cookie in cookies_of(headers):
            if access := self._keys.access_of_cookie(cookie):
                return self._named(access, "browser")
        return None, "nobody"

    @staticmethod
    def _named(access: Access | None, how: str) -> tuple[Access | None, str]:
        return access, f"{how} that may {access}" if access else "nobody"

    async def _unauthorized(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._ask is not None and scope["method"] in _SAFE and "text/html" in Headers(scope=scope).get("accept", ""):
            await self._ask(scope, receive, send)
        else:
            refusal = refused(scope, 401, "unauthorized", {"www-authenticate": "Bearer"})
            await refusal(scope, receive, send)


def address_of(scope: Scope) -> str:
    """The client's IP address; "a local socket" if it has none."""
    client = scope.get("client")
    return client[0] if client else "a local socket"


def bearer_of(headers: Headers) -> bytes | None:
    """The bearer token of a request; None if it carries none."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    # Starlette decodes headers as latin-1, so this encoding gives the bytes that were sent.
    return given.strip().encode("latin-1") if scheme.lower() == "bearer" else None


def cookies_of(headers: Headers) -> list[str]:
    """The values of our cookies, that of https first. Cookies of other programs may have any form."""
    pairs = [part.strip().partition("=") for header in headers.getlist("cookie") for part in header.split(";")]
    return [value for wanted in (COOKIE_OVER_HTTPS, COOKIE) for name, _, value in pairs if name == wanted]
