"""The harness's questions to the database, on new connections, because the database may be away."""

from collections import Counter

import asyncpg

AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
_COUNTS = "SELECT status, count(*) AS tokens FROM tokens_s0 GROUP BY status"
# A token that was taken from so many dead workers fails if its holder dies too. The torture does not test that.
_WORN = """
SELECT DISTINCT abs(generation_worker) AS key FROM tokens_s0 WHERE status = 'generating' AND generation_rescues >= 4
"""
_TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


async def counts(url):
    """The number of tokens by status; None while the database is away."""
    rows = await _asked(url, _COUNTS)
    return rows and Counter({row["status"]: row["tokens"] for row in rows})


async def worn(url):
    """The keys of workers whose death would make a token fail; None while the database is away."""
    rows = await _asked(url, _WORN)
    return None if rows is None else {row["key"] for row in rows}


async def terminate(url):
    """End all sessions but this one; return whether the database answered."""
    return await _asked(url, _TERMINATE) is not None


async def _asked(url, query):
    try:
        connection = await asyncpg.connect(url, timeout=5, command_timeout=10)
        try:
            return await connection.fetch(query)
        finally:
            await connection.close(timeout=2)
    except AWAY:
        return None
