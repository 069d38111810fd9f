"""Pins the search path of our sessions.

PostgreSQL takes the function, or the operator, whose argument types match best, in whichever schema of the path it is.
So a role that may create in one of them could have its own code run as the worker. A session of ours therefore begins
with `pg_catalog, pg_temp`, and our statements name all other objects with their schemas.

Triggers of the host's run in our session, and many name their tables without a schema. So once the table is known, the
schemas that the session inherited are added again, except those in which a role that we do not trust may create or has
created: see path.sql.

Through a pooler the session is not ours alone. There each statement runs in a transaction that says the path.
"""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reactor.database import dial
from reactor.table import PINNED, plain_query

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg


@dataclass(frozen=True, slots=True)
class Inherited:
    """The search path of a session that is not ours alone."""

    path: str  # the setting
    schemas: str  # those that it names and that exist, as an array's text


async def connect(dsn: str, *, name: str) -> tuple[asyncpg.Connection[Any], Inherited | None]:
    """Open one connection and pin it, for statements that fire no trigger of the host's. Raises as `dial` does."""
    connection, pooled = await dial(dsn, name=name)
    try:
        return connection, await pin(connection, pooled=pooled)
    except BaseException:
        connection.terminate()
        raise


async def pin(connection: asyncpg.Connection[Any], *, pooled: bool) -> Inherited | None:
    """Pin the session's search path; if it is a pooler's, return what it inherited, for `within`."""
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
    """A transaction with the search path, and with what is to be set besides."""
    tag = f"$r{secrets.token_hex(8)}$"  # quotes of which no session decides how they are read
    local = f"SET LOCAL search_path = {path}; SET LOCAL reactor.path = {tag}{inherited.schemas}{tag}; {besides}"
    async with connection.transaction(**isolation):
        await connection.execute(local)
        yield
