"""Keeps a connection to the provider open without requests, so that a mint after a quiet hour needs no handshake.

A server closes a connection that was idle for too long, and only trying shows how long that is. So the pause between
two requests doubles while the connection lasts. When it did not last, the pause is halved and never doubled again.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from reactor.errors import GenerationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from reactor.providers.http_client import HttpClient

SHORTEST, LONGEST = 3.0, 48.0  # seconds; Node and uvicorn close an idle connection after five


async def keep_warm(client: HttpClient, ask: Callable[[], Awaitable[None]]) -> None:
    """Send a light request whenever no request was made for a while, until cancelled.

    Its errors are ignored, because the next request that matters reports them.
    """
    pause, longest, since = SHORTEST, LONGEST, anyio.current_time()
    while True:
        quiet = anyio.current_time() - max(since, client.asked_at)
        if quiet < pause:
            await anyio.sleep(pause - quiet)
            continue
        opened, since = client.connections, anyio.current_time()
        with suppress(GenerationError):
            await ask()
        if client.connections == opened:
            pause = min(2.0 * pause, longest)
        elif opened:
            pause = longest = max(pause / 2.0, SHORTEST)
