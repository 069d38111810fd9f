"""A database in another encoding than UTF-8 stores every text of ours, as far as the encoding can."""

import uuid
from pathlib import Path

import anyio
import asyncpg
import pytest
from conftest import command
from databases import on
from doubles import DirectedProvider, running

from reactor.errors import TransientError
from reactor.migrations import revisions
from reactor.text.redaction import Redactor

pytestmark = pytest.mark.anyio

CHECKOUT = Path(__file__).parents[1]
STATEMENTS = [*(CHECKOUT / "reactor" / "database" / "queries").rglob("*.sql"), *(CHECKOUT / "sql").glob("*.sql")]
SAYS = "“no” … нет é 中"
STORED = {
    "LATIN1": "?no? ? ??? é ?",
    "LATIN9": "?no? ? ??? é ?",
    "WIN1252": "“no” … ??? é ?",
    "KOI8R": "?no? ? нет ? ?",
    "EUC_JP": "“no” … нет é 中",
    "EUC_TW": "?no? ? ??? ? ?",
    "UTF8": SAYS,
    "SQL_ASCII": SAYS,
}


@pytest.fixture
def in_encoding(server_url):
    """Make a migrated database in an encoding; return its URL."""
    made = []

    async def make(encoding):
        made.append(f"reactor_test_{uuid.uuid4().hex[:12]}")
        maintenance = await asyncpg.connect(server_url)
        await maintenance.execute(f"CREATE DATABASE {made[-1]} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
        await maintenance.close()
        url = on(server_url, made[-1])
        await revisions.upgrade(url)
        return url

    yield make
    for name in made:
        command(server_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize(("encoding", "stored"), STORED.items())
def test_a_text_is_kept_as_far_as_an_encoding_has_it(encoding, stored):
    assert Redactor().storing_in(encoding)(SAYS) == stored


def test_a_text_that_was_cut_can_be_stored_too():
    cut = Redactor().storing_in("LATIN1")("x" * 2000)

    assert (len(cut), cut[-1]) == (1000, "?")


def test_an_encoding_takes_no_secret_out_of_hiding():
    assert Redactor(["a-sécret"]).storing_in("KOI8R")("it is a-sécret") == "it is [redacted]"


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda path: path.stem)
def test_no_statement_has_a_character_that_an_encoding_may_lack(statement):
    assert statement.read_text(encoding="utf-8").isascii()


@pytest.mark.parametrize("encoding", ["LATIN1", "EUC_JP"])
async def test_a_failure_is_retried_with_its_reason_whatever_the_encoding(in_encoding, encoding):
    url, provider = await in_encoding(encoding), DirectedProvider()
    provider.script["create"] = [TransientError(SAYS)]
    connection = await asyncpg.connect(url)
    await connection.execute("INSERT INTO authors (prompt_text) VALUES ('a fox')")

    async with running(url, provider) as (_, log):
        await connection.execute("INSERT INTO tokens_s0 (author_id) SELECT id FROM authors")
        await log.wait("token.generation.retry")
    stored = await connection.fetchrow("SELECT status, generation_error FROM tokens_s0")
    await connection.close()

    assert tuple(stored) == ("detected", STORED[encoding])


@pytest.mark.parametrize(
    ("characters", "event"),
    [(1000, "token.generation.succeeded"), (1001, "token.generation.failed"), (500_001, "token.generation.failed")],
)
async def test_no_character_of_a_prompt_is_split_where_the_database_counts_bytes(in_encoding, characters, event):
    url = await in_encoding("SQL_ASCII")
    connection = await asyncpg.connect(url)
    await connection.execute("INSERT INTO authors (prompt_text) VALUES ($1)", "ж" * characters)
    await connection.execute("INSERT INTO tokens_s0 (author_id) SELECT id FROM authors")
    await connection.close()

    async with running(url, DirectedProvider(), idle=False) as (_, log):
        await log.wait(event)


async def test_a_reason_to_pause_is_stored_whatever_the_encoding(in_encoding, reactor, monkeypatch):
    url = await in_encoding("LATIN1")
    monkeypatch.setenv("DATABASE_URL", url)

    told = await anyio.to_thread.run_sync(reactor, "pause", "--reason", SAYS)

    connection = await asyncpg.connect(url)
    paused = await connection.fetchrow("SELECT reason, paused_until = 'infinity' AS paused FROM reactor.intake")
    await connection.close()
    assert told == (0, f"paused: {SAYS}\n", "")
    assert tuple(paused) == (STORED["LATIN1"], True)
