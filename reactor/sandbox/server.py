"""A socket in the current event loop. It uses uvicorn's protocol without its server, because faults cut connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import uvicorn
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp, Receive, Scope, Send

_BACKLOG = 2048
_KEEP_ALIVE = 75  # seconds
_ENDS_WITHIN = 5  # seconds


class _Protocol(H11Protocol):
    """Gives its transport to the application, in the scope's state, so that `cut` can end the connection."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}

    def data_received(self, data: bytes) -> None:
        now = formatdate(usegmt=True).encode()
        self.server_state.default_headers = [(b"date", now), (b"server", b"cloudflare")]
        super().data_received(data)


def cut(scope: Scope, *, reset: bool = False) -> bool:
    """End the connection of a request; `reset`: with a TCP reset. False: the request came in process."""
    transport = scope.get("state", {}).get("transport")
    if transport is None:
        return False
    if reset:
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
    else:
        transport.close()
    return True


@asynccontextmanager
async def serving(app: ASGIApp, host: str, port: int) -> AsyncIterator[str]:
    """Serve until the block ends and yield the base URL. Raises OSError if the port is taken."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        config = uvicorn.Config(
            _quiet(app), http=_Protocol, ws="none", lifespan="off", log_config=None, access_log=False,
            timeout_keep_alive=_KEEP_ALIVE,
        )  # fmt: skip
        config.load()
        state = ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Protocol(config, state, {}), sock=sock, backlog=_BACKLOG)
        try:
            name = f"[{host}]" if ":" in host else host
            yield f"http://{name}:{sock.getsockname()[1]}"
        finally:
            server.close()
            await _end(state)


async def _end(state: ServerState) -> None:
    """Cut all connections, and cancel the requests that are still being answered."""
    for connection in list(state.connections):
        connection.transport.abort()
    with anyio.move_on_after(_ENDS_WITHIN, shield=True):
        await anyio.lowlevel.checkpoint()  # the protocols then know that the connection is lost, and log no error
        for task in list(state.tasks):
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)


def _quiet(app: ASGIApp) -> ASGIApp:
    """Return the application without the errors of a client that disconnects before it has its answer."""

    async def called(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(ConnectionError, anyio.ClosedResourceError, asyncio.CancelledError, ClientDisconnect):
            await app(scope, receive, send)

    return called
