"""What a fault does to a request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import httpx
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from reactor.sandbox import wire
from reactor.sandbox.server import cut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from reactor.sandbox.faults import Fault

_HTML = "<html><head><title>{0}</title></head><body><h1>{0}</h1><hr>cloudflare</body></html>"
_DRIPS = 40  # pieces of a slow answer
_HUGE = 20_000_000  # bytes
_WIDTH = {"type": "number_lte", "field": "input.width", "description": "Must be less than or equal to 1440"}


@dataclass(frozen=True, slots=True)
class Struck:
    """A request that a fault strikes. `good` makes the answer that the request would get without the fault."""

    fault: Fault
    request: Request
    good: Callable[[], Awaitable[Response]]

    async def answer(self) -> Response:
        return await STRIKES[self.fault.kind](self)


Strike = Callable[[Struck], Awaitable[Response]]


def _sending(body: str | bytes, media_type: str) -> Strike:
    async def sent(struck: Struck) -> Response:
        request = struck.request
        status = 201 if request.scope["path"].endswith("/predictions") and request.method == "POST" else 200
        return Response(body, struck.fault.status or status, media_type=media_type)

    return sent


def _refusing(body: dict[str, Any]) -> Strike:
    async def refused(_: Struck) -> Response:
        return wire.problem(body)

    return refused


async def _paying(struck: Struck) -> Response:
    return wire.problem(wire.PAYMENT[struck.fault.title])


async def _edge(struck: Struck) -> Response:
    fault = struck.fault
    headers = None if fault.retry_after is None else {"retry-after": f"{fault.retry_after:g}"}
    return HTMLResponse(_HTML.format(fault.kind), int(fault.kind), headers)


async def _throttling(struck: Struck) -> Response:
    fault = struck.fault
    seconds = 30.0 if fault.retry_after is None else fault.retry_after
    body = wire.throttled(seconds, low_credit=fault.low_credit)
    if fault.placement == "header":
        return wire.problem({**body, "detail": "Request was throttled."}, {"retry-after": f"{seconds:g}"})
    if fault.placement == "body" and fault.retry_after is not None:
        body["retry_after"] = seconds
    return wire.problem(body)


async def _accepting(struck: Struck) -> Response:
    response = await struck.good()
    response.status_code = 202
    return response


async def _redirecting(_: Struck) -> Response:
    return RedirectResponse("/elsewhere", 302)


async def _late(struck: Struck) -> Response:
    await anyio.sleep(struck.fault.seconds)
    return await struck.good()


async def _dripping(struck: Struck) -> Response:
    response = await struck.good()
    body = bytes(response.body)
    size = max(1, len(body) // _DRIPS)

    async def drips() -> AsyncIterator[bytes]:
        for place in range(0, len(body), size):
            yield body[place : place + size]
            await anyio.sleep(struck.fault.seconds * size / len(body))

    return StreamingResponse(drips(), response.status_code, media_type=response.media_type)


async def _hanging(struck: Struck) -> Response:
    while (await struck.request.receive())["type"] != "http.disconnect":
        pass
    return Response()


async def _resetting(struck: Struck) -> Response:
    if not cut(struck.request.scope, reset=True):
        raise httpx.ReadError("reset")  # without a socket, raise the error that httpx makes of a reset
    return await _hanging(struck)


async def _closing(struck: Struck) -> Response:
    if not cut(struck.request.scope):
        raise httpx.RemoteProtocolError("closed")
    return await _hanging(struck)


async def _truncating(struck: Struck) -> Response:
    response = await struck.good()
    body = bytes(response.body)

    async def half() -> AsyncIterator[bytes]:
        yield body[: len(body) // 2]
        await _closing(struck)

    headers = {"content-length": str(len(body))}
    return StreamingResponse(half(), response.status_code, headers, response.media_type)


STRIKES: dict[str, Strike] = {
    "202": _accepting,  # the good answer, with another status
    "401": _refusing(wire.UNAUTHENTICATED),
    "402": _paying,
    "403": _refusing(wire.FORBIDDEN),
    "404": _refusing(wire.NOT_FOUND),
    "422": _refusing(wire.invalid_input([_WIDTH])),
    "429": _throttling,  # `placement` says where `retry_after` is
    "500": _refusing(wire.INTERNAL),
    "502": _edge,
    "503": _edge,
    "504": _edge,
    "reset": _resetting,
    "close": _closing,  # the connection ends without an answer
    "truncated": _truncating,  # the connection ends in the middle of the answer
    "hang": _hanging,
    "latency": _late,  # the good answer, `seconds` late
    "slow": _dripping,  # the good answer, in small pieces over `seconds`
    "malformed": _sending('{"id": "abc", "status"', "application/json"),
    "html": _sending(_HTML.format("Just a moment..."), "text/html"),
    "non-object": _sending('["not", "an", "object"]', "application/json"),
    "huge": _sending(b'{"id": "' + b"x" * _HUGE + b'"}', "application/json"),
    "redirect": _redirecting,
}
