"""The HTTP beneath the SDK: our timeouts, no hidden retries, and the whole answer kept.

The SDK (replicate 1.0.7) wraps the transport it is given in one that repeats a GET up to ten times, obeys any
Retry-After, and drops headers and most of an error's body; on a create it turns all timeouts off. None of that has a
switch. But it repeats *responses*, never exceptions: so whatever is not a JSON object with a 2xx status leaves here as
an exception, and what is one is also kept aside as it came, since the SDK's own model refuses answers that the real API
gives (`aborted`, an error that is an object, a null version).

A transport of one's own also means: no proxy from the environment (HTTPS_PROXY and the like), but SSL_CERT_FILE and
SSL_CERT_DIR are heeded.
"""

from __future__ import annotations

import socket
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import orjson

from reactor.failpoints import reached

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST_BODY = 8 * 1024 * 1024  # bytes; a full page of the listing is some hundred kilobytes
TIMEOUTS = {"connect": 5.0, "write": 15.0, "read": 30.0, "pool": 5.0}  # seconds
# Idle connections are kept until the server closes them: a mint after a quiet hour waits for no TLS handshake.
LIMITS = httpx.Limits(max_connections=1000, max_keepalive_connections=100, keepalive_expiry=None)
# A peer that is gone without a word is noticed within 35 s, by TCP and not by a create that then hangs; the probes also
# keep the path open through NAT.
_KEEPALIVE = {
    "TCP_KEEPIDLE": 20,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
}  # seconds, seconds, probes; where the OS has them
SOCKET_OPTIONS = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in _KEEPALIVE.items()
        if hasattr(socket, name)
    ),
]


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


class UnreadableError(Exception):
    """A success whose body is no JSON object, or too large."""


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
    """httpx's own transport, told what the SDK does not tell it.

    One per request under way, and so one connection each, used again last in, first out. httpx searches a pool of a
    hundred at every step of every request: 14 ms of CPU a request where a hundred are in flight, against 1 ms.
    """

    def __init__(self) -> None:
        self._tls = httpx.create_ssl_context()  # 50-90 ms, once
        self._idle: list[httpx.AsyncBaseTransport] = []

    def _new(self) -> httpx.AsyncBaseTransport:
        return httpx.AsyncHTTPTransport(verify=self._tls, limits=LIMITS, socket_options=SOCKET_OPTIONS)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return a success whose body is a JSON object; raise everything else."""
        request.extensions = {**request.extensions, "timeout": TIMEOUTS}
        if request.method == "POST":
            await reached("before_send")
        inner = self._idle.pop() if self._idle else self._new()
        try:
            response = await inner.handle_async_request(request)
            try:
                if request.method == "POST":
                    await reached("request_sent")
                content = await _bounded(response)
            finally:
                await response.aclose()
        finally:
            self._idle.append(inner)
        body = _object(content)
        if response.status_code >= 300:
            raise AnsweredError(Answer(response.status_code, response.headers, body))
        if body is None:
            raise UnreadableError(f"no JSON object (HTTP {response.status_code})")
        _answer.set(body)
        return httpx.Response(
            response.status_code, headers={"content-type": "application/json"}, content=content, request=request
        )

    async def aclose(self) -> None:
        """Close the connections."""
        while self._idle:
            await self._idle.pop().aclose()


async def _bounded(response: httpx.Response) -> bytes:
    """The decoded body. Raises UnreadableError beyond LARGEST_BODY, decompressed."""
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > LARGEST_BODY:
            raise UnreadableError(f"more than {LARGEST_BODY:,} bytes")
    return bytes(content)


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        parsed = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) else None
