"""One origin's HTTP client. aiohttp does the framing, pooling, timeouts and proxying.

What matters is whether a request may have reached the provider. `httpx.ConnectError` and `httpx.ConnectTimeout` are
raised before the request was written, so nothing was bought. After any other `httpx.TransportError` something may have
been bought. A create (POST) is never repeated here. aiohttp repeats a GET once if its connection broke.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
import httpx
from aiohttp.client_proto import ResponseHandler
from aiohttp.streams import EMPTY_PAYLOAD
from yarl import URL

from reactor.providers.bodies import UnreadableError
from reactor.providers.limits import LIMITS, Limits
from reactor.providers.proxies import proxy_of
from reactor.text.messages import message_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiohttp.connector import Connection

_KEEP_IDLE = 3600.0  # seconds; a server closes an idle connection sooner, and we notice
LARGEST_HEADER = 8 * 1024  # bytes of one header
LARGEST_HEAD = 64 * 1024  # bytes of all headers, including those of 1xx answers before; the API's are about 1,000
_LARGEST_READ = 256 * 1024  # bytes that the loop reads at once; they may include the start of the body
SMALL = 100_000  # bytes; an answer up to this size is read on, however many bytes of others are unfinished
_LARGEST_CHUNK = 64 * 1024  # bytes; at most twice as many wait to be read, and each byte may be a chunk of its own
# TCP notices within 35 s that a peer has vanished; otherwise a create would hang on it. The probes also keep the path
# through NAT open.
_KEEPALIVE = {
    "TCP_KEEPIDLE": 20,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
}  # seconds, seconds, probes; set if the OS has them
SOCKET_OPTIONS = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in _KEEPALIVE.items()
        if hasattr(socket, name)
    ),
]
_NEVER_SENT = (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came; `body` is not decompressed yet."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


class _Protocol(ResponseHandler):
    """Aborts an answer whose headers never end. aiohttp would keep them all, at 25 bytes of memory for each byte."""

    _head = 0  # bytes received before the body

    def set_response_params(self, **given: Any) -> None:
        """A request begins: see ResponseHandler."""
        self._head = 0
        super().set_response_params(**given)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._payload is None or self._payload is EMPTY_PAYLOAD:  # the latter after a 1xx answer
            self._head += len(data)
            if self._head > LARGEST_HEAD + _LARGEST_READ:
                self.set_exception(aiohttp.ClientPayloadError(f"more than {LARGEST_HEAD:,} bytes of headers"))
                self.abort()
                return
        super().data_received(data)


class _Connector(aiohttp.TCPConnector):
    """Never hands out an idle connection on which the server has sent something unasked.

    A load balancer sends 408 before it closes an idle connection. aiohttp would take that for the next answer.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        make: Callable[..., ResponseHandler] = _Protocol
        self._factory = partial(make, loop=self._loop)

    async def connect(self, *request: Any, **given: Any) -> Connection:
        """See aiohttp.BaseConnector."""
        while True:
            connection = await super().connect(*request, **given)
            if connection.protocol is None or not connection.protocol.should_close:
                return connection
            connection.close()


class HttpClient:
    """Sends requests to one origin. An answer with a body larger than the limit is unreadable.

    Raises ValueError if the environment names a proxy that cannot be used.
    """

    def __init__(self, base_url: str, *, limits: Limits = LIMITS) -> None:
        self._proxy = proxy_of(base_url)
        self._limits = limits
        self._tls = httpx.create_ssl_context()  # takes 50-90 ms, so once; heeds SSL_CERT_FILE and SSL_CERT_DIR
        self._session: aiohttp.ClientSession | None = None
        self._reading = 0  # bytes of unfinished answers
        self.connections = 0  # opened so far
        self.asked_at = float("-inf")  # when the last request was made, by the loop's clock

    async def ask(self, method: str, url: str, headers: list[tuple[str, str]], content: bytes) -> Reply:
        """Send a request and return its answer. If it fails or is cancelled, its connection is closed.

        Raises httpx.TransportError as described above, and UnreadableError for an answer that is too large.
        """
        self.asked_at = anyio.current_time()
        try:
            return await self._asked(method, url, headers, content)
        except aiohttp.ConnectionTimeoutError as error:
            raise httpx.ConnectTimeout(message_of(error)) from error
        except _NEVER_SENT as error:
            raise httpx.ConnectError(_why_unconnected(error)) from error
        except UnicodeError as error:  # the host's name cannot be encoded for a lookup
            raise httpx.ConnectError(message_of(error)) from error
        except TimeoutError as error:
            raise httpx.ReadTimeout(f"no complete answer within {self._limits.answer_within:g} s") from error
        except (aiohttp.ClientResponseError, aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError) as error:
            raise httpx.RemoteProtocolError(message_of(error)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise httpx.ReadError(message_of(error)) from error

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _asked(self, method: str, url: str, headers: list[tuple[str, str]], content: bytes) -> Reply:
        if self._session is None:
            self._session = self._opened()
        options: dict[str, Any] = {"data": content or None, "allow_redirects": False, "proxy": self._proxy}
        async with self._session.request(method, URL(url, encoded=True), headers=headers, **options) as response:
            return Reply(response.status, response.raw_headers, await self._body(response))

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        """Raises UnreadableError. aiohttp then closes the connection, because the answer was not read to its end."""
        body, limits = bytearray(), self._limits
        try:
            async for piece in response.content.iter_any():
                body += piece
                self._reading += len(piece)
                if len(body) > limits.largest_body:
                    raise UnreadableError(f"more than {limits.largest_body:,} bytes")
                if len(body) > SMALL and self._reading > limits.most_unfinished:
                    raise UnreadableError(f"more than {limits.most_unfinished:,} bytes of several answers at once")
        finally:
            self._reading -= len(body)
        return bytes(body)

    def _opened(self) -> aiohttp.ClientSession:
        """A new session. The first request makes it, because a session needs a running event loop."""
        # Without a DNS cache, the next connection notices a changed address.
        connector = _Connector(
            limit=0, ssl=self._tls, use_dns_cache=False, keepalive_timeout=_KEEP_IDLE, socket_factory=self._socket
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._limits.answer_within, connect=self._limits.connect_within),
            auto_decompress=False,  # bodies.py does it, with a bound
            read_bufsize=_LARGEST_CHUNK,
            max_line_size=LARGEST_HEADER,
            max_field_size=LARGEST_HEADER,
            max_headers=LARGEST_HEAD // 16,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        )

    def _socket(self, address: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, *_ = address
        self.connections += 1
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        for option in SOCKET_OPTIONS:
            made.setsockopt(*option)
        return made


def _why_unconnected(error: aiohttp.ClientError) -> str:
    """Why there is no connection. aiohttp's own message repeats the address and the TLS settings."""
    match error:
        case aiohttp.ClientHttpProxyError():
            return f"the proxy answered HTTP {error.status}"
        case aiohttp.ClientConnectorCertificateError():
            return message_of(error.certificate_error)
        case aiohttp.ClientConnectorError():
            return message_of(error.os_error)
        case _:
            return message_of(error)
