"""What libpq takes in a URL works, or is refused at the start; it is never waited out as a database that is away."""

import os
import socket
from contextlib import asynccontextmanager
from urllib.parse import quote, urlsplit

import anyio
import pytest
import trustme
from doubles import DirectedProvider, Log, settings
from pooler import copy, pooler
from tls_front import tls_front

from reactor.database.connections import (
    ConnectionLostError,
    LoginRefusedError,
    ReadOnlyError,
    RefusedError,
    dial,
)
from reactor.database.parameters import PARAMETERS
from reactor.database.target import target_of
from reactor.database.timings import ConnectionTimings
from reactor.engine.worker import Worker
from reactor.telemetry import Telemetry
from reactor.urls import UrlError

pytestmark = pytest.mark.anyio

# What asks for no more than the default, or what we honour.
WORKS = [
    "channel_binding=prefer",
    "channel_binding=disable",
    "connect_timeout=10",
    "connect_timeout=0",
    "keepalives=1",
    "keepalives=0",
    "keepalives_idle=30&keepalives_interval=5&keepalives_count=2&tcp_user_timeout=0",
    "gssencmode=disable",
    "gssencmode=prefer",
    "sslmode=prefer",
    "sslmode=allow",
    "sslmode=disable",
    "sslmode=",
    "sslnegotiation=postgres",
    "sslcompression=0",
    "sslsni=1",
    "sslcertmode=allow",
    "ssl_min_protocol_version=TLSv1.2",
    "target_session_attrs=any",
    "target_session_attrs=read-write",
    "target_session_attrs=primary",
    "load_balance_hosts=random",
    "application_name=theirs",
    "fallback_application_name=theirs",
    "options=-c%20work_mem%3D8MB",
    "options=-c%20search_path%3Dpublic%20--geqo%3Doff",
    "client_encoding=UTF8",
    "client_encoding=auto",
    "replication=false",
    "krbsrvname=postgres",
    "gsslib=gssapi",
    "min_protocol_version=3.0&max_protocol_version=latest",
]
# What we cannot honour, and the name in the refusal.
REFUSED = {
    "channel_binding=require": "channel_binding",
    "gssencmode=require": "gssencmode",
    "gssdelegation=1": "gssdelegation",
    "require_auth=scram-sha-256": "require_auth",
    "requirepeer=postgres": "requirepeer",
    "replication=database": "replication",
    "client_encoding=LATIN1": "client_encoding",
    "sslsni=0": "sslsni",
    "sslcertmode=require": "sslcertmode",
    "sslmode=verify": "sslmode",
    "sslmode=require&sslrootcert=system": "sslrootcert",
    "sslmode=verify-ca&sslrootcert=/no/such/file": "sslrootcert",
    "sslcert=/no/such/file": "sslcert",
    "sslmode=verify-full&sslrootcert=system&sslcrl=/no/such/file": "sslcrl",
    "sslnegotiation=direct": "sslnegotiation",
    "sslkeylogfile=/tmp/keys": "sslkeylogfile",
    "ssl_min_protocol_version=SSLv3": "ssl_min_protocol_version",
    "min_protocol_version=3.2": "min_protocol_version",
    "target_session_attrs=standby": "target_session_attrs",
    "target_session_attrs=prefer-standby": "target_session_attrs",
    "target_session_attrs=read-only": "target_session_attrs",
    "load_balance_hosts=yes": "load_balance_hosts",
    "connect_timeout=soon": "connect_timeout",
    "keepalives_idle=1s": "keepalives_idle",
    "passfile=/no/such/file": "passfile",
    "service=nowhere": "service",
    "servicefile=/no/such/file&service=nowhere": "servicefile",
    "hostaddr=127.0.0.2": "hostaddr",
    "scram_client_key=x": "scram_client_key",
    "oauth_issuer=https://x": "oauth_issuer",
    "pgbouncer=true": "pgbouncer",
    "statement_timeout=5s": "options=-c%20statement_timeout",
    "sslMode=require": "sslMode",
    "ssl=require": "ssl must be true",
    "database=other": "database",
}


def with_parameters(url, parameters):
    return f"{url}?{parameters}"


@pytest.mark.parametrize("parameters", WORKS)
def test_what_asks_for_no_more_than_the_default_simply_works(reactor, monkeypatch, database, parameters):
    monkeypatch.setenv("DATABASE_URL", with_parameters(database, parameters))

    code, out, err = reactor("status")

    assert (code, err) == (0, "")
    assert "detected" in out


@pytest.mark.parametrize(("parameters", "named"), REFUSED.items())
@pytest.mark.parametrize("name", ["DATABASE_URL", "LISTEN_DATABASE_URL"])
def test_what_cannot_be_honoured_is_refused_at_the_start_by_its_name(reactor, monkeypatch, name, parameters, named):
    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_made_up_token")
    monkeypatch.setenv("FALLBACK_CENSORED_PROMPT", "a calm sea")
    monkeypatch.setenv(name, with_parameters(os.environ["DATABASE_URL"], parameters))

    code, out, err = reactor("run")

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"{name}: ")
    assert named in err


@pytest.mark.parametrize("command", [["migrate"], ["status"], ["mint"]])
def test_every_command_refuses_it(reactor, monkeypatch, database, command):
    monkeypatch.setenv("DATABASE_URL", with_parameters(database, "channel_binding=require"))

    assert reactor(*command)[0] == 2


def test_the_environment_asks_for_no_more_than_a_url_may(reactor, monkeypatch):
    monkeypatch.setenv("PGCHANNELBINDING", "require")

    code, _, err = reactor("status")

    assert code == 2
    assert err.startswith("DATABASE_URL: PGCHANNELBINDING must be disable or prefer")


def test_every_parameter_of_libpq_is_in_the_table():
    libpq_15 = """service user password passfile channel_binding connect_timeout dbname host hostaddr port
        client_encoding options application_name fallback_application_name keepalives keepalives_idle
        keepalives_interval keepalives_count tcp_user_timeout sslmode sslcompression sslcert sslkey sslpassword
        sslrootcert sslcrl sslcrldir sslsni requirepeer ssl_min_protocol_version ssl_max_protocol_version gssencmode
        krbsrvname gsslib replication target_session_attrs"""
    later = """require_auth load_balance_hosts sslcertmode gssdelegation sslnegotiation min_protocol_version
        max_protocol_version scram_client_key scram_server_key oauth_issuer oauth_client_id oauth_client_secret
        oauth_scope sslkeylogfile servicefile"""

    assert set(PARAMETERS) == set(libpq_15.split() + later.split())


# Where and as whom


@asynccontextmanager
async def dialled(url, **timings):
    connection, _ = await dial(url, name="test", timings=ConnectionTimings(**timings))
    try:
        yield connection
    finally:
        await connection.close()


async def test_of_several_hosts_the_first_that_serves_is_taken(database):
    parts = urlsplit(database)
    user, _, server = parts.netloc.rpartition("@")
    for hosts in (
        f"127.0.0.1:1,{server}",
        f"{server},127.0.0.1:1",
        f"[::1]:1,{server}",
        f"no-such-host.invalid,{server}",
    ):
        async with dialled(f"postgresql://{user}@{hosts}{parts.path}") as connection:
            assert await connection.fetchval("SELECT 1") == 1


async def test_a_host_that_never_answers_costs_its_own_time_only(database):
    parts, silent = urlsplit(database), socket.create_server(("127.0.0.1", 0))
    user, _, server = parts.netloc.rpartition("@")
    hosts = f"127.0.0.1:{silent.getsockname()[1]},{server}"
    with silent:
        async with dialled(f"postgresql://{user}@{hosts}{parts.path}", connect_within=0.2) as connection:
            assert await connection.fetchval("SELECT 1") == 1


async def test_a_connect_timeout_is_our_bound(database):
    parts, silent = urlsplit(database), socket.create_server(("127.0.0.1", 0))
    url = f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/x?connect_timeout=1"
    with silent, anyio.fail_after(4), pytest.raises(ConnectionLostError):
        await dial(url, name="test", timings=ConnectionTimings(connect_within=60.0))
    assert parts


def test_of_several_hosts_one_that_takes_writes_is_taken_before_the_others():
    several, one = "postgresql://me@a,b/x", "postgresql://me@a/x"

    assert target_of(several).session_attributes == ("read-write", "any")
    assert target_of(f"{several}?target_session_attrs=primary").session_attributes == ("primary",)
    assert target_of(one).session_attributes == ("any",)


async def test_of_several_hosts_the_one_that_takes_writes_is_taken(database, connection):
    parts, frozen = urlsplit(database), f"{urlsplit(database).path[1:]}_frozen"
    user, _, server = parts.netloc.rpartition("@")
    await connection.execute(f"CREATE ROLE {frozen} LOGIN; ALTER ROLE {frozen} SET default_transaction_read_only = on")
    try:
        async with dialled(f"postgresql://{user}@{server},{server}{parts.path}") as taken:
            assert await taken.fetchval("SHOW transaction_read_only") == "off"
        async with dialled(f"postgresql://{frozen}@{server},{server}{parts.path}") as taken:  # none does: then any
            assert await taken.fetchval("SHOW transaction_read_only") == "on"
        with pytest.raises(ReadOnlyError):
            await dial(f"postgresql://{frozen}@{server}{parts.path}?target_session_attrs=read-write", name="test")
    finally:
        await connection.execute(f"DROP ROLE {frozen}")


async def test_the_socket_of_a_server_is_a_host(database, tmp_path):
    parts = urlsplit(database)
    user, _, _ = parts.netloc.rpartition("@")

    async def talk(client):
        async with (
            client,
            await anyio.connect_tcp(parts.hostname, parts.port) as server,
            anyio.create_task_group() as group,
        ):
            group.start_soon(copy, client, server)
            await copy(server, client)
            group.cancel_scope.cancel()

    listener = await anyio.create_unix_listener(tmp_path / ".s.PGSQL.5433")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, talk)
        folder = quote(str(tmp_path), safe="")
        for host in (f"{folder}:5433{parts.path}", f"{parts.path}?host={tmp_path}&port=5433"):
            given = "sslmode=verify-full&sslrootcert=system"  # a socket has no TLS, as in libpq
            async with dialled(f"postgresql://{user}@{host}{'&' if '?' in host else '?'}{given}") as taken:
                assert taken._addr == f"{tmp_path}/.s.PGSQL.5433"
        group.cancel_scope.cancel()


def test_the_query_wins_over_the_rest_and_that_over_service_and_environment(monkeypatch, tmp_path):
    services = tmp_path / "services"
    services.write_text("# a comment\n[here]\nhost=service\nuser=service\ndbname=service\nport=1\n")
    monkeypatch.setenv("PGHOST", "environment")
    monkeypatch.setenv("PGPASSWORD", "environment%")
    monkeypatch.setenv("PGSERVICEFILE", str(services))

    target = target_of("postgresql://url@url:2/?service=here&user=query")

    (host,) = target.hosts
    assert (host.name, host.port, host.password, target.user) == ("url", 2, "environment%", "query")
    assert target.database == "service"


def test_a_service_may_ask_for_no_more_than_a_url(tmp_path):
    services = tmp_path / "services"
    services.write_text("[here]\nchannel_binding=require\n")

    with pytest.raises(UrlError, match="channel_binding of the service must be"):
        target_of(f"postgresql:///?service=here&servicefile={services}")


PASSWORD_FILE = r"""
# a comment:*:*:*:never
other:*:*:*:never
db:5433:*:*:never
d\:b:*:*:*:never
db:5432:app:me:p\:a\\s:s
*:*:*:*:last
"""


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("postgresql://me@db/app", r"p:a\s:s"),
        ("postgresql://you@db/app", "last"),
        ("postgresql://me:mine@db/app", "mine"),
    ],
)
def test_a_password_file_is_read_as_libpq_reads_it(monkeypatch, tmp_path, url, password):
    file = tmp_path / "passwords"
    file.write_text(PASSWORD_FILE)
    file.chmod(0o600)

    assert target_of(with_parameters(url, f"passfile={file}")).passwords == [password]
    monkeypatch.setenv("HOME", str(tmp_path))
    file.rename(tmp_path / ".pgpass")
    assert target_of(url).passwords == [password]


def test_a_password_file_that_others_may_read_is_not_used(tmp_path):
    file = tmp_path / "passwords"
    file.write_text(PASSWORD_FILE)
    file.chmod(0o640)

    with pytest.raises(UrlError, match=r"passfile cannot be used: .* chmod 600"):
        target_of(f"postgresql://me@db/app?passfile={file}")


@pytest.mark.parametrize("written", ["p%40ss%2Fw%3Ard%25%2B+", "p%C3%A9"])
def test_a_password_is_decoded_as_libpq_decodes_it(written):
    decoded = {"p%40ss%2Fw%3Ard%25%2B+": "p@ss/w:rd%++", "p%C3%A9": "pé"}[written]

    assert target_of(f"postgresql://me:{written}@db/app").passwords == [decoded]
    assert target_of(f"postgresql://me@db/app?password={written}").passwords == [decoded]


# Sockets


def options_of(connection):
    sock = connection._transport.get_extra_info("socket")
    names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
    values = [sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)), values


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has these options")
async def test_the_keepalives_of_the_url_are_the_sockets(database):
    async with dialled(database) as ours:
        assert options_of(ours) == (True, [5, 2, 3, 10_000])
    given = "keepalives_idle=30&keepalives_interval=7&keepalives_count=4&tcp_user_timeout=9000"
    async with dialled(with_parameters(database, given)) as theirs:
        assert options_of(theirs) == (True, [30, 7, 4, 9000])
    async with dialled(with_parameters(database, "keepalives=0")) as none:
        assert options_of(none)[0] is False


# TLS


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def root(authority, tmp_path):
    authority.cert_pem.write_to_path(tmp_path / "root.crt")
    return tmp_path / "root.crt"


async def test_the_systems_certificates_are_trusted_if_the_url_says_so(database, authority, root, monkeypatch):
    async with tls_front(database, authority.issue_cert("localhost")) as url:
        system = with_parameters(url, "sslmode=verify-full&sslrootcert=system")
        with pytest.raises(ConnectionLostError, match="certificate verify failed"):
            await dial(system, name="test")
        monkeypatch.setenv("SSL_CERT_FILE", str(root))
        for parameters in ("sslmode=verify-full&sslrootcert=system", "sslrootcert=system"):
            async with dialled(with_parameters(url, parameters)) as connection:
                assert connection._protocol.is_ssl


@pytest.mark.parametrize(
    ("mode", "name", "taken"),
    [
        ("verify-full", "localhost", True),
        ("verify-full", "another.example", False),
        ("verify-ca", "another.example", True),
        ("require", "another.example", True),
        ("prefer", "another.example", True),
    ],
)
async def test_a_certificate_is_checked_as_the_mode_says(database, authority, root, mode, name, taken):
    async with tls_front(database, authority.issue_cert(name)) as url:
        given = with_parameters(url, f"sslmode={mode}&sslrootcert={root}")
        if not taken:
            with pytest.raises(ConnectionLostError, match="certificate"):
                await dial(given, name="test")
            return
        async with dialled(given) as connection:
            assert connection._protocol.is_ssl


async def test_a_certificate_of_a_stranger_is_refused(database, authority, tmp_path, monkeypatch):
    other = trustme.CA()
    monkeypatch.setenv("HOME", str(tmp_path))
    other.cert_pem.write_to_path(tmp_path / "other.crt")
    async with tls_front(database, authority.issue_cert("localhost")) as url:
        for mode in ("require", "verify-ca", "verify-full"):
            with pytest.raises(ConnectionLostError, match="certificate verify failed"):
                await dial(with_parameters(url, f"sslmode={mode}&sslrootcert={tmp_path}/other.crt"), name="test")
        async with dialled(with_parameters(url, "sslmode=require")):  # there is no root certificate to check it by
            pass


async def test_a_server_without_tls_is_refused_where_tls_is_required(database, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConnectionLostError, match="rejected SSL upgrade"):
        await dial(with_parameters(database, "sslmode=require"), name="test")


async def test_tls_may_begin_at_once(database, authority, root):
    async with tls_front(database, authority.issue_cert("localhost"), direct=True) as url:
        given = f"sslnegotiation=direct&sslmode=verify-full&sslrootcert={root}"
        async with dialled(with_parameters(url, given)) as connection:
            assert await connection.fetchval("SELECT 1") == 1


async def test_a_certificate_shows_the_server_who_we_are(database, authority, root, tmp_path):
    ours = authority.issue_cert("me@example.com")
    ours.private_key_and_cert_chain_pem.write_to_path(tmp_path / "ours.pem")
    async with tls_front(database, authority.issue_cert("localhost"), client_authority=authority) as url:
        given = f"sslmode=verify-full&sslrootcert={root}"
        async with dialled(with_parameters(url, f"{given}&sslcert={tmp_path}/ours.pem")) as connection:
            assert await connection.fetchval("SELECT 1") == 1
        with pytest.raises(ConnectionLostError):
            await dial(with_parameters(url, given), name="test")


async def test_certificates_of_home_that_cannot_be_read_break_nothing(database, authority, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", f"/{'x' * 300}")  # looking into it fails, as with another user's folder
    async with dialled(database) as connection:
        assert await connection.fetchval("SELECT 1") == 1
    closed = tmp_path / ".postgresql"
    closed.mkdir(mode=0)
    monkeypatch.setenv("HOME", str(tmp_path))
    async with tls_front(database, authority.issue_cert("localhost")) as url, dialled(url) as connection:
        assert connection._protocol.is_ssl
    closed.chmod(0o700)


# What the server is asked for


async def test_the_settings_that_a_worker_needs_win_over_options(database):
    options = "options=-c%20idle_session_timeout%3D1s%20-c%20work_mem%3D9MB&application_name=theirs"
    async with dialled(with_parameters(database, options)) as connection:
        names = ("idle_session_timeout", "work_mem", "application_name")
        assert [await connection.fetchval(f"SHOW {name}") for name in names] == ["0", "9MB", "test"]


NEVER_HEALS = {
    "a setting that it does not have": "-c%20no_such_setting%3D1",
    "a value that a setting does not take": "-c%20work_mem%3Dlots",
    "a setting that is set at its start": "-c%20max_connections%3D5",
    "no option": "hello",
}


@pytest.mark.parametrize("options", NEVER_HEALS.values(), ids=NEVER_HEALS)
@pytest.mark.parametrize("name", ["database_url", "listen_database_url"])
async def test_a_worker_ends_if_the_server_can_never_serve_it(database, name, options):
    given = settings(database, **{name: with_parameters(database, f"options={options}")})
    worker = Worker(given, DirectedProvider(), Telemetry(Log()), given.redact)

    with anyio.fail_after(10), pytest.raises(RefusedError, match="change `options` in the URL"):
        await worker.run()


def test_run_says_so_in_one_line(reactor, monkeypatch, database):
    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_made_up_token")
    monkeypatch.setenv("FALLBACK_CENSORED_PROMPT", "a calm sea")
    monkeypatch.setenv("HTTP_PORT", "0")
    for command in ("run", "status", "migrate"):
        monkeypatch.setenv("DATABASE_URL", with_parameters(database, "options=-c%20no_such_setting%3D1"))

        code, out, err = reactor(command)

        assert (code, out, err.count("\n")) == (1, "", 1)
        assert 'unrecognized configuration parameter "no_such_setting"' in err


async def test_a_pooler_that_takes_no_options_is_no_database_that_is_away(database):
    async with pooler(database) as pooled:
        with pytest.raises(RefusedError, match="unsupported startup parameter"):
            await dial(with_parameters(pooled, "options=-c%20work_mem%3D8MB"), name="test")


async def test_a_database_that_is_missing_may_be_made_later(server_url):
    with pytest.raises(ConnectionLostError) as missing:
        await dial(urlsplit(server_url)._replace(path="/no_such_database").geturl(), name="test")

    assert not isinstance(missing.value, RefusedError | LoginRefusedError)
