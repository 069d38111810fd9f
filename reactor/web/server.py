"""uvicorn as one task of the worker: it takes no signals, leaves logging alone, and ends when it is cancelled."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
import uvicorn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

    from reactor.telemetry import Trouble

ENDS_WITHIN = 1  # seconds for answers that are under way; a whole number, as uvicorn takes it


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no handlers: signals are the worker's, or the host application's."""
        yield


async def serve(app: ASGIApp, trouble: Trouble, *, host: str, port: int) -> None:
    """Serve until cancelled. A port that cannot be had is told, and is no reason to stop anything."""
    try:
        sock = _listening(host.strip("[]"), port)
    except (OSError, UnicodeError) as error:
        trouble.met(error)
        return
    config = uvicorn.Config(
        app, http="h11", ws="none", lifespan="off", log_config=None, log_level=None,
        proxy_headers=False, server_header=False, timeout_graceful_shutdown=ENDS_WITHIN,
    )  # fmt: skip
    config.access_log = False  # given to Config, it would silence the access log of a host that runs in uvicorn too
    server = _Server(config)
    with sock:
        async with anyio.create_task_group() as group:
            # Shielded: cancelled itself, uvicorn would leave its connections open. It ends within a second or two.
            with anyio.CancelScope(shield=True) as scope:
                group.start_soon(_end_when_cancelled, server, scope)
                await server.serve(sockets=[sock])
            group.cancel_scope.cancel()


async def _end_when_cancelled(server: uvicorn.Server, scope: anyio.CancelScope) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        server.should_exit = True
        scope.deadline = anyio.current_time() + 2 * ENDS_WITHIN


def _listening(host: str, port: int) -> socket.socket:
    """Listen before uvicorn does: it ends the process where it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    name = host.encode("idna").decode()  # here, since create_server would leave a socket open where it cannot
    return socket.create_server((name, port), family=family)
