"""What each request to the API passes: it is written down, its token and the rate limit are checked, faults strike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio
from starlette.requests import Request
from starlette.responses import Response

from reactor.sandbox import wire
from reactor.sandbox.faults import ANSWERS, Faults
from reactor.sandbox.inputs import prompt_in
from reactor.sandbox.keys import credentials, is_token
from reactor.sandbox.limits import Limits, buckets
from reactor.sandbox.strikes import Struck

if TYPE_CHECKING:
    from reactor.sandbox.books import Books

Handler = Callable[[Request], Awaitable[Response]]
REFUSED_TOKEN = b"invalid"  # always refused, because the SDK's own tests expect it
_UNLIMITED = {"create": 599, "get": 59999}  # ratelimit-remaining, as recorded; 2999 for other requests


class Guard:
    """Stands before the handlers. `token` is the only one accepted; None: any but "invalid". `latency`: seconds."""

    def __init__(self, books: Books, faults: Faults, limits: Limits, *, token: str | None, latency: float) -> None:
        self._books = books
        self._faults = faults
        self._low_credit = limits.low_credit
        self._creates, self._others = buckets(limits)
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
