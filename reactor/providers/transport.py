"""The transport beneath the SDK: our timeouts, no hidden retries, and the whole answer kept.

The SDK (replicate 1.0.7) wraps the transport it is given in one that repeats a GET up to ten times, obeys any
Retry-After, and drops headers and most of an error's body; for a create it turns all timeouts off. No setting changes
that. But it repeats *responses*, never exceptions. So this transport raises an exception for everything but a JSON
object with a 2xx status. Such an object is also kept aside as it came, because the SDK's own model refuses answers that
the real API gives (`aborted`, an error that is an object, a null version).

`http_client.py` sends the requests.
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
from reactor.providers.bodies import UnreadableError, decoded
from reactor.providers.http_client import HttpClient
from reactor.providers.limits import LIMITS, Limits
from reactor.providers.pages import read_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reactor.providers.http_client import Reply
    from reactor.secret import Secret

LARGE = 100_000  # bytes; after a larger body was parsed, other tasks have a turn first
_REPLACED = {
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "host",
}  # headers of the SDK that are left out, because they are made anew
_UNCOMPRESSED = ("Accept-Encoding", "identity")  # answers are small, and a compressed one can be a bomb
_BREAKS = re.compile(r"[\r\n\0]")
# The least that the SDK's models of a prediction, a page and an account accept.
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
    """What the provider answered. `body` is None if it is not a JSON object."""

    status: int
    headers: Mapping[str, str]
    body: dict[str, Any] | None


class AnsweredError(Exception):
    """The answer is not a success: its status is 300 or more."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"HTTP {answer.status}")
        self.answer = answer

    @property
    def of_nothing(self) -> bool:
        """Whether the API says that what was asked for is not there, and not a server in front of it."""
        return self.answer.status == 404 and self.answer.body is not None


_answer: ContextVar[dict[str, Any] | None] = ContextVar("replicate_answer", default=None)


def last_body() -> dict[str, Any]:
    """The JSON object that answered the current task's last request."""
    body = _answer.get()
    if body is None:
        raise UnreadableError("no answer")
    return body


def forget_body() -> None:
    """Make sure that `last_body` returns no earlier request's answer."""
    _answer.set(None)


class Transport(httpx.AsyncBaseTransport):
    """What the SDK sends its requests through. It sends nothing to another origin than `base_url`'s.

    The SDK begins every path with `base_url` and /v1. `api_prefix` replaces this /v1. A token that is refused is read
    again, because it may have been rotated.
    """

    def __init__(self, base_url: str, api_prefix: str, token: Secret, *, limits: Limits = LIMITS) -> None:
        self._token = token
        self._base_url = httpx.URL(base_url)
        path = self._base_url.raw_path.rstrip(b"/")
        self._sdks_prefix, self._prefix = path + b"/v1/", path + api_prefix.encode() + b"/"
        self._origin = _origin(self._base_url)
        self._largest = limits.largest_body
        self.client = HttpClient(base_url, limits=limits)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return a success whose body is a JSON object; raise everything else.

        The SDK gets a minimal body, because its model of the whole body would cost more than all the rest, and nobody
        reads it.
        """
        token = self._token.value
        reply = await self._sent(request, token)
        if reply.status == 401 and await self._token.renewed(token):
            reply = await self._sent(request, self._token.value)  # a create too: a refused one bought nothing
        body = await _body_of(reply, self._largest)
        if reply.status >= 300:
            raise AnsweredError(Answer(reply.status, httpx.Headers(reply.headers), body))
        if body is None:
            raise UnreadableError(f"no JSON object (HTTP {reply.status})")
        _answer.set(body)
        return httpx.Response(reply.status, content=_MINIMAL_BODY, request=request)

    async def _sent(self, request: httpx.Request, token: str) -> Reply:
        headers = self._headers(request, token)
        if request.method == "POST":
            await reached("before_send")
        reply = await self.client.ask(request.method, self._url(request), headers, request.content)
        if request.method == "POST":
            await reached("request_sent")
        return reply

    async def aclose(self) -> None:
        """Close the connections."""
        await self.client.aclose()

    def _url(self, request: httpx.Request) -> str:
        """Where the request is sent."""
        path = self._prefix + request.url.raw_path.removeprefix(self._sdks_prefix)
        return f"{request.url.scheme}://{request.url.netloc.decode()}{path.decode()}"

    def _headers(self, request: httpx.Request, token: str) -> list[tuple[str, str]]:
        """The headers to send. Raises UnsupportedProtocol or LocalProtocolError if the request must not be sent."""
        if _origin(request.url) != self._origin or request.url.scheme not in {"http", "https"}:
            raise httpx.UnsupportedProtocol(f"no request to {request.url.scheme}://{request.url.netloc.decode()}")
        headers = [(name, value) for name, value in request.headers.multi_items() if name.lower() not in _REPLACED]
        headers.append(("Authorization", f"Bearer {token}"))
        if any(_BREAKS.search(part) for part in (*sum(headers, ()), request.url.raw_path.decode())):
            raise httpx.LocalProtocolError("a line break in a header")
        return [*headers, _UNCOMPRESSED]


async def _body_of(reply: Reply, largest: int) -> dict[str, Any] | None:
    """The JSON object in an answer. Raises UnreadableError only for a success, because other statuses say enough."""
    try:
        content = decoded(reply.headers, reply.body, largest=largest)
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
