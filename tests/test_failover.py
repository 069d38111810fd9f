"""The primary goes away and its standby takes over: for a worker that is a reconnect."""

import shutil
import signal
from contextlib import contextmanager
from urllib.parse import urlsplit

import asyncpg
import ports
import pytest
from conftest import FAST
from doubles import Barrier, DirectedProvider, running, until

from reactor.embedded import EmbeddedPostgres
from reactor.embedded.folders import installation
from reactor.migrations import revisions

pytestmark = pytest.mark.anyio

SETTINGS = FAST | {"synchronous_commit": "on", "max_connections": "50"}
EITHER = "target_session_attrs=read-write"


@contextmanager
def standby_of(primary):
    """The URL of a hot standby that follows the primary."""
    folder, parts = primary._home / "standby", urlsplit(primary.url())
    with ports.kept() as port:
        if primary._binaries != installation():  # a copy, of no more than a server needs
            shutil.copy(installation() / "bin" / "pg_basebackup", primary._binaries / "bin")
        source = ["-h", "127.0.0.1", "-p", parts.port, "-U", "postgres"]
        copy = ["pg_basebackup", *source, "-D", folder, "-R", "-c", "fast"]
        assert primary._launch(list(map(str, copy))).wait(60) == 0, primary._last_words()
        given = SETTINGS | {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        options = [word for name, value in given.items() for word in ("-c", f"{name}={value}")]
        process = primary._launch(["postgres", "-D", str(folder), *options])
        try:
            yield parts._replace(netloc=f"postgres@127.0.0.1:{port}").geturl()
        finally:
            process.send_signal(signal.SIGQUIT)
            process.wait(30)


async def ask(url, query):
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def follows(primary):
    return await ask(primary, "SELECT bool_or(sync_state = 'sync') FROM pg_stat_replication")


# One URL for both servers, by their ports, which connects to the one that takes writes.
URLS = {
    "hosts before the path": "postgresql://postgres@127.0.0.1:{},127.0.0.1:{}/postgres?" + EITHER,
    "hosts as options": "postgresql://postgres@/postgres?host=127.0.0.1,127.0.0.1&port={},{}&" + EITHER,
}


@pytest.mark.parametrize("both", URLS.values(), ids=URLS)
async def test_a_failover_is_a_reconnect_and_no_token_is_lost_or_paid_for_twice(both):
    provider, bought = DirectedProvider(), Barrier()
    provider.script["wait"] = [bought]
    with EmbeddedPostgres(settings=SETTINGS | {"hot_standby": "on"}) as server, standby_of(server) as standby:
        primary = server.url()
        url = both.format(urlsplit(primary).port, urlsplit(standby).port)
        await revisions.upgrade(primary)
        await ask(primary, "ALTER SYSTEM SET synchronous_standby_names = '*'")
        await ask(primary, "SELECT pg_reload_conf()")
        await until(lambda: follows(primary))
        async with running(url, provider, default_prompt="a red kite") as (_, log):
            await ask(primary, "INSERT INTO tokens_s0 DEFAULT VALUES")
            await bought.entered()
            recorded = "SELECT generation_prediction_id IS NOT NULL FROM tokens_s0"
            await until(lambda: ask(primary, recorded))
            server.stop(signal.SIGKILL)
            await log.wait("listener.lost")
            bought.open()
            assert await ask(standby, "SELECT pg_promote()")
            await log.wait("token.generation.succeeded")
            await log.wait("listener.connected", times=2)
            await ask(standby, "INSERT INTO tokens_s0 DEFAULT VALUES")
            await log.wait("token.generation.succeeded", times=2)

        rows = await ask(standby, "SELECT array_agg(concat_ws(' ', status, generation_attempts)) FROM tokens_s0")
    assert rows == ["uploading 0"] * 2
    assert len(provider.asked("create")) == 2
