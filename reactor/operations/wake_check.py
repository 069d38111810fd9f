"""Sends one NOTIFY through DATABASE_URL, and hears it where a worker would listen."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

import anyio

from reactor.database.table import plain_query
from reactor.operations.finding import Finding

if TYPE_CHECKING:
    import asyncpg

    from reactor.database.session import Session

WITHIN = 5.0  # seconds


async def wake(listening: asyncpg.Connection[Any], session: Session, url: str, *, within: float = WITHIN) -> Finding:
    """Ring a channel of our own; `url` names the setting of the connection that listens."""
    channel, heard = f"reactor_doctor_{secrets.token_hex(8)}", anyio.Event()
    await listening.add_listener(channel, lambda *_: heard.set())
    began = time.monotonic()
    await session.fetch(plain_query("ring"), channel)
    with anyio.move_on_after(within):
        await heard.wait()
    if heard.is_set():
        return Finding("wake", "ok", f"a NOTIFY arrived on {url} after {1000 * (time.monotonic() - began):.1f} ms")
    said = f"a NOTIFY did not arrive on {url} within {within:g} s: mints wait for the sweep"
    return Finding("wake", "failed", said, "set LISTEN_DATABASE_URL to a direct connection to the same database")
