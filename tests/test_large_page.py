"""What the page, the API and the commands read of 1,000,000 tokens: `make test-large`.

Each read is done as by the first reader of a process: nothing is kept from before. It costs blocks, which it reads of
all tables and their indexes. They are the same on a busy machine, so they have a bound. The milliseconds are printed.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
import httpx
import pytest
from anyio import to_thread
from conftest import command
from databases import clone, on
from doubles import Log, settings, until
from test_end_to_end import reactor
from test_large_growth import BLOCKS, Cost

from reactor.database.discovery import discover
from reactor.database.session import Session
from reactor.engine.health import Health
from reactor.operations.tokens import LOOK
from reactor.telemetry import Telemetry
from reactor.web import Keys, Refusals, Site, application
from reactor.web.metrics import Metrics

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(900)]

SMALL, LARGE = 10_000, 1_000_000  # tokens
TIMES = 3
DAYS = 3  # of history
AUTHORS = 1_000

# Of 1,000 tokens 940 are with the next stage or behind it, 50 failed, and the newest 10 wait. They lie in the table in
# no order, as after years of updates, so that a look at n tokens reads about n blocks.
TOKENS = """
    INSERT INTO tokens_s0 (
      token_id, author_id, status, image_url, generation_error, mint_timestamp, generation_epoch, generation_attempts,
      generation_seed, generation_seeded_at, generation_prediction_id
    )
    SELECT
      number, lpad(to_hex(number % {authors}), 32, '0')::uuid, status,
      CASE WHEN status NOT IN ('detected', 'failed') THEN 'https://replicate.delivery/xezq/' || number || '/o.webp' END,
      CASE WHEN status = 'failed' THEN 'model failed after ' || number % 1000 || ' s: CUDA out of memory' END,
      now() - ({rows} - number) * {days} * interval '1 day' / {rows}, (status <> 'detected')::int, 1, 5,
      CASE WHEN status <> 'detected' THEN now() - ({rows} - number) * {days} * interval '1 day' / {rows} END,
      CASE WHEN status <> 'detected' THEN 'p' || lpad(number::text, 25, '0') END
    FROM generate_series(1, {rows}) AS number
    CROSS JOIN LATERAL (
      SELECT CASE
        WHEN number > {rows} * 0.99 THEN 'detected'
        WHEN number % 20 = 0 THEN 'failed'
        WHEN number % 1000 = 1 THEN 'uploading'
        WHEN number % 3 = 0 THEN 'revealed'
        ELSE 'ready'
      END AS status
    ) AS stage
    ORDER BY hashint4(number)
"""
# Of the last tokens that ended, in the order in which they ended.
HISTORY = """
    INSERT INTO reactor.attempts (
      tokens_table, key, token_id, epoch, worker, attempt, claimed_at, bought_at, ended_at, outcome, error_type, error,
      model, seed, prediction_id, predict_seconds, images, cost
    )
    SELECT
      'public.tokens_s0', id::text, token_id, 1, 7, 1, ended_at - interval '3 s', ended_at - interval '2.9 s', ended_at,
      outcome,
      CASE WHEN outcome <> 'succeeded' THEN 'TransientError' END,
      CASE WHEN outcome <> 'succeeded' THEN 'no answer after ' || token_id % 1000 || ' s' END,
      'black-forest-labs/flux-schnell', 5, generation_prediction_id, 2.1, (outcome = 'succeeded')::int, 0.003
    FROM (
      SELECT
        id, token_id, generation_prediction_id,
        now() - (row_number() OVER (ORDER BY token_id DESC) - 1) * {days} * interval '1 day' / {rows} AS ended_at,
        CASE WHEN status = 'failed' THEN 'failed' WHEN token_id % 20 = 1 THEN 'retry' ELSE 'succeeded' END AS outcome
      FROM tokens_s0
      WHERE status <> 'detected'
    ) AS ended
    WHERE ended_at > now() - {days} * interval '1 day'
    ORDER BY ended_at
"""


async def filled(url, rows):
    """Fill empty tables with so many tokens, and a history of three tenths of them.

    No vacuum finds a page of the tokens visible to all, as under steady traffic: an older transaction is open.
    """
    older = await asyncpg.connect(url)
    async with older.transaction(isolation="repeatable_read"):
        await older.execute("SELECT")
        await to_thread.run_sync(fill, url, rows)
    await older.close()


def fill(url, rows):
    given = {"authors": AUTHORS, "days": DAYS}
    command(
        url,
        "ALTER TABLE tokens_s0 SET (autovacuum_enabled = off)",
        "SET session_replication_role = replica; SET work_mem = '256MB'",
        "INSERT INTO authors (id, prompt_text) SELECT lpad(to_hex(number), 32, '0')::uuid, 'a lighthouse ' || number"
        f" FROM generate_series(0, {AUTHORS - 1}) AS number",
        TOKENS.format(rows=rows, **given),
        HISTORY.format(rows=rows * 3 // 10, **given),
        *(f"VACUUM (ANALYZE, INDEX_CLEANUP on) {table}" for table in ("authors", "tokens_s0", "reactor.attempts")),
    )


@asynccontextmanager
async def port(database):
    """A client of a worker's port whose connections are new, and closed in the end. No worker runs beside it."""
    given, telemetry = settings(database), Telemetry(Log())
    looking = Session(database, name="test")
    health = Health(looking, given.tokens_table, slots=10)
    site = Site(given, telemetry, health)
    app = application(site, health, Metrics(), Refusals(telemetry), keys=Keys(None, None), host="127.0.0.1")
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            yield client
    finally:
        await site.aclose()
        await looking.aclose()


async def asked(database, path, **given):
    """Ask for a path; return the milliseconds."""
    async with port(database) as client:
        began = time.perf_counter()
        answer = await client.request("POST" if given else "GET", path, **given)
        took = time.perf_counter() - began
    assert answer.status_code == 200, answer.text
    return 1000 * took


async def run(database, *arguments):
    """Run a command; return the milliseconds."""
    began = time.perf_counter()
    process = reactor(*arguments, DATABASE_URL=database)
    _, complaint = await to_thread.run_sync(process.communicate)
    assert process.returncode == 0, complaint
    return 1000 * (time.perf_counter() - began)


async def cost_of(connection, read):
    """The blocks that a read's own connections read until they are closed."""
    others = "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    await until(lambda: connection.fetchval(others))
    await connection.execute("SELECT pg_stat_force_next_flush()")
    before = await connection.fetchval(BLOCKS)
    took = await read()
    await until(lambda: connection.fetchval(others))
    return Cost(took, await connection.fetchval(BLOCKS) - before)


async def look(database, name, *given):
    """One statement of a search that finds nothing; a search makes as many as two seconds allow."""
    session = Session(database, name="test")
    table = await discover(session, "tokens_s0")
    began = time.perf_counter()
    rows = await session.fetch(table.query(name), *given)
    took = time.perf_counter() - began
    await session.aclose()
    assert [row["id"] for row in rows] == [None]
    return 1000 * took


@dataclass(frozen=True)
class Read:
    """`most`: blocks. `money`: whether it also reads all that ended on this UTC day."""

    read: Callable[[str], Awaitable[float]]
    most: int
    money: bool = False


def get(path, most, *, money=False):
    return Read(lambda url: asked(url, path), most, money=money)


def ran(*arguments, most, money=False):
    return Read(lambda url: run(url, *arguments), most, money=money)


# Counts go up to 10,000 entries of an index, and each entry costs a block of the table. Waiting tokens are counted
# twice, by status and for the gauges, and failed ones once; the page also reads those that failed of late.
OLD = SMALL // 2  # a token at both sizes
DRY = {"status": "failed", "dry_run": True}
READS = {
    "the page": get("/", 42_000, money=True),
    "the page, a day's charts": get("/?range=24h", 42_000, money=True),
    "the page, failed tokens": get("/?status=failed", 42_000, money=True),
    "the page, filtered": get("/?status=failed&matching=memory&since=24h", 42_000, money=True),
    "the page, ready tokens": get("/?status=ready", 52_000, money=True),
    "the page, of 10 minutes": get("/?since=10m", 42_000, money=True),
    "the page, older tokens": get(f"/?after={OLD}", 42_000, money=True),
    "a token's page": get(f"/tokens/{OLD}", 60),
    "before a retry of all": get("/retry", 36_000),
    "API: status": get("/api/status", 37_000, money=True),
    "API: tokens": get("/api/tokens", 500),
    "API: failed tokens": get("/api/tokens?status=failed&limit=200", 1_800),
    "API: failed, filtered": get("/api/tokens?status=failed&matching=memory&since=24h", 500),
    "API: a token": get(f"/api/tokens/{OLD}", 60),
    "API: attempts": get("/api/attempts", 30),
    "API: a token's attempts": get(f"/api/attempts?token_id={OLD}", 60),
    "API: failed attempts": get("/api/attempts?since=24h&outcome=failed", 70),
    "API: dry run of a retry": Read(lambda url: asked(url, "/api/tokens/retry", json=DRY), 36_000),
    "one look of a search": Read(lambda url: look(url, "list_tokens", None, LOOK, "nowhere", None, None, 50), 12_000),
    "one look at the history": Read(lambda url: look(url, "history_since", None, 50, None, ["expired"], LOOK), 600),
    "/readyz": get("/readyz", 20),
    "/metrics": get("/metrics", 12_000),
    "reactor status": ran("status", most=39_000, money=True),
    "reactor tokens": ran("tokens", most=12_500),
    "reactor tokens, filtered": ran(
        "tokens", "--status", "failed", "--matching", "memory", "--since", "24h", most=12_500
    ),
    "reactor show": ran("show", str(OLD), most=60),
}


async def median(url, read):
    """The cost of a read, in the middle of several tries."""
    connection = await asyncpg.connect(url)
    try:
        found = [await cost_of(connection, lambda: read.read(url)) for _ in range(TIMES)]
    finally:
        await connection.close()
    return Cost(*(statistics.median(getattr(each, name) for each in found) for name in ("milliseconds", "blocks")))


async def ended_today(url):
    """The entries of the history since midnight UTC."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(
            "SELECT count(*) FROM reactor.attempts WHERE ended_at >= date_trunc('day', now(), 'UTC')"
        )
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def sizes(server_url, template):
    """The URLs of the databases, by their number of tokens."""
    made = {}
    for rows in (SMALL, LARGE):
        url = on(server_url, asyncio.run(clone(server_url, template)))
        asyncio.run(filled(url, rows))
        made[rows] = url
    yield made
    for url in made.values():
        command(server_url, f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")


@pytest.mark.parametrize("name", READS)
async def test_what_is_read_for_a_reader_is_bounded(sizes, name, capsys):
    read = READS[name]

    costs = {rows: await median(url, read) for rows, url in sizes.items()}

    most = read.most + (await ended_today(sizes[LARGE]) // 20 if read.money else 0)
    with capsys.disabled():
        shown = "".join(f"{each.milliseconds:>9,.0f} ms {each.blocks:>7,.0f}" for each in costs.values())
        print(f"\n{name:<28}{shown} of {most:>7,} blocks", end="")
    assert costs[LARGE].blocks <= most
