"""Connections to the database with `sslmode=verify-full`, behind a front.

`tests/pgbouncer` has TLS of PostgreSQL itself, and that of a pooler.
"""

import datetime as dt

import anyio
import pytest
import trustme
from anyio import to_thread
from doubles import DirectedProvider, Log, running, settings
from tls_front import tls_front

from reactor.database.connections import ConnectionLostError, RefusedError, UntrustedServerError, dial
from reactor.engine.worker import Worker
from reactor.migrations import revisions
from reactor.migrations.migration_lock import MigrationError
from reactor.telemetry import Telemetry

pytestmark = pytest.mark.anyio


@pytest.fixture
def verified(tmp_path):
    """A URL's options to verify the server by an authority."""

    def verified(authority):
        path = tmp_path / "authority.pem"
        authority.cert_pem.write_to_path(path)
        return f"?sslmode=verify-full&sslrootcert={path}"

    return verified


async def test_a_worker_and_a_migration_use_tls_that_is_verified(empty_database, connect_to, verified):
    authority = trustme.CA()
    async with tls_front(empty_database, authority.issue_cert("localhost")) as front:
        url = front + verified(authority)
        await revisions.upgrade(url)
        async with running(url, DirectedProvider(), default_prompt="a red kite") as (_, log):
            await (await connect_to(empty_database)).execute("INSERT INTO tokens_s0 DEFAULT VALUES")
            await log.wait("token.generation.succeeded")

    assert not log.errors()


UNFIT = {
    "another authority": ("localhost", False, "certificate verify failed: unable to get local issuer certificate"),
    "another name": ("elsewhere.example", True, "certificate verify failed: Hostname mismatch"),
    "no TLS": (None, True, "rejected SSL upgrade"),
}


@pytest.mark.parametrize(("name", "trusted", "told"), UNFIT.values(), ids=UNFIT)
async def test_a_server_that_cannot_be_verified_is_refused_in_one_line(database, verified, name, trusted, told):
    authority = trustme.CA()
    options = verified(authority if trusted else trustme.CA())
    async with tls_front(database, authority.issue_cert(name or "localhost")) as front:
        url = (front if name else database) + options

        with pytest.raises(ConnectionLostError, match=told):
            await dial(url, name="test")
        with pytest.raises(MigrationError, match=rf"^cannot reach the database: [^\n]*{told}[^\n]*$"):
            await revisions.upgrade(url)


async def test_a_wrong_certificate_ends_a_worker_and_commands_as_a_bad_setting(
    database, verified, monkeypatch, reactor
):
    authority = trustme.CA()
    async with tls_front(database, authority.issue_cert("elsewhere.example")) as front:
        given = settings(front + verified(authority))
        with anyio.fail_after(10), pytest.raises(UntrustedServerError, match="check the host and sslrootcert"):
            await Worker(given, DirectedProvider(), Telemetry(Log()), given.redact).run()
        monkeypatch.setenv("DATABASE_URL", given.database_url.get_secret_value())
        for command in ("status", "migrate", "mint"):
            code, out, err = await to_thread.run_sync(reactor, command)

            assert (code, out, err.count("\n")) == (2, "", 1)
            assert err.startswith("Error: cannot reach the database: certificate verify failed: Hostname mismatch")


async def test_a_certificate_that_has_expired_is_waited_for_and_told_in_one_line(database, verified):
    authority, past = trustme.CA(), dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    async with tls_front(database, authority.issue_cert("localhost", not_after=past)) as front:
        with pytest.raises(ConnectionLostError, match="certificate has expired") as refused:
            await dial(front + verified(authority), name="test")
        with pytest.raises(MigrationError, match=r"^cannot reach the database: [^\n]*certificate has expired[^\n]*$"):
            await revisions.upgrade(front + verified(authority))

    assert not isinstance(refused.value, RefusedError)


async def test_of_several_hosts_one_with_a_wrong_certificate_ends_nothing(database, verified):
    authority = trustme.CA()
    async with tls_front(database, authority.issue_cert("elsewhere.example")) as front:
        with pytest.raises(ConnectionLostError, match="Hostname mismatch") as refused:
            await dial(front.replace("localhost:", "localhost:1,localhost:") + verified(authority), name="test")

    assert not isinstance(refused.value, RefusedError)
