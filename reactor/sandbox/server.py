"""A socket in the current event loop: uvicorn's protocol without its server, because tests cut connections."""

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
_ENDING = 5  # seconds, at most


class _Protocol(H11Protocol):
    """Gives its transport to the application, in the scope's state."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


def cut(scope: Scope, *, reset: bool = False) -> bool:
    """End the connection of a request; `reset`: with a TCP reset. False: the request came without a connection."""
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
    """Serve until the block ends; give the base URL. Raises OSError if the port is taken."""
    with _listening(host, port) as sock:
        config = uvicorn.Config(
            _quiet(app), http=_Protocol, ws="none", lifespan="off", log_config=None, access_log=False,
            timeout_keep_alive=_KEEP_ALIVE,
        )  # fmt: skip
        config.load()
        state = ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Protocol(config, state, {}), sock=sock, backlog=_BACKLOG)
        async with anyio.create_task_group() as group:
            group.start_soon(_keep_date, state)
            try:
                name = f"[{host}]" if ":" in host else host
                yield f"http://{name}:{sock.getsockname()[1]}"
            finally:
                server.close()
                group.cancel_scope.cancel()
                await _end(state)


@contextlib.contextmanager
def _listening(host: str, port: int) -> Any:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.setblocking(False)
        yield sock


async def _keep_date(state: ServerState) -> None:
    while True:
        state.default_headers = [(b"date", formatdate(usegmt=True).encode()), (b"server", b"cloudflare")]
        await anyio.sleep(1)


async def _end(state: ServerState) -> None:
    """Cut all connections, and cancel the requests that are still served."""
    for connection in list(state.connections):
        connection.transport.abort()
    with anyio.move_on_after(_ENDING, shield=True):
        await anyio.lowlevel.checkpoint()  # lets the protocols see the end, so that they log no error
        for task in list(state.tasks):
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)


def _quiet(app: ASGIApp) -> ASGIApp:
    """The application, without errors for a client that leaves before its answer or before the end of its request."""

    async def called(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(ConnectionError, anyio.ClosedResourceError, asyncio.CancelledError, ClientDisconnect):
            await app(scope, receive, send)

    return called
