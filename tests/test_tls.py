"""Connections to the database with `sslmode=verify-full`. `tests/pgbouncer` has servers with TLS of their own."""

import pytest
import trustme
from doubles import DirectedProvider, running
from tls_front import tls_front

from reactor.database.connections import ConnectionLostError, dial
from reactor.migrations import revisions
from reactor.migrations.migration_lock import MigrationError

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
