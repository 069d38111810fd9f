"""The connections to one origin: as many as there are requests under way, used again last in, first out.

Idle ones are kept until the server closes them: a mint after a quiet hour waits for no TLS handshake. An address is
looked up for every connection that is opened, so one that changed is noticed by the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any

import anyio
import httpx
from aiohappyeyeballs import start_connection

from reactor.messages import message_of
from reactor.providers.connection import TIMEOUTS, Connection

if TYPE_CHECKING:
    from reactor.providers.connection import Reply

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
STEADY = 4.0  # seconds that a connection kept warm should last: Node and uvicorn close an idle one after five
FIRST_DELAY, LONGEST_DELAY = 1.0, 60.0  # seconds until the next, where it does not


class Connections:
    """Opens, uses and keeps them. `largest` is an answer's limit in bytes."""

    def __init__(self, base_url: httpx.URL, *, largest: int) -> None:
        self._base_url = base_url
        self._largest = largest
        self._tls = httpx.create_ssl_context()  # 50-90 ms, once
        self._tls.set_alpn_protocols(["http/1.1"])
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._none_open = asyncio.Event()
        self._none_open.set()

    async def ask(self, request: bytes) -> Reply:
        """Send a request over a connection of its own, kept or new. Raises as `Connection.ask`, and ConnectTimeout."""
        connection = await self._ready() or await self._connect()
        reply = await connection.ask(request)
        if connection.reusable:
            self._idle.append(connection)
        return reply

    async def keep_warm(self) -> None:
        """Hold one connection open though nothing is asked, until cancelled.

        One that the server closes is replaced at once; where it does not last, ever more rarely. Nothing is said over
        it, so no limit of the provider's is spent, and no failure is anybody's business: the next request tells.
        """
        delay = 0.0
        while True:
            await anyio.sleep(delay)
            began = time.monotonic()
            if not self._open:
                with contextlib.suppress(httpx.TransportError):
                    self._idle.append(await self._connect())
            await self._none_open.wait()
            lasted = time.monotonic() - began >= STEADY
            delay = 0.0 if lasted else min(max(FIRST_DELAY, 2 * delay), LONGEST_DELAY)

    async def aclose(self) -> None:
        """Close the connections."""
        for connection in self._open:
            connection.close()
        await self._none_open.wait()

    async def _ready(self) -> Connection | None:
        while self._idle:
            if await (connection := self._idle.pop()).usable():
                return connection
            connection.close()
        return None

    async def _connect(self) -> Connection:
        """Raises ConnectTimeout and ConnectError: the name, the way there, or TLS."""
        secure = self._base_url.scheme == "https"
        host, port = self._base_url.raw_host.decode(), self._base_url.port or (443 if secure else 80)
        try:
            with anyio.fail_after(TIMEOUTS["connect"]):
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
                sock = await start_connection(found, happy_eyeballs_delay=0.25, interleave=1, socket_factory=_socket)
                return await self._connected(sock, host if secure else None)
        except TimeoutError as error:
            raise httpx.ConnectTimeout(message_of(error)) from error
        except (OSError, ValueError, RuntimeError) as error:  # a name not to be encoded; what uvloop has for an OSError
            raise httpx.ConnectError(message_of(error)) from error

    async def _connected(self, sock: socket.socket, server_name: str | None) -> Connection:
        loop, tls = asyncio.get_running_loop(), None if server_name is None else self._tls
        made = Connection(largest=self._largest, made=self._made, lost=self._lost)
        try:
            await loop.create_connection(lambda: made, sock=sock, ssl=tls, server_hostname=server_name)
        except BaseException:
            if made in self._open:  # cancelled at the last moment, and uvloop will not tell the protocol
                made.close()
                self._lost(made)
            raise
        return made

    def _made(self, connection: Connection) -> None:
        self._open.add(connection)
        self._none_open.clear()

    def _lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if not self._open:
            self._none_open.set()


def _socket(address: Any) -> socket.socket:
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    for option in SOCKET_OPTIONS:
        made.setsockopt(*option)
    return made
