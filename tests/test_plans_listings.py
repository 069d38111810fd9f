"""What it costs to list, count and retry tokens by a filter in a big table: `make plans`."""

import anyio
import pytest
from conftest import command
from databases import clone, on
from test_operations_tokens import FILL
from test_plans import Statement

from reactor.database.discovery import discover
from reactor.operations.tokens import TokenFilter, list_tokens

pytestmark = pytest.mark.anyio

ROWS = 100_000


@pytest.fixture(scope="module")
def large_database(server_url, template):
    """A database with ROWS tokens. The tests only read it."""
    url = on(server_url, anyio.run(clone, server_url, template))
    command(
        url,
        "SET session_replication_role = replica",
        FILL.format(rows=ROWS, every=1000),
        "UPDATE tokens_s0 SET status = 'uploading' WHERE token_id % 2 = 1",
        "ANALYZE tokens_s0",
    )
    yield url
    command(server_url, f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")


@pytest.fixture
async def large(connect_to, large_database):
    return await connect_to(large_database)


LOOKS = {
    "few": ("failed", 500),
    "many failed": ("failed", 50),
    "many": ("uploading", 500),
    "no index": ("ready", 500),
    "any": (None, 500),
}


@pytest.mark.parametrize(("status", "rows"), LOOKS.values(), ids=LOOKS)
@pytest.mark.parametrize("name", ["list_tokens", "count_matching", "failure_texts"])
async def test_a_look_reads_as_many_tokens_as_it_is_told_to_and_no_more(large, name, status, rows):
    statement = await Statement.of(large, name)
    most = [] if name == "count_matching" else [50]

    for begin in (None, ROWS // 2):
        cost = await statement.explained(status or None, rows, "x", 1e6, begin, *most)
        assert not cost.whole_tables
        assert cost.touched <= 2 * rows + 60
        assert cost.blocks <= 2 * rows + 250


async def test_a_page_that_fills_at_once_reads_little(large, large_database, open_session):
    session = open_session(large_database)
    read = "SELECT sum(idx_tup_fetch)::bigint FROM pg_stat_user_tables WHERE relname = 'tokens_s0'"
    await large.execute("SELECT pg_stat_force_next_flush()")
    before = await large.fetchval(read)

    page = await list_tokens(session, await discover(session, "tokens_s0"), TokenFilter(), limit=20)

    await session.fetch("SELECT pg_stat_force_next_flush()")
    assert len(page.tokens) == 20
    assert await large.fetchval(read) - before <= 100


async def test_a_retry_that_matches_little_reads_the_failed_ones_alone(large):
    cost = await (await Statement.of(large, "retry_failed")).explained(None, 2000, "none such", 1e6)

    assert not cost.whole_tables
    assert cost.touched <= 2 * 100 + 10
