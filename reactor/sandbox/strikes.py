"""What a fault does to a request."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import anyio
import httpx
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from reactor.sandbox import answers
from reactor.sandbox.server import cut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from reactor.sandbox.faults import Fault

Good = Callable[[], Awaitable[Response]]
Strike = Callable[["Fault", "Request", Good], Awaitable[Response]]
_HTML = "<html><head><title>{0}</title></head><body><h1>{0}</h1><hr>cloudflare</body></html>"
_DRIPS = 40  # pieces of a slow answer
_HUGE = 20_000_000  # bytes
_WIDTH = {"type": "number_lte", "field": "input.width", "description": "Must be less than or equal to 1440"}


async def struck(fault: Fault, request: Request, good: Good) -> Response:
    """The answer that the fault gives; `good` makes the one that there would have been."""
    return await STRIKES[fault.kind](fault, request, good)


def _saying(body: str | bytes, media_type: str) -> Strike:
    async def said(fault: Fault, request: Request, _good: Good) -> Response:
        status = 201 if request.scope["path"].endswith("/predictions") and request.method == "POST" else 200
        return Response(body, fault.status or status, media_type=media_type)

    return said


def _refusing(body: dict[str, Any]) -> Strike:
    async def refused(_fault: Fault, _request: Request, _good: Good) -> Response:
        return answers.problem(body)

    return refused


async def _paying(fault: Fault, _request: Request, _good: Good) -> Response:
    return answers.problem(answers.PAYMENT[fault.title])


async def _edge(fault: Fault, _request: Request, _good: Good) -> Response:
    headers = None if fault.retry_after is None else {"retry-after": f"{fault.retry_after:g}"}
    return HTMLResponse(_HTML.format(fault.kind), int(fault.kind), headers)


async def _throttling(fault: Fault, _request: Request, _good: Good) -> Response:
    seconds = 30.0 if fault.retry_after is None else fault.retry_after
    body = answers.throttled(seconds, low_credit=fault.low_credit)
    if fault.placement == "header":
        return answers.problem({**body, "detail": "Request was throttled."}, {"retry-after": f"{seconds:g}"})
    if fault.placement == "body" and fault.retry_after is not None:
        body["retry_after"] = seconds
    return answers.problem(body)


async def _accepting(_fault: Fault, _request: Request, good: Good) -> Response:
    response = await good()
    response.status_code = 202
    return response


async def _redirecting(_fault: Fault, _request: Request, _good: Good) -> Response:
    return RedirectResponse("/elsewhere", 302)


async def _late(fault: Fault, _request: Request, good: Good) -> Response:
    await anyio.sleep(fault.seconds)
    return await good()


async def _dripping(fault: Fault, _request: Request, good: Good) -> Response:
    response = await good()
    body = bytes(response.body)
    size = max(1, len(body) // _DRIPS)

    async def drips() -> AsyncIterator[bytes]:
        for place in range(0, len(body), size):
            yield body[place : place + size]
            await anyio.sleep(fault.seconds * size / len(body))

    return StreamingResponse(drips(), response.status_code, media_type=response.media_type)


async def _hanging(_fault: Fault, request: Request, _good: Good) -> Response:
    await _left(request)
    return Response()


async def _resetting(_fault: Fault, request: Request, _good: Good) -> Response:
    if not cut(request.scope, reset=True):
        raise httpx.ReadError("reset")  # nobody's socket: what httpx makes of one
    return await _hanging(_fault, request, _good)


async def _closing(_fault: Fault, request: Request, _good: Good) -> Response:
    if not cut(request.scope):
        raise httpx.RemoteProtocolError("closed")
    return await _hanging(_fault, request, _good)


async def _truncating(_fault: Fault, request: Request, good: Good) -> Response:
    response = await good()
    body = bytes(response.body)

    async def half() -> AsyncIterator[bytes]:
        yield body[: len(body) // 2]
        await _closing(_fault, request, good)

    headers = {"content-length": str(len(body))}
    return StreamingResponse(half(), response.status_code, headers, response.media_type)


async def _left(request: Request) -> None:
    """Wait until the client gives up."""
    for _ in itertools.count():
        if (await request.receive())["type"] == "http.disconnect":
            return


STRIKES: dict[str, Strike] = {
    "202": _accepting,
    "401": _refusing(answers.UNAUTHENTICATED),
    "402": _paying,
    "403": _refusing(answers.FORBIDDEN),
    "404": _refusing(answers.NOT_FOUND),
    "422": _refusing(answers.invalid_input([_WIDTH])),
    "429": _throttling,
    "500": _refusing(answers.INTERNAL),
    "502": _edge,
    "503": _edge,
    "504": _edge,
    "reset": _resetting,
    "close": _closing,
    "truncated": _truncating,
    "hang": _hanging,
    "latency": _late,
    "slow": _dripping,
    "malformed": _saying('{"id": "abc", "status"', "application/json"),
    "html": _saying(_HTML.format("Just a moment..."), "text/html"),
    "non-object": _saying('["not", "an", "object"]', "application/json"),
    "huge": _saying(b'{"id": "' + b"x" * _HUGE + b'"}', "application/json"),
    "redirect": _redirecting,
}
