"""A worker's statements, for tests that run no worker."""

from contextlib import asynccontextmanager

from reactor.database.session import Session
from reactor.database.store import Store, discover
from reactor.text.redaction import Redactor


@asynccontextmanager
async def store_of(database):
    sessions = {role: Session(database, name=role) for role in ("claims", "writes", "renewals", "upkeep")}
    table = await discover(sessions["upkeep"], "tokens_s0")
    yield Store(table, Redactor([]), **sessions, lease=60.0, create_interval=0.0)
    for session in sessions.values():
        await session.aclose()
