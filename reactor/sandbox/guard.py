"""The checks before the handlers: the token, the rate limits and the faults. Each request to the API is noted here.

The API always asks for a token. Pictures need no token, as the real ones need none, because nobody can guess their
URLs. The ledger, the requests and the page show prompts, and `/sandbox/faults` changes what the sandbox does, so off
loopback they need the token too.
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
REFUSED_TOKEN = b"invalid"  # always refused, so that a 401 can be seen without a fault
MOST_A_MINUTE = 1_000_000  # requests
_OPEN = ("/v1/", "/files/")


@dataclass(frozen=True, slots=True)
class Limits:
    """Requests per minute; 0 means no limit. With low credit: 6 creates per minute, with a burst of 1."""

    creates: int = 0
    others: int = 0
    low_credit: bool = False

    def __post_init__(self) -> None:
        if not all(is_within(value, 0, MOST_A_MINUTE) for value in (self.creates, self.others)):
            raise ValueError(f"limits are 0 to {MOST_A_MINUTE} a minute")


class Bucket:
    """Lets `per_minute` requests pass. A burst has at most as many requests as pass in ten seconds."""

    def __init__(self, per_minute: int) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._burst = max(1, per_minute // 6)
        self._arrival = 0.0  # monotonic seconds: the earliest time for the next request at exactly this rate

    def take(self) -> int | None:
        """Let a request pass and return None, or return the whole seconds until a request may pass."""
        if not self._interval:
            return None
        now = time.monotonic()
        arrival = max(self._arrival, now)
        wait = arrival - self._interval * (self._burst - 1) - now
        if wait > 0:
            return math.ceil(wait)
        self._arrival = arrival + self._interval
        return None


class Guard:
    """`token` is the only token that the API accepts; None: any token but "invalid". `latency`: seconds."""

    def __init__(self, books: Books, faults: Faults, limits: Limits, *, token: str | None, latency: float) -> None:
        self._books = books
        self._faults = faults
        self._low_credit = limits.low_credit
        self._creates = Bucket(6 if limits.low_credit else limits.creates)
        self._others = Bucket(limits.others)
        self.token = token
        self._latency = latency

    def around(self, on: str, handler: Handler) -> Handler:
        """Return a handler that checks the request first. `on` is the place of the faults that strike it."""

        async def guarded(request: Request) -> Response:
            seen = self._books.note(request.method, request.scope["path"])
            if self._latency:
                await anyio.sleep(self._latency)
            response = self._refused(request, on) or await self.served(on, request, handler)
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
        """Return the handler's answer, or the answer of the fault that strikes."""
        prompt = await self._prompt(on, request)
        if on == "create" and (mistakes := self._faults.mistakes(prompt)):
            fields = [{"type": "sandbox", "field": "input.prompt", "description": line} for line in mistakes]
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
    """Asks for the token: as a bearer token, or as the password of any user, because a browser can ask for that."""

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
