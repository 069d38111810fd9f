"""TLS of PostgreSQL itself, with `sslmode=verify-full`: a worker uses it, or ends if the server is not the URL's.

The wheel's PostgreSQL is built without TLS, so these tests use a server of `make test-matrix`. `test_tls.py` tests the
same refusals behind a front.
"""

import anyio
import asyncpg
import pytest
import trustme
from conftest import FAST, command
from doubles import DirectedProvider, Log, running, settings, until
from matrix.servers import SERVERS, Postgres, found

from reactor.database.connections import ConnectionLostError, RefusedError, UntrustedServerError, dial
from reactor.engine.worker import Worker
from reactor.migrations import revisions
from reactor.telemetry import Telemetry

pytestmark = pytest.mark.anyio

MAJOR = 16

# The server writes the files, because it may run as another user, and takes a key only if nobody else may read it.
KEPT = "COPY (SELECT unnest(string_to_array('{}', E'\\n'))) TO PROGRAM 'umask 077; cat > {}'"
ENCRYPTED = """
    SELECT application_name, ssl, version FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
    WHERE application_name LIKE 'reactor%'
"""


def show(server, certificate):
    """Let the server show this certificate to those who connect from now on."""
    pem = {"server.crt": certificate.cert_chain_pems[0], "server.key": certificate.private_key_pem}
    command(
        server.url(),
        *(KEPT.format(text.bytes().decode().strip(), name) for name, text in pem.items()),
        "ALTER SYSTEM SET ssl = on",
        "SELECT pg_reload_conf()",
    )


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def own_server(authority):
    source, why = found(MAJOR, SERVERS)
    assert source is not None, why
    with Postgres(source, settings=FAST) as server:
        show(server, authority.issue_cert("localhost"))
        command(server.url(), "ALTER SYSTEM SET ssl_min_protocol_version = 'TLSv1.3'", "SELECT pg_reload_conf()")
        yield server


@pytest.fixture
def plain(own_server):
    """The URL of the test's database, without TLS."""
    command(own_server.url(), "DROP DATABASE IF EXISTS app WITH (FORCE)", "CREATE DATABASE app")
    return f"{own_server.url('app')}?sslmode=disable"


@pytest.fixture
def safe(own_server, plain, authority, tmp_path):
    """The same with TLS; `host` and `trusted` may be wrong."""

    def safe(host="localhost", trusted=authority):
        path = tmp_path / ("root.crt" if trusted is authority else "other.crt")
        trusted.cert_pem.write_to_path(path)
        url = own_server.url("app").replace("127.0.0.1", host)
        return f"{url}?sslmode=verify-full&sslrootcert={path}"

    return safe


async def execute(url, statement):
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()


async def test_a_migration_and_all_connections_of_a_worker_are_encrypted(plain, safe):
    await revisions.upgrade(safe())
    async with running(safe(), DirectedProvider(), default_prompt="a red kite") as (_, log):
        await execute(plain, "INSERT INTO tokens_s0 DEFAULT VALUES")
        await log.wait("token.generation.succeeded")
        connections = await execute(plain, ENCRYPTED)

    assert {(row["ssl"], row["version"]) for row in connections} == {(True, "TLSv1.3")}
    assert "reactor listener" in {row["application_name"] for row in connections}
    assert not log.errors()


WRONG = {
    "host": "IP address mismatch, certificate is not valid for '127.0.0.1'",
    "authority": "unable to get local issuer certificate",
}


@pytest.fixture
def wrong(safe, request):
    return safe(host="127.0.0.1") if request.param == "host" else safe(trusted=trustme.CA())


@pytest.mark.parametrize(("wrong", "told"), WRONG.items(), ids=WRONG, indirect=["wrong"])
@pytest.mark.parametrize("words", ["run", "run --drain", "migrate", "migrate --plan", "status", "mint"])
def test_a_wrong_host_or_authority_is_refused_in_one_line(reactor, monkeypatch, wrong, told, words):
    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_made_up_token")
    monkeypatch.setenv("FALLBACK_CENSORED_PROMPT", "a calm sea")
    monkeypatch.setenv("HTTP_PORT", "0")
    monkeypatch.setenv("DATABASE_URL", wrong)

    line = f"cannot reach the database: certificate verify failed: {told}: check the host and sslrootcert in its URL"
    assert reactor(*words.split()) == (2, "", f"Error: {line}\n")


@pytest.mark.parametrize(("wrong", "told"), WRONG.items(), ids=WRONG, indirect=["wrong"])
async def test_a_wrong_connection_for_listening_ends_the_worker_too(safe, wrong, told):
    await revisions.upgrade(safe())
    given = settings(safe(), listen_database_url=wrong)
    worker = Worker(given, DirectedProvider(), Telemetry(Log()), given.redact)

    with anyio.fail_after(10), pytest.raises(UntrustedServerError, match=told):
        await worker.run()


async def test_a_certificate_that_is_exchanged_under_a_running_worker_is_waited_for(own_server, plain, safe, authority):
    def refusals():
        return own_server.log.read_text().count("could not accept SSL connection")

    async def refused():
        return refusals() > before

    await revisions.upgrade(safe())
    async with running(safe(), DirectedProvider(), default_prompt="a red kite") as (_, log):
        await anyio.to_thread.run_sync(show, own_server, trustme.CA().issue_cert("localhost"))
        before = refusals()
        try:
            await execute(plain, f"SELECT pg_terminate_backend(pid) FROM ({PIDS}) AS ours")
            await until(refused)
        finally:
            await anyio.to_thread.run_sync(show, own_server, authority.issue_cert("localhost"))
        await execute(plain, "INSERT INTO tokens_s0 DEFAULT VALUES")
        await log.wait("token.generation.succeeded")

    assert not log.errors()


PIDS = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'reactor%' AND pid <> pg_backend_pid()"


async def test_of_several_hosts_one_with_a_wrong_certificate_ends_nothing(safe):
    url = safe().replace("localhost", "localhost:1,127.0.0.1")

    with pytest.raises(ConnectionLostError, match="IP address mismatch") as refused:
        await dial(url, name="test")

    assert not isinstance(refused.value, RefusedError)
