"""A database in another encoding than UTF-8 is refused in one line, before anything is made in it."""

import uuid

import asyncpg
import pytest
from conftest import command
from databases import on

from reactor.database.connections import RefusedError, dial

SAID = "the database is encoded in {}, and reactor needs UTF8: use a database that was made with ENCODING 'UTF8'"


@pytest.fixture(params=["SQL_ASCII", "LATIN1", "EUC_JP"])
def foreign(request, server_url):
    """The encoding and the URL of a database that is not in UTF-8."""
    name = f"reactor_test_{uuid.uuid4().hex[:12]}"
    command(server_url, f"CREATE DATABASE {name} ENCODING '{request.param}' LOCALE 'C' TEMPLATE template0")
    yield request.param, on(server_url, name)
    command(server_url, f"DROP DATABASE {name} WITH (FORCE)")


def test_migrate_and_run_refuse_it_in_one_line(reactor, monkeypatch, foreign):
    encoding, url = foreign
    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_made_up_token")
    monkeypatch.setenv("FALLBACK_CENSORED_PROMPT", "a calm sea")
    monkeypatch.setenv("HTTP_PORT", "0")
    for name in ("DATABASE_URL", "LISTEN_DATABASE_URL"):
        monkeypatch.setenv(name, url)

    told = {reactor(*arguments) for arguments in (["migrate"], ["migrate", "--down"], ["run"], ["status"], ["mint"])}

    assert told == {(1, "", f"Error: {SAID.format(encoding)}\n")}


@pytest.mark.anyio
async def test_nothing_was_made_in_it(reactor, monkeypatch, foreign):
    _, url = foreign
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(RefusedError):
        await dial(url, name="test")

    connection = await asyncpg.connect(url)
    assert await connection.fetchval("SELECT to_regnamespace('reactor')") is None
    await connection.close()
