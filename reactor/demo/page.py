"""The page of the demo's reactor, on a port of this machine."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from reactor.web import Keys, Refusals, Site, application, serve
from reactor.web.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from reactor.engine.health import Health
    from reactor.settings import Settings
    from reactor.telemetry import Telemetry

HOST = "127.0.0.1"


@asynccontextmanager
async def page(settings: Settings, telemetry: Telemetry, health: Health, port: int) -> AsyncIterator[None]:
    """Serve the page while the body runs."""
    site, refusals = Site(settings, telemetry, health), Refusals(telemetry)
    app = application(site, health, Metrics(), refusals, keys=Keys(None, None), host=HOST)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: serve(app, refusals, host=HOST, port=port, closing=site.changes.end))
            yield
            group.cancel_scope.cancel()
    finally:
        with anyio.move_on_after(1.0, shield=True):
            await site.aclose()


def free_port(wanted: int) -> int:
    """The wanted port if nobody listens there, else another one that is free."""
    for port in (wanted, 0):
        with socket.socket(socket.AF_INET) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((HOST, port))
            except OSError:
                continue
            return int(sock.getsockname()[1])
    return wanted
