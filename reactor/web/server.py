"""The HTTP port, a task of the worker. It handles no signals, does not configure logging, and ends when cancelled.

Anybody may connect, and every connection takes a descriptor that the engine may need. So only a few are open at once. A
new connection to a full port replaces an old one: of the address with the most connections, the one that has waited
longest. So a probe is answered even if another address holds many connections.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from collections import Counter
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import uvicorn
from uvicorn.server import ServerState

from reactor.web.connection import CLIENT_TIMEOUT, Connection
from reactor.web.refusals import quiet_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp

    from reactor.telemetry import Trouble
    from reactor.web.refusals import Refusals

_NOT_HERE = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
ENDS_WITHIN = 1.0  # seconds in which unfinished answers may end
ACCEPT_AGAIN = 0.1  # seconds to wait after a failed accept
MOST, LEAST = 64, 4  # connections at once
_ENGINE_DESCRIPTORS = 64  # beside those of the slots: database connections, files, the loop
_SLOT_DESCRIPTORS = 2  # a request to the provider, and a connection attempt at another of its addresses


def connection_limit(slots: int) -> int:
    """How many connections may be open at once, so that the engine keeps the descriptors that it needs."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return beside_the_engine(allowed, slots)


def beside_the_engine(allowed: int, slots: int) -> int:
    """How many connections fit beside the engine into this process's limit of descriptors."""
    if allowed == resource.RLIM_INFINITY:
        return MOST
    return max(LEAST, min(MOST, allowed - _ENGINE_DESCRIPTORS - _SLOT_DESCRIPTORS * slots))


async def serve(
    app: ASGIApp,
    refusals: Refusals,
    *,
    host: str,
    port: int,
    most: int = MOST,
    client_timeout: float = CLIENT_TIMEOUT,
    closing: Callable[[], None] = lambda: None,
) -> None:
    """Serve until cancelled, `most` connections at once. If it cannot listen, that is logged and the worker goes on.

    `closing`: called at the end, so that answers without an end of their own end.
    """
    try:
        sockets = await _listening(host.strip("[]"), port)
    except (OSError, UnicodeError) as error:
        refusals.trouble.met(error)
        return
    config = uvicorn.Config(app, http="h11", ws="none", lifespan="off", log_config=None, proxy_headers=False)
    config.load()
    state = ServerState()
    connection = partial(Connection, config, state, refusals, quiet_logger(refusals), client_timeout=client_timeout)
    door = Door(state, connection, refusals.trouble, most)
    try:
        with ExitStack() as listening:
            async with anyio.create_task_group() as group:
                for sock in sockets:
                    group.start_soon(door.keep, listening.enter_context(sock))
    finally:
        closing()
        await _end(state)
        refusals.end()


class Door:
    """Accepts clients."""

    def __init__(self, state: ServerState, connection: Callable[[], Connection], trouble: Trouble, most: int) -> None:
        self._state = state
        self._connection = connection
        self._trouble = trouble
        self._most = most

    async def keep(self, listening: socket.socket) -> None:
        """Accept one client in each turn of the loop, until cancelled."""
        loop = asyncio.get_running_loop()
        listening.setblocking(False)
        while True:
            try:
                client, _ = await loop.sock_accept(listening)
            except ConnectionAbortedError:
                continue
            except OSError as error:  # usually because no descriptor is left
                self._trouble.met(error)
                self._make_room(0)
                await anyio.sleep(ACCEPT_AGAIN)
                continue
            self._make_room(self._most)
            await loop.connect_accepted_socket(self._connection, client)
            await anyio.lowlevel.checkpoint()

    def _make_room(self, most: int) -> None:
        """If `most` connections are open, close one: of the address with the most, the one that has waited longest.

        A connection that is being answered is closed only if no other is left.
        """
        open_now = [each for each in self._state.connections if isinstance(each, Connection)]
        if open_now and len(open_now) >= most:
            crowd = Counter(each.address for each in open_now)
            min(open_now, key=lambda each: (-crowd[each.address], each.answering, each.changed_at)).make_room()


async def _end(state: ServerState) -> None:
    """Let unfinished answers end within ENDS_WITHIN, then abort the rest."""
    for connection in list(state.connections):
        connection.shutdown()
    with anyio.CancelScope(shield=True):
        if state.tasks:
            await asyncio.wait(state.tasks, timeout=ENDS_WITHIN)
        for connection in list(state.connections):
            connection.transport.abort()
        for task in list(state.tasks):
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)
        await anyio.lowlevel.checkpoint()  # the transports close in the loop's next turn


async def _listening(host: str, port: int) -> list[socket.socket]:
    """Listen at each of the host's addresses.

    An address that this machine lacks (as with IPv6 off) is left out, unless no other address is left.
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
    """The family and address of each socket. `::` means every address, in IPv4 too, as with most servers."""
    hosts = ("::", "0.0.0.0") if host == "::" else (host,)  # noqa: S104  (a token is required for it)
    found = [
        (socket.AddressFamily(family), address)
        for each in hosts
        for family, *_, address in await anyio.getaddrinfo(each, port, type=socket.SOCK_STREAM)
    ]
    return list(dict.fromkeys(found))  # a hosts file may list an address twice
