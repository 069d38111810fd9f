"""What stands before the handlers: the token and the rate limits, and in the API the books and the faults too.

The API always asks for a token. Pictures are open everywhere, as the real ones are, because nobody guesses their URLs.
The books, the faults and the page show prompts and change what the sandbox does, so off loopback they need the token.
"""

from __future__ import annotations

import base64
import math
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from reactor.sandbox import wire
from reactor.sandbox.bounds import is_within
from reactor.sandbox.faults import ANSWERS, Faults
from reactor.sandbox.inputs import prompt_in
from reactor.sandbox.strikes import Struck

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from reactor.sandbox.books import Books

Handler = Callable[[Request], Awaitable[Response]]
REFUSED_TOKEN = b"invalid"  # always refused, because the SDK's own tests expect it
MOST_A_MINUTE = 1_000_000  # requests
_UNLIMITED = {"create": 599, "get": 59999}  # ratelimit-remaining, as recorded; 2999 for other requests
_OPEN = ("/v1/", "/files/")


@dataclass(frozen=True, slots=True)
class Limits:
    """Requests per minute; 0 is no limit. With low credit there are 6 creates a minute, one at a time."""

    creates: int = 0
    others: int = 0
    low_credit: bool = False

    def __post_init__(self) -> None:
        if not all(is_within(value, 0, MOST_A_MINUTE) for value in (self.creates, self.others)):
            raise ValueError(f"limits are 0 to {MOST_A_MINUTE} a minute")


class Bucket:
    """A token bucket, refilled at `per_minute` requests. A burst is what ten seconds allow."""

    def __init__(self, per_minute: int) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._burst = max(1, per_minute // 6)
        self._arrival = 0.0  # monotonic seconds: when the last request may pass at this rate

    def take(self) -> int | None:
        """Let a request pass and return None, or return the whole seconds until one may pass."""
        if not self._interval:
            return None
        now = time.monotonic()
        arrival = max(self._arrival, now)
        wait = arrival - self._interval * (self._burst - 1) - now
        if wait > 0:
            return math.ceil(wait)
        self._arrival = arrival + self._interval
        return None

    def remaining(self) -> int | None:
        """How many requests may pass now; None: no limit."""
        if not self._interval:
            return None
        return max(0, self._burst - math.ceil((self._arrival - time.monotonic()) / self._interval))


class Guard:
    """Stands before the handlers. `token` is the only one accepted; None: any but "invalid". `latency`: seconds."""

    def __init__(self, books: Books, faults: Faults, limits: Limits, *, token: str | None, latency: float) -> None:
        self._books = books
        self._faults = faults
        self._low_credit = limits.low_credit
        self._creates = Bucket(6 if limits.low_credit else limits.creates)
        self._others = Bucket(limits.others)
        self.token = token
        self._latency = latency

    def around(self, on: str, handler: Handler) -> Handler:
        """The handler behind the guard. `on` is the place of the faults that strike it."""
        bucket = self._creates if on == "create" else self._others

        async def guarded(request: Request) -> Response:
            seen = self._books.note(request.method, request.scope["path"])
            if self._latency:
                await anyio.sleep(self._latency)
            response = self._refused(request, on)
            if response is None:
                response = await self.served(on, request, handler)
                remaining = bucket.remaining()
                left = _UNLIMITED.get(on, 2999) if remaining is None else remaining
                response.raw_headers += [(b"ratelimit-remaining", b"%d" % left), (b"ratelimit-reset", b"1")]
            seen.status = response.status_code
            return response

        return guarded

    def _refused(self, request: Request, on: str) -> Response | None:
        scheme, token = credentials(request.headers)
        known = scheme in {"Bearer", "Token"} and token not in {b"", REFUSED_TOKEN}
        if not known or (self.token is not None and not is_token(token, self.token)):
            return wire.problem(wire.UNAUTHENTICATED)
        seconds = (self._creates if on == "create" else self._others).take()
        if seconds is not None:
            body = wire.throttled(seconds, low_credit=self._low_credit and on == "create")
            return wire.problem({**body, "retry_after": seconds})
        return None

    async def served(self, on: str, request: Request, handler: Handler) -> Response:
        """The answer of the handler, or of the fault that strikes."""
        prompt = await self._prompt(on, request)
        if on == "create" and (nonsense := self._faults.nonsense(prompt)):
            fields = [{"type": "sandbox", "field": "input.prompt", "description": line} for line in nonsense]
            return wire.problem(wire.invalid_input(fields))
        fault = next(self._faults.strike(on, ANSWERS, prompt), None)
        if fault is None:
            return await handler(request)
        done = await handler(request) if fault.after else None

        async def good() -> Response:
            return await handler(request) if done is None else done

        return await Struck(fault, request, good).answer()

    async def _prompt(self, on: str, request: Request) -> str:
        if on == "create":
            return prompt_in(await wire.json_object(request))
        prediction = self._books.find(request.path_params.get("id", ""))
        return prediction.prompt if prediction else ""


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
