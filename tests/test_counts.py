"""Tokens by status in large tables: counted as far as an index helps, estimated beyond that, and named as such."""

import pytest

from reactor.database import counts
from reactor.database.counts import Counts
from reactor.database.discovery import discover

pytestmark = pytest.mark.anyio

FILL = """
    INSERT INTO tokens_s0 (status, image_url, generation_due_at)
    SELECT status, 'https://x', due FROM (VALUES
      ('ready', 30000, NULL::timestamptz), ('detected', 11000, NULL), ('detected', 40, now()), ('failed', 700, NULL),
      ('uploading', 3, NULL)
    ) AS given (status, tokens, due), generate_series(1, tokens)
"""


@pytest.fixture
async def large(connection, database, open_session):
    """A session and a table that counts as large: its rows are small, so a filler makes the pages."""
    await connection.execute("ALTER TABLE tokens_s0 ADD COLUMN filler text STORAGE plain DEFAULT repeat('x', 1800)")
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(FILL)
    session = open_session(database)
    return session, await discover(session, "tokens_s0")


async def test_a_large_table_is_counted_by_its_indexes_and_else_estimated(connection, large):
    await connection.execute("ANALYZE tokens_s0")

    found = await counts.count(*large)

    assert {status: found.tokens[status] for status in ("failed", "uploading", "generating")} == {
        "failed": 700,
        "uploading": 3,
        "generating": 0,
    }
    assert found.estimated == ["detected", "ready", "revealed"]
    assert 27_000 < found.tokens["ready"] < 33_000
    assert 10_000 < found.tokens["detected"] < 13_000


async def test_a_large_table_without_statistics_is_counted_whole(large):
    assert await counts.count(*large) == Counts({"ready": 30_000, "detected": 11_040, "failed": 700, "uploading": 3})


async def test_a_small_table_is_counted_whole(connection, database, open_session, make_token):
    await make_token(status="ready", image_url="https://x")
    await connection.execute("ANALYZE tokens_s0")
    session = open_session(database)

    assert await counts.count(session, await discover(session, "tokens_s0")) == Counts({"ready": 1})
