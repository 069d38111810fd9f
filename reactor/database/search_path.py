"""Pins the search path of our sessions.

PostgreSQL takes the function, or the operator, whose argument types match best, from any schema of the path. So a role
that may create in one of them could have its own code run as the worker. Our sessions therefore begin with
`pg_catalog, pg_temp`, and our statements name all other objects with their schemas.

Triggers of the host's run in our session, and many name their tables without a schema. So once the table is known, the
schemas that the session inherited are added again, except those in which a role that we do not trust may create or has
created: see path.sql.

Which path is safe changes with every GRANT and CREATE. So a session that is in use asks again after SAFE_FOR, for all
sessions of its worker.

Through a pooler we share the session with others. There each statement runs in a transaction that sets the path.
"""

from __future__ import annotations

import secrets
import time
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reactor.database.connections import dial
from reactor.database.table import PINNED, plain_query
from reactor.database.timings import CONNECTION_TIMINGS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import asyncpg

    from reactor.database.timings import ConnectionTimings
    from reactor.secret import Secret


SAFE_FOR = 30.0  # seconds until we ask again which path is safe


class SafePath:
    """The search path that all sessions of a worker share: pinned until the table is known."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = PINNED
        self._clock = clock
        self._relation: str | None = None
        self._good_until = float("-inf")  # monotonic seconds

    @property
    def due(self) -> bool:
        """Whether it is time to ask again, before the next statement."""
        return self._relation is not None and self._clock() >= self._good_until

    def serve(self, relation: str) -> None:
        """Triggers of this table run from now on, so the next statement asks which path is safe."""
        if relation != self._relation:
            self._relation = relation
            self._good_until = float("-inf")

    async def ask(self, connection: asyncpg.Connection[Any], inherited: Inherited | None = None) -> None:
        """Ask which path is safe, if the table is known. The session must be pinned, or a pooler's.

        Statements of other sessions do not wait for the answer: they use the path as it was.
        """
        if self._relation is None:
            return
        self._good_until = self._clock() + SAFE_FOR
        async with within(connection, inherited) if inherited else nullcontext():
            (safe,) = await connection.fetch(plain_query("path"), self._relation)
        self.path = safe["path"]


@dataclass(frozen=True, slots=True)
class Inherited:
    """The search path that a pooler's session had before us."""

    path: str  # the setting
    schemas: str  # those that it names and that exist, as an array's text


async def connect(
    dsn: str | Secret, *, name: str, timings: ConnectionTimings = CONNECTION_TIMINGS
) -> tuple[asyncpg.Connection[Any], Inherited | None]:
    """Open one connection and pin it, for statements that fire no trigger of the host's. Raises as `dial` does."""
    connection, pooled = await dial(dsn, name=name, timings=timings)
    try:
        return connection, await pin(connection, pooled=pooled)
    except BaseException:
        connection.terminate()
        raise


async def pin(connection: asyncpg.Connection[Any], *, pooled: bool) -> Inherited | None:
    """Pin the session's search path; if it is a pooler's, return the path that it inherited, for `within`."""
    (row,) = await connection.fetch(plain_query("pin"), pooled)
    return Inherited(row["inherited"], row["schemas"]) if pooled else None


@asynccontextmanager
async def within(
    connection: asyncpg.Connection[Any],
    inherited: Inherited,
    *,
    path: str = PINNED,
    besides: str = "",
    **isolation: Any,
) -> AsyncIterator[None]:
    """A transaction with this search path, and with the settings that `besides` sets."""
    tag = f"$r{secrets.token_hex(8)}$"  # no setting of a session changes how these quotes are read
    local = f"SET LOCAL search_path = {path}; SET LOCAL reactor.path = {tag}{inherited.schemas}{tag}; {besides}"
    async with connection.transaction(**isolation):
        await connection.execute(local)
        yield
