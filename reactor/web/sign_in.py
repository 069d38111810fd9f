"""The form by which a browser gets in: it takes a token once, and gives a cookie that stands for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from reactor.hosts import is_loopback, names_loopback
from reactor.web.bodies import form_of
from reactor.web.guard import COOKIE, COOKIE_OVER_HTTPS
from reactor.web.keys import SIGNED_IN_FOR
from reactor.web.render import html

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

    from reactor.web.keys import Keys
    from reactor.web.wrong_tokens import WrongTokens


class SignIn:
    """Asks for a token, and sets and removes the cookie. `wrong` slows the answers to wrong tokens."""

    def __init__(self, keys: Keys, refused: Callable[[], None], wrong: WrongTokens) -> None:
        self._keys = keys
        self._refused = refused
        self._wrong = wrong
        self.routes = [
            Route("/sign-in", self.sign_in, methods=["GET", "POST"]),
            Route("/sign-out", self.sign_out, methods=["POST"]),
        ]

    async def ask(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request without a token."""
        await self._form(Request(scope))(scope, receive, send)

    async def sign_in(self, request: Request) -> Response:
        if request.method != "POST":
            return self._form(request)
        if not is_private(request):
            return self._form(request, 403)
        given = (await form_of(request)).get("token", [""])[0].strip()
        access = self._keys.access_of(given.encode("utf-8", "surrogatepass"))
        if access is None:
            self._refused()
            await self._wrong.met()
            return self._form(request, 403, wrong=True)
        answer = RedirectResponse(f"{request.scope.get('root_path', '')}/", 303)
        https = is_https(request)
        answer.set_cookie(
            COOKIE_OVER_HTTPS if https else COOKIE,
            self._keys.cookie_for(access),
            max_age=SIGNED_IN_FOR,
            path="/",
            secure=https,
            httponly=True,
            samesite="strict",
        )
        return answer

    async def sign_out(self, request: Request) -> Response:
        answer = RedirectResponse(f"{request.scope.get('root_path', '')}/", 303)
        for name in (COOKIE, COOKIE_OVER_HTTPS):
            secure = name == COOKIE_OVER_HTTPS
            answer.delete_cookie(name, path="/", secure=secure, httponly=True, samesite="strict")
        return answer

    def _form(self, request: Request, status: int = 401, *, wrong: bool = False) -> Response:
        headers = {"www-authenticate": "Bearer"} if status == 401 else {}
        private = is_private(request)
        return html(request, "sign_in.html", status=status, headers=headers, private=private, wrong=wrong)


def is_https(request: Request) -> bool:
    """Whether the browser speaks https, perhaps with a proxy in front of us.

    Anybody can send X-Forwarded-Proto. Who lies gets a cookie that the browser does not keep over http.
    """
    return request.url.scheme == "https" or request.headers.get("x-forwarded-proto", "") == "https"


def is_private(request: Request) -> bool:
    """Whether a token can be typed into the form without the network reading it."""
    from_here = request.client is None or is_loopback(request.client.host)
    return is_https(request) or (from_here and all(map(names_loopback, request.headers.getlist("host"))))
