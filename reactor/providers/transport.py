"""The HTTP beneath the SDK: our timeouts, no hidden retries, and the whole answer kept.

The SDK (replicate 1.0.7) wraps the transport it is given in one that repeats a GET up to ten times, obeys any
Retry-After, and drops headers and most of an error's body; on a create it turns all timeouts off. None of that has a
switch. But it repeats *responses*, never exceptions: so whatever is not a JSON object with a 2xx status leaves here as
an exception, and what is one is also kept aside as it came, since the SDK's own model refuses answers that the real API
gives (`aborted`, an error that is an object, a null version).

What sends the requests is in `http_client.py`.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import orjson
from anyio.lowlevel import checkpoint

from reactor.failpoints import reached
from reactor.providers import bodies
from reactor.providers.bodies import UnreadableError, decoded
from reactor.providers.http_client import HttpClient
from reactor.providers.pages import read_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reactor.providers.http_client import Reply

LARGE = 100_000  # bytes of a body after which other tasks have a turn, before anything more is made of it
_REPLACED = {"accept-encoding", "connection", "content-length", "host"}  # headers that are made anew
_UNCOMPRESSED = ("Accept-Encoding", "identity")  # answers are small, and what is compressed can be a bomb
_BREAKS = re.compile(r"[\r\n\0]")
# What the SDK's models of a prediction, a page and an account ask for at least.
_MINIMAL_BODY = orjson.dumps(
    {
        **dict.fromkeys(("id", "model", "version", "username", "name"), "-"),
        "status": "starting",
        "type": "user",
        "results": [],
    }
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the provider answered: status, headers, and the body where it is a JSON object."""

    status: int
    headers: Mapping[str, str]
    body: dict[str, Any] | None


class AnsweredError(Exception):
    """An answer that is no success: a status of 300 or more."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"HTTP {answer.status}")
        self.answer = answer


_answer: ContextVar[dict[str, Any] | None] = ContextVar("replicate_answer", default=None)


def last_body() -> dict[str, Any]:
    """The JSON object that the current task's last request got."""
    body = _answer.get()
    if body is None:
        raise UnreadableError("no answer")
    return body


def forget_body() -> None:
    """Make sure that `last_body` cannot be an earlier request's."""
    _answer.set(None)


class Transport(httpx.AsyncBaseTransport):
    """What the SDK sends its requests through. To another origin than its own it sends nothing.

    The SDK begins every path with `base_url` and /v1; here `api_prefix` takes the place of the /v1.
    """

    def __init__(self, base_url: str, api_prefix: str) -> None:
        self._base_url = httpx.URL(base_url)
        path = self._base_url.raw_path.rstrip(b"/")
        self._sdks_prefix, self._prefix = path + b"/v1/", path + api_prefix.encode() + b"/"
        self._origin = _origin(self._base_url)
        self.client = HttpClient(base_url, largest=bodies.LARGEST)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return a success whose body is a JSON object; raise everything else.

        What comes back to the SDK only says that there was one: its own model of the whole would cost more than all the
        rest, and nobody reads it.
        """
        headers = self._headers(request)
        if request.method == "POST":
            await reached("before_send")
        reply = await self.client.ask(request.method, self._url(request), headers, request.content)
        if request.method == "POST":
            await reached("request_sent")
        body = await _body_of(reply)
        if reply.status >= 300:
            raise AnsweredError(Answer(reply.status, httpx.Headers(reply.headers), body))
        if body is None:
            raise UnreadableError(f"no JSON object (HTTP {reply.status})")
        _answer.set(body)
        return httpx.Response(reply.status, content=_MINIMAL_BODY, request=request)

    async def aclose(self) -> None:
        """Close the connections."""
        await self.client.aclose()

    def _url(self, request: httpx.Request) -> str:
        """Where the request is sent."""
        path = self._prefix + request.url.raw_path.removeprefix(self._sdks_prefix)
        return f"{request.url.scheme}://{request.url.netloc.decode()}{path.decode()}"

    def _headers(self, request: httpx.Request) -> list[tuple[str, str]]:
        """The headers as they are sent. Raises UnsupportedProtocol, LocalProtocolError: the request must not be."""
        if _origin(request.url) != self._origin or request.url.scheme not in {"http", "https"}:
            raise httpx.UnsupportedProtocol(f"no request to {request.url.scheme}://{request.url.netloc.decode()}")
        headers = [(name, value) for name, value in request.headers.multi_items() if name.lower() not in _REPLACED]
        if any(_BREAKS.search(part) for part in (*sum(headers, ()), request.url.raw_path.decode())):
            raise httpx.LocalProtocolError("a line break in a header")
        return [*headers, _UNCOMPRESSED]


async def _body_of(reply: Reply) -> dict[str, Any] | None:
    """The JSON object in an answer. Raises UnreadableError only for a success: another status says enough by itself."""
    try:
        content = decoded(reply.headers, reply.body)
        body = await read_object(content)
    except UnreadableError:
        if reply.status < 300:
            raise
        return None
    if len(content) > LARGE:
        await checkpoint()
    return body


def _origin(url: httpx.URL) -> tuple[bytes, bytes, int | None]:
    return url.raw_scheme, url.raw_host, url.port
