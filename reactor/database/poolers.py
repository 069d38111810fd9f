"""Notices a pooler that does not show itself: it shares the server's sessions, so nothing may be set or kept there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg

from reactor.database.table import plain_query

if TYPE_CHECKING:
    from asyncpg import Connection


async def behind_a_pooler(connection: Connection[Any]) -> bool:
    """Whether a pooler is in between: then the process that answers is not the one that we connected to.

    A pooler may take our startup parameters and ignore them all, so they do not show it. If it is one, or does not
    answer, the connection is terminated.
    """
    try:
        # A statement without a name, because a name could be another client's.
        answering = await (await connection.prepare(plain_query("backend"), name="")).fetchval()
    except BaseException:
        connection.terminate()
        raise
    if answering != connection.get_server_pid():
        connection.terminate()
        return True
    return False


def lost_prepared(error: Exception) -> bool:
    """Whether a prepared statement is gone, or is another client's: a pooler that we did not notice is in between."""
    gone = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
    return isinstance(error, gone) and not getattr(error, "context", None)  # a host's trigger may raise the same
