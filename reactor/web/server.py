"""uvicorn as one task of the worker: it takes no signals, leaves logging alone, and ends when it is cancelled."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import anyio
import uvicorn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

    from reactor.telemetry import Trouble

_NOT_HERE = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
ENDS_WITHIN = 1  # seconds for answers that are under way; a whole number, as uvicorn takes it


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no handlers: signals are the worker's, or the host application's."""
        yield


async def serve(app: ASGIApp, trouble: Trouble, *, host: str, port: int) -> None:
    """Serve until cancelled. A port that cannot be had is told, and is no reason to stop anything."""
    try:
        sockets = await _listening(host.strip("[]"), port)
    except (OSError, UnicodeError) as error:
        trouble.met(error)
        return
    config = uvicorn.Config(
        app, http="h11", ws="none", lifespan="off", log_config=None, log_level=None,
        proxy_headers=False, server_header=False, timeout_graceful_shutdown=ENDS_WITHIN,
    )  # fmt: skip
    config.access_log = False  # given to Config, it would silence the access log of a host that runs in uvicorn too
    server = _Server(config)
    with ExitStack() as listening:
        for sock in sockets:
            listening.enter_context(sock)
        async with anyio.create_task_group() as group:
            # Shielded: cancelled itself, uvicorn would leave its connections open. It ends within a second or two.
            with anyio.CancelScope(shield=True) as scope:
                group.start_soon(_end_when_cancelled, server, scope)
                await server.serve(sockets=sockets)
            group.cancel_scope.cancel()


async def _end_when_cancelled(server: uvicorn.Server, scope: anyio.CancelScope) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        server.should_exit = True
        scope.deadline = anyio.current_time() + 2 * ENDS_WITHIN


async def _listening(host: str, port: int) -> list[socket.socket]:
    """Listen at each of the host's addresses, before uvicorn does: it ends the process where it cannot.

    What this machine does not have, as IPv6 that is off, is left out if another address can be had.
    """
    lacking = OSError(f"{host} has no address")
    with ExitStack() as listening:
        sockets = []
        for family, address in await _addresses(host, port):
            try:
                sockets.append(listening.enter_context(socket.create_server(address, family=family)))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                lacking = error
        if not sockets:
            raise lacking
        listening.pop_all()
        return sockets


async def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str | int, ...]]]:
    """Family and address of each place to listen at; `::` means everywhere, in IPv4 too, as in most servers."""
    hosts = ("::", "0.0.0.0") if host == "::" else (host,)  # noqa: S104  (a token is required for it)
    found = [
        (socket.AddressFamily(family), address)
        for each in hosts
        for family, *_, address in await anyio.getaddrinfo(each, port, type=socket.SOCK_STREAM)
    ]
    return list(dict.fromkeys(found))  # a hosts file may name one twice
