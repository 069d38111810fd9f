"""Health and metrics over HTTP, from a worker as `run` starts it."""

import errno
import signal
import socket
from contextlib import asynccontextmanager, suppress

import anyio
import httpx
import ports
import pytest
from doubles import NO_GATE, SECRET, Log, settings
from strangers import stranger

from reactor import run
from reactor.database.store import Store
from reactor.database.timings import ConnectionTimings
from reactor.engine.timings import TIMINGS, Timings
from reactor.sandbox import Sandbox, Timing
from reactor.telemetry import Telemetry
from reactor.web import Refusals, serve

pytestmark = pytest.mark.anyio

AWAY = "postgresql://nobody:hidden_password@127.0.0.1:1/nowhere"
TOKEN = "a-long-http-token"


@pytest.fixture
async def sandbox_url():
    async with Sandbox(Timing.instant()).serve() as base_url:
        yield base_url


@pytest.fixture
def port():
    """A port at which nobody listens."""
    with ports.kept() as number:
        yield number


@pytest.fixture
def serving(port, sandbox_url):
    """Run a reactor that serves; yield a client of it, and its log."""

    @asynccontextmanager
    async def serving(database, timings=TIMINGS, store=Store, **overrides):
        log = Log()
        given = settings(database, **{"replicate_base_url": sandbox_url, "http_port": port, **overrides})
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: run(given, log=log, timings=timings, store=store))
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
                await answered(client)
                yield client, log
            group.cancel_scope.cancel()

    return serving


async def answered(client):
    with anyio.fail_after(10):
        while True:
            try:
                return await client.get("/livez")
            except httpx.ConnectError:  # the port is not open yet
                await anyio.sleep(0.01)


async def until(client, place, value):
    """Ask /readyz, which may be a second old, until the value at `place` is `value`."""
    with anyio.fail_after(10):
        while True:
            body = (await client.get("/readyz")).json()
            found = body
            for name in place.split("."):
                found = found[name]
            if found == value:
                return body
            await anyio.sleep(0.01)


async def test_a_worker_is_ready_once_it_listens(database, serving):
    async with serving(database) as (client, log):
        await log.wait("listener.connected")
        body = await until(client, "listener", "proven")
        response = await client.get("/readyz")

    assert response.status_code == 200
    assert body == {
        "database": "ok",
        "listener": "proven",
        "locks": "ok",
        "triggers": "enabled",
        "intake": {"paused": False, "resumes_in": None, "opens_on": None, "limit_per_minute": None},
        "slots": {"in_use": 0, "of": 10},
    }


async def test_without_a_database_the_worker_lives_and_is_not_ready(serving):
    async with serving(AWAY) as (client, log):
        await log.wait("worker.error", role="worker")
        live, ready, metrics = [await client.get(path) for path in ("/livez", "/readyz", "/metrics")]

    assert (live.status_code, live.text) == (200, "ok\n")
    assert (ready.status_code, ready.json()["database"]) == (503, "away")
    assert metrics.status_code == 200
    assert "reactor_slots_in_use 0.0" in metrics.text
    assert "\nimage_generation_queue_depth " not in metrics.text
    for secret in ("hidden_password", SECRET):
        assert secret not in live.text + ready.text + metrics.text + log.text


async def test_an_answer_does_not_wait_for_a_database_that_does_not_answer(serving):
    patient = Timings(connections=ConnectionTimings(connect_within=600.0))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://nobody@127.0.0.1:{silent.getsockname()[1]}/nowhere"
        async with serving(url, patient) as (client, _):
            with anyio.fail_after(20):
                async with anyio.create_task_group() as group:
                    for path in ("/readyz", "/metrics", "/readyz", "/metrics", "/livez"):
                        group.start_soon(client.get, path)
            assert (await client.get("/readyz")).status_code == 503


async def test_a_database_that_goes_away_is_noticed_although_nothing_is_to_do(
    server_url, serving, connect_to, database
):
    name = database.rpartition("/")[2]
    admin = await connect_to(server_url)
    async with serving(database) as (client, _):
        await until(client, "database", "ok")
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        await until(client, "database", "away")
        assert (await client.get("/readyz")).status_code == 503
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await until(client, "database", "ok")


async def test_a_gate_row_that_is_gone_and_cannot_be_made_anew_is_told_and_the_worker_stays_ready(
    database, serving, connection
):
    await connection.execute(NO_GATE)
    async with serving(database, http_token=TOKEN) as (client, _):
        client.headers["authorization"] = f"Bearer {TOKEN}"
        body = await until(client, "intake.paused", True)
        response = await client.get("/readyz")
        metrics = (await client.get("/metrics")).text

    assert response.status_code == 200
    assert body["intake"]["reason"].endswith("run: reactor migrate")
    assert "image_generation_queue_depth 0.0" in metrics


@pytest.mark.parametrize(
    ("token", "header", "shown"),
    [
        (None, None, False),
        (TOKEN, f"Bearer {TOKEN[1:]}", False),
        (TOKEN, f"Bearer {TOKEN}", True),
    ],
)
async def test_a_paused_intake_is_told_and_why_only_with_the_token(
    database, serving, connection, ask, token, header, shown
):
    """The reason may repeat words of the provider."""
    await ask("pause", "402: pay at evil.example, and a prompt", 600.0)
    async with serving(database, http_token=token) as (client, _):
        client.headers.update({"authorization": header} if header else {})
        body = await until(client, "intake.paused", True)
        response = await client.get("/readyz")

    assert response.status_code == 200
    assert 590 < body["intake"].pop("resumes_in") <= 600
    reason = (
        {"reason": "402: pay at evil.example, and a prompt", "check_in": None, "refused_token": None} if shown else {}
    )
    reason |= {"budget_spent": False} if shown else {}
    assert body["intake"] == {"paused": True, "opens_on": "time", "limit_per_minute": None} | reason
    assert ("evil" in response.text) is shown


async def test_triggers_that_were_disabled_are_told(database, serving, connection):
    async with serving(database) as (client, _):
        await until(client, "triggers", "enabled")
        await connection.execute("ALTER TABLE tokens_s0 DISABLE TRIGGER USER")
        await until(client, "triggers", "disabled")


async def test_a_listener_that_never_hears_is_degraded_and_the_worker_stays_ready(database, serving):
    class Unheard(Store):
        async def ring(self, _channel):
            """As through a transaction pooler: nothing arrives."""

    async with serving(database, Timings(probe_within=0.01), Unheard) as (client, log):
        await log.wait("listener.degraded")
        response = await client.get("/readyz")
        metrics = await client.get("/metrics")

    assert (response.status_code, response.json()["listener"]) == (200, "degraded")
    assert "reactor_listener_up 0.0" in metrics.text


async def test_locks_that_a_stranger_holds_are_told_and_the_worker_stays_ready(database, serving, connect_to):
    async with stranger(database) as url:
        await (await connect_to(url)).execute("SELECT pg_advisory_lock(hashtextextended('public_tokens_s0_wake', 0))")
        async with serving(database, timings=Timings(watch_every=0.05, strangers_apart=0.01)) as (client, log):
            await log.wait("lock.blocked")
            response = await client.get("/readyz")

    assert (response.status_code, response.json()["locks"]) == (200, "held by a stranger")


async def test_a_listener_that_cannot_connect_is_lost_and_the_worker_stays_ready(database, serving):
    async with serving(database, listen_database_url=AWAY) as (client, log):
        await log.wait("listener.lost")
        response = await client.get("/readyz")

    assert (response.status_code, response.json()["listener"]) == (200, "lost")
    assert "hidden_password" not in response.text + log.text


async def test_what_a_worker_holds_is_shown(database, serving, make_token):
    async with serving(database, shutdown_grace_seconds=0) as (client, log):
        await make_token(prompt="a slow fox [sandbox: run=60]")
        await log.wait("token.create_sent")
        body = (await client.get("/readyz")).json()
        metrics = (await client.get("/metrics")).text

    assert body["slots"] == {"in_use": 1, "of": 10}
    assert "reactor_slots_in_use 1.0" in metrics
    assert "reactor_claims_total 1.0" in metrics


async def test_metrics_count_and_read_the_database(database, serving, make_token, ask):
    await ask("pause", "maintenance", None)
    for _ in range(3):
        await make_token()
    async with serving(database) as (client, log):
        await log.wait("listener.connected")
        await until(client, "listener", "proven")
        response = await client.get("/metrics")

    assert response.headers["content-type"].startswith("text/plain; version=")
    for line in ("image_generation_queue_depth 3.0", "reactor_intake_paused 1.0", "reactor_listener_up 1.0"):
        assert line in response.text.splitlines()


async def test_scrapes_in_a_row_ask_the_database_once(database, serving, make_token, ask):
    await ask("pause", "maintenance", None)
    async with serving(database) as (client, log):
        await log.wait("listener.connected")
        first = await client.get("/metrics")
        await make_token()
        second = await client.get("/metrics")

    assert all("image_generation_queue_depth 0.0" in response.text for response in (first, second))


async def test_looking_waits_for_no_connection_that_works(database, serving, connection):
    async with serving(database) as (client, log):
        await log.wait("listener.connected")
        await client.get("/readyz")
        await client.get("/metrics")
        names = [row[0] for row in await connection.fetch("SELECT application_name FROM pg_stat_activity")]

    assert names.count("reactor health") == 1


@pytest.mark.parametrize(
    ("path", "header", "status"),
    [
        ("/livez", None, 200),
        ("/readyz", None, 200),
        ("/metrics", None, 401),
        ("/metrics", "Bearer wrong", 401),
        ("/metrics", f"Bearer {TOKEN}x", 401),
        ("/metrics", f"Bearer {TOKEN[:-1]}", 401),
        ("/metrics", "Bearer", 401),
        ("/metrics", "Bearer \xff", 401),
        ("/metrics", f"Basic {TOKEN}", 401),
        ("/metrics", TOKEN, 401),
        ("/metrics", f"Bearer {TOKEN}", 200),
        ("/metrics", f"bearer {TOKEN}", 200),
        ("/metrics/", None, 401),
        ("//livez", None, 401),
        ("/livez/../metrics", None, 401),
        ("/nowhere", None, 401),
        ("/nowhere", f"Bearer {TOKEN}", 404),
    ],
)
async def test_a_token_guards_all_but_the_probes(database, serving, path, header, status):
    async with serving(database, http_token=TOKEN) as (client, log):
        headers = {} if header is None else {"authorization": header.encode("latin-1")}
        response = await client.get(path, headers=headers)

    assert response.status_code == status
    assert TOKEN not in response.text + log.text


async def test_a_port_that_is_taken_is_told_once_and_the_worker_works(database, port, sandbox_url, make_token):
    log = Log()
    with socket.create_server(("127.0.0.1", port)):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: run(settings(database, replicate_base_url=sandbox_url, http_port=port), log=log))
            await make_token()
            await log.wait("token.generation.succeeded")
            group.cancel_scope.cancel()

    (told,) = log.of("worker.error")
    assert told["role"] == "http"
    assert str(port) in told["error_message"]


def reached(port):
    """The loopback addresses that accept a connection."""
    answering = set()
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as client:
            client.connect((address, port))
            answering.add(address)
    return answering


async def ignore(_scope, _receive, _send):
    pass


@pytest.fixture
def listening(port):
    """Serve an empty application at a host's addresses; return the addresses that accept connections, and the log."""

    async def listening(host):
        log = Log()
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: serve(ignore, Refusals(Telemetry(log)), host=host, port=port))
            with anyio.move_on_after(10):
                while not (found := await anyio.to_thread.run_sync(reached, port)) and not log.events:
                    await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        return found, log

    return listening


@pytest.fixture
def loopback():
    """The loopback addresses of this machine."""
    found = {"127.0.0.1"}
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        found.add("::1")
    return found


@pytest.fixture
def hosts_file(monkeypatch):
    """Let localhost have an address of each family, as in most hosts files, and each address twice."""

    async def getaddrinfo(host, port, **_options):
        found = ("::1", "127.0.0.1") if host == "localhost" else [host]
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
            for each in [*found, *found]
        ]

    monkeypatch.setattr("anyio.getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("host", ["::", "[::]", "localhost"])
@pytest.mark.usefixtures("hosts_file")
async def test_every_family_of_a_host_is_served(listening, loopback, host):
    found, log = await listening(host)

    assert (found, log.events) == (loopback, [])


@pytest.mark.parametrize("host", ["::", "localhost"])
@pytest.mark.parametrize("lacking", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL], ids=["not compiled in", "off"])
@pytest.mark.usefixtures("hosts_file")
async def test_a_host_is_served_where_ipv6_is_off(listening, monkeypatch, host, lacking):
    create_server = socket.create_server

    def create(address, *, family):
        if family == socket.AF_INET6:
            raise OSError(lacking, "no IPv6 here")
        return create_server(address, family=family)

    monkeypatch.setattr("reactor.web.server.socket.create_server", create)

    found, log = await listening(host)

    assert (found, log.events) == ({"127.0.0.1"}, [])


@pytest.mark.parametrize("host", ["::", "localhost"])
@pytest.mark.usefixtures("hosts_file")
async def test_a_port_that_is_taken_in_one_family_is_told_and_taken_in_none(port, host):
    log = Log()
    with socket.create_server(("127.0.0.1", port)), anyio.fail_after(10):
        await serve(ignore, Refusals(Telemetry(log)), host=host, port=port)

        assert "::1" not in reached(port)
    (told,) = log.events
    assert f"{port}" in told["error_message"]


@pytest.mark.parametrize("host", ["192.0.2.1", "ü" * 70], ids=["not ours", "no name"])
async def test_an_address_that_cannot_be_had_is_told_and_the_worker_works(database, sandbox_url, port, host):
    log = Log()
    given = settings(database, replicate_base_url=sandbox_url, http_port=port, http_host=host, http_token=TOKEN)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: run(given, log=log))
        await log.wait("listener.connected")
        await log.wait("worker.error")
        group.cancel_scope.cancel()

    assert [told["role"] for told in log.of("worker.error")] == ["http"]


async def test_no_port_is_opened_where_it_is_0(database, sandbox_url):
    before, log = ports.listening(), Log()
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: run(settings(database, replicate_base_url=sandbox_url, http_port=0), log=log))
        await log.wait("listener.connected")
        opened = ports.listening() - before
        group.cancel_scope.cancel()

    assert opened == set()


async def test_the_server_takes_no_signals_and_ends_with_the_worker(serving, port):
    async with serving(AWAY) as (client, _):
        await client.get("/livez")
        handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    assert not any("uvicorn" in (getattr(handler, "__module__", None) or "") for handler in handlers)
    with pytest.raises(OSError, match="connection attempts failed"):
        await anyio.connect_tcp("127.0.0.1", port)


async def test_an_open_connection_does_not_keep_the_worker_from_ending(serving, port):
    with anyio.fail_after(20):
        async with serving(AWAY):
            stream = await anyio.connect_tcp("127.0.0.1", port)
            await stream.send(b"GET /livez HTTP/1.1\r\n")

    await stream.aclose()
