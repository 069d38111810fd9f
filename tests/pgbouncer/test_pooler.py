"""A worker, the commands and the migrations through a real PgBouncer in transaction mode."""

import os
import shutil
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import asyncpg
import pytest
import trustme
from catalogue import snapshot
from conftest import command
from databases import on
from doubles import DirectedProvider, running, until
from test_poolers import LOCKS

from pgbouncer.bouncer import EVERY_PARAMETER, bouncer, program
from reactor.database.store import Store
from reactor.engine.timings import Timings
from reactor.engine.wake.listener import DEAF_AFTER
from reactor.migrations import revisions
from reactor.migrations.migration_lock import MigrationError

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(program() is None, reason="PgBouncer is not installed")]

POOLERS = {"refuses unknown parameters": {}, "ignores every parameter": {"ignore_startup_parameters": EVERY_PARAMETER}}
QUICK = Timings(probe_within=0.2, first_reconnect=0.01, longest_reconnect=0.05, deaf_pause=0.05)


@pytest.fixture(scope="module", params=POOLERS.values(), ids=POOLERS)
def through(request, server_url):
    """The URL of a PgBouncer before the server of the tests."""
    with bouncer(server_url, **request.param) as url:
        yield url


@pytest.fixture
def pooled(through, database):
    """The URL of the test's database through PgBouncer."""
    return on(through, urlsplit(database).path[1:])


async def test_a_mint_rings_a_worker_that_has_a_direct_connection_to_listen_on(pooled, database, make_token, token_row):
    async with running(pooled, DirectedProvider(), listen_database_url=database) as (_, log):
        token_id = await make_token()
        await log.wait("token.generation.succeeded")

    assert (await token_row(token_id))["status"] == "uploading"
    assert not log.of("listener.degraded")
    assert not log.of("listener.lost")
    assert not log.errors()


class Counting(Store):
    """Counts the probes, and tells when there were enough."""

    probes, enough = 0, None

    async def ring(self, channel):
        await super().ring(channel)
        Counting.probes += 1
        if Counting.probes == 6:
            Counting.enough.set()


async def test_without_a_direct_connection_a_worker_says_once_that_it_relies_on_the_sweep(
    pooled, make_token, token_row, connection
):
    Counting.probes, Counting.enough = 0, anyio.Event()
    given = {"connected": False, "timings": QUICK, "store": Counting, "poll_interval_seconds": 0.1}
    async with running(pooled, DirectedProvider(), **given) as (_, log):
        await log.wait("listener.degraded")
        token_id = await make_token()
        await log.wait("token.generation.succeeded")
        with anyio.fail_after(20):
            await Counting.enough.wait()
        assert await connection.fetchval(LOCKS) == 0

    assert (await token_row(token_id))["status"] == "uploading"
    assert len(log.of("listener.degraded")) == 1
    assert len(log.of("listener.lost")) == DEAF_AFTER
    assert not log.errors()


async def test_a_fleet_without_a_direct_connection_pays_for_each_token_once(pooled, connection):
    provider = DirectedProvider()
    given = {"connected": False, "timings": QUICK, "poll_interval_seconds": 0.1, "rate_limit_per_minute": 0}
    await connection.execute("INSERT INTO authors (prompt_text) VALUES ('a red kite')")
    async with (
        running(pooled, provider, **given) as (_, one),
        running(pooled, provider, **given) as (_, another),
    ):
        await connection.execute("INSERT INTO tokens_s0 (author_id) SELECT id FROM authors, generate_series(1, 200)")
        await until(lambda: connection.fetchval("SELECT bool_and(status = 'uploading') FROM tokens_s0"), seconds=30)

    assert len(provider.asked("create")) == 200
    assert await connection.fetchval("SELECT count(*) FROM tokens_s0 WHERE generation_epoch <> 1") == 0
    assert not one.errors() + another.errors()


def test_the_commands_need_no_direct_connection(pooled, database, reactor, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", pooled)

    minted = reactor("mint", "2", "--prompt", "a red kite")
    ids = minted[1].split()
    answers = [reactor(*words.split()) for words in ("pause --for 1h", "status", "resume", "status", f"show {ids[0]}")]
    command(database, "UPDATE tokens_s0 SET status = 'failed', generation_error = 'a test'")
    retried = reactor("retry", ids[0])

    assert [minted[0], retried[0], *(code for code, _, _ in answers)] == [0] * 7, answers
    assert all(err == "" for _, _, err in answers)
    assert "paused" in answers[1][1]
    assert "detected" in answers[4][1]


async def test_no_session_keeps_a_prepared_statement_or_a_setting_of_ours(pooled, database, make_token):
    """Else the next client of PgBouncer would meet them."""
    async with running(pooled, DirectedProvider(), listen_database_url=database) as (_, log):
        await make_token()
        await log.wait("token.generation.succeeded")
    client = await asyncpg.connect(pooled, statement_cache_size=0)
    try:
        for _ in range(12):
            async with client.transaction():
                assert await client.fetch("SELECT name FROM pg_prepared_statements") == []
                assert "pg_catalog" not in await client.fetchval("SHOW search_path")
    finally:
        await client.close()


async def test_migrations_are_refused_in_one_line_and_nothing_is_changed(through, empty_database):
    pooled, before = on(through, urlsplit(empty_database).path[1:]), await snapshot(empty_database)

    with pytest.raises(
        MigrationError, match=r"^DATABASE_URL is a pooler's, .* set LISTEN_DATABASE_URL to a direct one$"
    ):
        await revisions.upgrade(pooled)

    assert await snapshot(empty_database) == before


async def test_a_pooler_in_session_mode_lets_a_worker_listen(server_url, database, make_token):
    with bouncer(server_url, pool_mode="session", ignore_startup_parameters=EVERY_PARAMETER) as url:
        async with running(on(url, urlsplit(database).path[1:]), DirectedProvider()) as (_, log):
            await make_token()
            await log.wait("token.generation.succeeded")

        assert not log.of("listener.degraded")
        assert not log.errors()


@pytest.fixture
def certified():
    """Settings of a PgBouncer that speaks TLS, and a URL's options to verify it."""
    folder = Path(tempfile.mkdtemp(prefix="reactor-tls-"))
    folder.chmod(0o755)
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    if os.getuid() == 0:
        shutil.chown(folder / "key.pem", "nobody")
    yield (
        {
            "client_tls_sslmode": "require",
            "client_tls_key_file": folder / "key.pem",
            "client_tls_cert_file": folder / "certificate.pem",
        },
        f"?sslmode=verify-full&sslrootcert={folder}/authority.pem",
    )
    shutil.rmtree(folder)


async def test_a_pooler_is_verified_by_its_certificate(server_url, database, make_token, certified):
    settings, verify = certified
    with bouncer(server_url, pool_mode="session", **settings) as url:
        through = on(url, urlsplit(database).path[1:]).replace("127.0.0.1", "localhost") + verify
        async with running(through, DirectedProvider()) as (_, log):
            await make_token()
            await log.wait("token.generation.succeeded")

    assert not log.errors()
