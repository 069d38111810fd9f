"""How the SDK's requests travel: our timeouts, no hidden retries, and the whole answer kept.

The SDK (replicate 1.0.7) repeats a GET up to ten times, obeys any Retry-After, drops headers and most of an error's
body, and turns all timeouts off for a create. No setting changes that. But each call that we make asks the SDK's client
through one method. `DirectClient` replaces this method by one that sends the request through `http_client.py`.

It raises an exception for everything but a JSON object with a 2xx status. `last_body` returns such an object as it
came. The SDK gets the same small answer each time, because its own model refuses answers that the real API gives
(`aborted`, an error that is an object, a null version).
"""

from __future__ import annotations

import json
import math
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import orjson
from anyio.lowlevel import checkpoint
from replicate.__about__ import __version__
from replicate.client import Client

from reactor.failpoints import reached
from reactor.providers.arguments import is_token
from reactor.providers.bodies import UnreadableError, decoded
from reactor.providers.http_client import HttpClient
from reactor.providers.limits import LIMITS, Limits
from reactor.providers.pages import read_object
from reactor.urls import base_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reactor.providers.http_client import Reply
    from reactor.secret import Secret

LARGE = 100_000  # bytes; after a larger body was parsed, other tasks have a turn first
LEAST_LIFE = 5  # seconds; the API refuses a shorter Cancel-After
_SDKS_PREFIX = "/v1/"  # of each path that the SDK asks for
_RESERVED = "%/?&=:;,+~$!*'()@[]"  # characters of a URL that are sent as they are; with %, what is encoded already
_HEADERS = [
    ("Accept", "*/*"),
    ("Accept-Encoding", "identity"),  # answers are small, and a compressed one can be a bomb
    ("User-Agent", f"replicate-python/{__version__}"),
]
# The least that the SDK's models of a prediction, a page and an account accept.
_MINIMAL_BODY = orjson.dumps(
    {
        **dict.fromkeys(("id", "model", "version", "username", "name"), "-"),
        "status": "starting",
        "type": "user",
        "results": [],
    }
)
_MINIMAL_RESPONSE = httpx.Response(200, content=_MINIMAL_BODY)


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
        """Whether the API itself, and not a server in front of it, says that there is no such thing."""
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


class DirectClient(Client):
    """The SDK's client, but its requests go through `http_client.py`, and only to the API at `url` + `api_prefix`.

    `cancel_after`: seconds from a prediction's creation until the provider ends it. An API token that is refused is
    read again, because it may have been rotated. Raises ValueError for a URL or a proxy that cannot be used.
    """

    def __init__(
        self, url: str, api_prefix: str, token: Secret, *, cancel_after: float | None, limits: Limits = LIMITS
    ) -> None:
        # The SDK's own HTTP client gets neither our token nor, because of the "-", the environment's.
        super().__init__("-", base_url=url, transport=_Refusal())
        prefix = api_prefix.strip("/")
        self._api = quote(f"{base_url(url)}/{prefix}/" if prefix else f"{base_url(url)}/", safe=_RESERVED)
        self._token = token
        self._cancel_after = None if cancel_after is None else f"{max(LEAST_LIFE, math.ceil(cancel_after))}s"
        self._largest = limits.largest_body
        self.http = HttpClient(url, limits=limits)

    async def _async_request(self, method: str, path: str, **given: Any) -> httpx.Response:
        """Send JSON or nothing. Return a success whose body is a JSON object; raise everything else.

        The SDK gets a minimal body, because its model of the whole body would cost more than all the rest, and nobody
        reads it.
        """
        if any(value for name, value in given.items() if name not in {"json", "timeout"}):
            raise httpx.UnsupportedProtocol("the SDK sends more than JSON")
        token = self._token.value
        reply = await self._sent(method, path, given.get("json"), token)
        if reply.status == 401 and await self._token.renewed(token):
            # Also if it is a create: one that was refused bought nothing.
            reply = await self._sent(method, path, given.get("json"), self._token.value)
        body = await _body_of(reply, self._largest)
        if reply.status >= 300:
            raise AnsweredError(Answer(reply.status, httpx.Headers(reply.headers), body))
        if body is None:
            raise UnreadableError(f"no JSON object (HTTP {reply.status})")
        _answer.set(body)
        return _MINIMAL_RESPONSE

    async def _sent(self, method: str, path: str, data: object, token: str) -> Reply:
        """Raises UnsupportedProtocol or LocalProtocolError if the request must not be sent."""
        if not path.startswith(_SDKS_PREFIX):
            raise httpx.UnsupportedProtocol(f"the SDK asked for something outside of {_SDKS_PREFIX}")
        if not is_token(token):  # aiohttp would not send it either, but not say so
            raise httpx.LocalProtocolError("no header can carry the API token")
        url = self._api + quote(path.removeprefix(_SDKS_PREFIX), safe=_RESERVED)
        headers, content = [*_HEADERS, ("Authorization", f"Bearer {token}")], b""
        if data is not None:
            headers.append(("Content-Type", "application/json"))
            content = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        if method != "POST":
            return await self.http.ask(method, url, headers, content)
        if self._cancel_after is not None and path.endswith("/predictions"):
            # The provider counts it from the creation, even if another worker takes over.
            headers.append(("Cancel-After", self._cancel_after))
        await reached("before_send")
        reply = await self.http.ask(method, url, headers, content)
        await reached("request_sent")
        return reply

    async def aclose(self) -> None:
        """Close the connections."""
        await self.http.aclose()


class _Refusal(httpx.AsyncBaseTransport):
    """Refuses what the SDK sends through its own HTTP client: streams, files, and calls of other versions."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raise UnsupportedProtocol."""
        raise httpx.UnsupportedProtocol(f"the SDK sent a {request.method} by itself")


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
