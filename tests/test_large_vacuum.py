"""Autovacuum keeps the hot part of a large table small: `make test-large`.

Tokens go through all statuses on top of many historic rows, in bursts. After each burst the test waits until autovacuum
has come and finds no more to do. The hot part is what claims and rescues read: the indexes of fresh and held tokens.
"""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
from conftest import FAST, command
from databases import clone, on
from doubles import until
from test_large_growth import HISTORY
from test_plans import Statement, claim_of

from reactor.database.connections import SERVER_SETTINGS
from reactor.database.discovery import find
from reactor.embedded import EmbeddedPostgres
from reactor.migrations import revisions

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(900)]

SETTINGS = Path(__file__).parents[1] / "deploy" / "postgres" / "settings.sql"
HISTORIC = 1_000_000
BURST, BURSTS, BATCH = 10_000, 10, 1_000  # tokens minted at once; how often; tokens of one claim
MINT = f"INSERT INTO tokens_s0 (author_id) SELECT id FROM authors, generate_series(1, {BURST})"
MOVE_ON = "UPDATE tokens_s0 SET status = 'ready' WHERE status = 'uploading'"
OPTIONS = "SELECT unnest(reloptions) FROM pg_class WHERE oid = 'tokens_s0'::regclass"
HOT = "SELECT pg_relation_size('tokens_s0_generation_{}') / 8192"
TIMES = "SELECT autovacuum_count FROM pg_stat_user_tables WHERE relname = 'tokens_s0'"
# That autovacuum has come since, and that too few rows are dead for it to come again.
VACUUMED = """
    SELECT autovacuum_count > {since} AND n_dead_tup <= 500 + 0.01 * reltuples
    FROM pg_stat_user_tables JOIN pg_class ON oid = relid
    WHERE pg_stat_user_tables.relname = 'tokens_s0'
"""


@dataclass(frozen=True)
class Hot:
    """The pages of the two indexes, and the blocks that the first claim of ten reads."""

    fresh: int
    held: int
    claim: int


@pytest.fixture(scope="module")
def vacuuming():
    """A server whose autovacuum comes every second."""
    with EmbeddedPostgres(settings=FAST | {"autovacuum": "on", "autovacuum_naptime": "1s"}) as server:
        yield server.url("postgres")


async def settle(connection, table, claims):
    count = len(claims)
    columns = (
        [row["id"] for row in claims], [row["epoch"] for row in claims], [7] * count, ["uploading"] * count,
        ["https://replicate.delivery/x.webp"] * count, [None] * count, ["p"] * count, [0] * count, [None] * count,
        [False] * count, [row["seed"] for row in claims], [None] * count, [False] * count, 0,
    )  # fmt: skip
    await connection.fetch(table.query("settle"), *columns)


async def burst(connection, table):
    """Mint a burst and work it off; return the blocks that the first claim reads."""
    await connection.execute(MINT)
    cost = await (await Statement.of(connection, "claim")).explained(*claim_of(10))
    while claims := await connection.fetch(table.query("claim"), 0.0, BATCH, 7, 60.0):
        await settle(connection, table, claims)
    await connection.execute(MOVE_ON)
    await connection.execute("SELECT pg_stat_force_next_flush()")
    return cost.blocks


async def bursts(connection, *, vacuumed):
    """Work bursts off; return the hot part after each of them."""
    table, found = await find(connection.fetch, "tokens_s0"), []
    for _ in range(BURSTS):
        vacuums = await connection.fetchval(TIMES)
        read = await burst(connection, table)
        if vacuumed:
            await until(lambda since=vacuums: connection.fetchval(VACUUMED.format(since=since)), seconds=120)
        found.append(Hot(*[await connection.fetchval(HOT.format(name)) for name in ("fresh", "held")], read))
    return found


@pytest.fixture(scope="module")
def template(vacuuming):
    """A database with HISTORIC rows, whose autovacuum is off, to be cloned."""
    name = asyncio.run(clone(vacuuming))
    asyncio.run(revisions.upgrade(on(vacuuming, name)))
    command(
        on(vacuuming, name),
        "INSERT INTO authors (prompt_text) VALUES ('a lighthouse')",
        "ALTER TABLE tokens_s0 SET (autovacuum_enabled = off)",
        f"ALTER SEQUENCE tokens_s0_token_id_seq RESTART {HISTORIC + 1}",
        "SET session_replication_role = replica",
        HISTORY.format(since=0, until=HISTORIC),
        "VACUUM (ANALYZE) tokens_s0",
    )
    return name


@pytest.fixture
async def historic(vacuuming, template):
    connection = await asyncpg.connect(on(vacuuming, await clone(vacuuming, template)), server_settings=SERVER_SETTINGS)
    yield connection
    await connection.close()


def told(capsys, how, found, took):
    with capsys.disabled():
        print(f"\n{how}: {BURST * BURSTS:,} tokens on {HISTORIC:,} rows in {took:.0f} s")
        for name in ("fresh", "held", "claim"):
            print(f"  {name:<6}" + "".join(f"{getattr(each, name):>6,}" for each in found))


@pytest.mark.parametrize("how", ["as made", "by the settings", "off"])
async def test_autovacuum_keeps_what_a_claim_reads_small(historic, how, capsys):
    if how == "as made":
        await historic.execute("ALTER TABLE tokens_s0 RESET (autovacuum_enabled)")
    elif how == "by the settings":
        options = [row[0].partition("=")[0] for row in await historic.fetch(OPTIONS)]
        await historic.execute(f"ALTER TABLE tokens_s0 RESET ({', '.join(options)})")
        await historic.execute(SETTINGS.read_text())
    began = time.monotonic()

    found = await bursts(historic, vacuumed=how != "off")

    told(capsys, how, found, time.monotonic() - began)
    fresh, held, claim = ([getattr(each, name) for each in found] for name in ("fresh", "held", "claim"))
    if how == "off":  # it grows with each burst, so that the other cases could fail
        assert fresh[-1] > 6 * fresh[0]
        assert claim[-1] > 2 * claim[0]
    else:
        assert max(fresh) <= 3 * fresh[0]
        assert max(held) <= 3 * held[0]
        assert max(claim) <= 2 * claim[0]
