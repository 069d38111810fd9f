"""A worker's statements, for tests that run no worker."""

from contextlib import asynccontextmanager

import anyio

from reactor.database.accounting import Accounting
from reactor.database.discovery import discover
from reactor.database.session import Session
from reactor.database.store import Store
from reactor.text.redaction import Redactor


@asynccontextmanager
async def store_of(database, kind=Store):
    sessions = {role: Session(database, name=role) for role in ("claims", "writes", "renewals", "maintenance")}
    table = await discover(sessions["maintenance"], "tokens_s0")
    yield kind(table, Redactor([]), **sessions, lease=60.0, create_interval=0.0, accounting=Accounting(model="a/model"))
    for session in sessions.values():
        await session.aclose()


def failing_once(name, error, *, after=False):
    """A kind of store of which one call fails, before or after it did what it should. Then `failed` is set."""
    method, failed = getattr(Store, name), anyio.Event()

    async def fails_once(store, *arguments, **named):
        if failed.is_set():
            return await method(store, *arguments, **named)
        failed.set()
        if after:
            await method(store, *arguments, **named)
        raise error

    return type("FailingOnce", (Store,), {name: fails_once, "failed": failed})
