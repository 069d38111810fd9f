"""The reactor inside other applications, used as these would use it."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from uuid import UUID

import anyio
import httpx
import ports
import pytest
from conftest import ASYNCIO, UVLOOP
from doubles import settings, until
from fastapi import FastAPI
from litestar import Litestar, asgi
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount

import reactor
from reactor import TableError, lifespan, page, running
from reactor.database.connections import session_name
from reactor.failpoints import switched_on
from reactor.migrations import revisions
from reactor.sandbox import Sandbox, Timing
from reactor.waits import NAME, Waits

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[UVLOOP, ASYNCIO])
def anyio_backend(request):
    return request.param


@pytest.fixture
async def sandbox_url():
    async with Sandbox(Timing.instant()).serve() as base_url:
        yield base_url


@pytest.fixture
def given(database, sandbox_url):
    return settings(database, replicate_base_url=sandbox_url)


def client_of(app):
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


# A host application's own tests.


async def test_a_hosts_test_waits_for_the_image_of_what_it_minted(given, make_token):
    async with reactor.running(given) as r:
        token_id = await make_token(prompt="a lighthouse")

        with anyio.fail_after(20):
            row = await r.wait_for(token_id)

    assert (row["token_id"], row["status"], row["error"]) == (token_id, "uploading", None)
    assert row["image_url"].startswith("http")


async def test_a_hosts_test_waits_for_a_failure(given, make_token):
    async with running(given) as r:
        token_id = await make_token(prompt=" ")

        with anyio.fail_after(20):
            row = await r.wait_for(str(token_id))

    assert (row["status"], row["image_url"]) == ("failed", None)
    assert row["error"]


async def test_a_token_is_waited_for_by_its_key_too(given, make_token, token_row):
    async with running(given) as r:
        token_id = await make_token()
        key = (await token_row(token_id))["id"]

        with anyio.fail_after(20):
            assert (await r.wait_for(key))["id"] == key


async def test_a_token_that_is_not_there_is_not_waited_for(given):
    answers = {}
    async with running(given) as r:
        for token_id in (999, -1, 2**70, "x", "", UUID(int=7), "a\x00b"):
            answers[token_id] = "waited for"
            with suppress(TimeoutError), anyio.fail_after(20):
                try:
                    answers[token_id] = await r.wait_for(token_id)
                except LookupError as error:
                    answers[token_id] = str(error)

    assert {token_id: told for token_id, told in answers.items() if "no token" not in str(told)} == {}


async def test_a_token_that_is_deleted_meanwhile_ends_the_wait(given, connection, make_token):
    async with running(given.model_copy(update={"replicate_base_url": "http://127.0.0.1:1"})) as r:
        token_id = await make_token()
        async with anyio.create_task_group() as group:

            async def wait():
                with pytest.raises(LookupError):
                    await r.wait_for(token_id)

            group.start_soon(wait)
            await listening(connection)
            # One transaction, so that the hint of the update arrives when the row is gone.
            await connection.execute(
                "UPDATE tokens_s0 SET status = 'failed', generation_error = 'x'; DELETE FROM tokens_s0"
            )


async def listening(connection):
    """Wait until somebody who waits listens."""
    words = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND query ~ '^LISTEN'"
    await until(lambda: connection.fetchval(words, NAME))


async def test_many_are_waited_for_at_once(given, make_token):
    async with running(given) as r:
        token_ids = [await make_token() for _ in range(30)]

        with anyio.fail_after(30):
            rows = await asyncio.gather(*map(r.wait_for, token_ids))

    assert [row["token_id"] for row in rows] == token_ids
    assert {row["status"] for row in rows} == {"uploading"}


# Waits, without a worker of their own: another process settles the token.


@pytest.fixture
async def waits(database):
    waits = Waits(settings(database), look_every=3600.0)
    yield waits
    await waits.aclose()


async def waited(waits, token_id, found):
    with anyio.fail_after(20):
        found.append(await waits.settled(token_id))


async def test_what_another_worker_settles_ends_the_wait_at_once(waits, connection, make_token):
    token_id, other, found = await make_token(), await make_token(), []
    key = await connection.fetchval("SELECT id FROM tokens_s0 WHERE token_id = $1", token_id)

    async with anyio.create_task_group() as group:
        for name in (token_id, key):
            group.start_soon(waited, waits, name, found)
        await listening(connection)
        await connection.execute("UPDATE tokens_s0 SET status = 'ready' WHERE token_id = $1", other)
        assert not found
        failed = "UPDATE tokens_s0 SET status = 'failed', generation_error = 'x' WHERE token_id = $1"
        await connection.execute(failed, token_id)

    assert [row["status"] for row in found] == ["failed", "failed"]


async def test_a_wait_outlives_the_loss_of_its_connections(waits, connection, make_token):
    token_id, found = await make_token(), []

    async with anyio.create_task_group() as group:
        group.start_soon(waited, waits, token_id, found)
        await listening(connection)
        await connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1", NAME
        )
        await connection.execute("UPDATE tokens_s0 SET status = 'ready'")

    assert found[0]["status"] == "ready"


RESTS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = $1 AND state = 'idle' AND clock_timestamp() - state_change > interval '100 milliseconds'
"""


async def test_a_wait_ends_by_a_look_where_no_hint_arrives(database, connection, make_token):
    deaf = settings(database, listen_database_url="postgresql://nobody@127.0.0.1:1/nowhere")
    waits, found = Waits(deaf, look_every=0.5), []
    token_id = await make_token()
    async with anyio.create_task_group() as group:
        group.start_soon(waited, waits, token_id, found)
        await until(lambda: connection.fetchval(RESTS, NAME))  # it has looked twice, and waits for a hint
        await connection.execute("SET session_replication_role = replica")  # no trigger runs
        await connection.execute("UPDATE tokens_s0 SET status = 'ready'")
    await waits.aclose()

    assert found[0]["status"] == "ready"


async def test_nobody_listens_once_nobody_waits(waits, connection, make_token):
    token_id, found = await make_token(), []
    async with anyio.create_task_group() as group:
        group.start_soon(waited, waits, token_id, found)
        await listening(connection)
        await connection.execute("UPDATE tokens_s0 SET status = 'ready'")

    count = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = $1 AND query ~ '^LISTEN'"
    await until(lambda: connection.fetchval(count, NAME))


async def test_before_the_migration_nobody_can_wait(empty_database):
    waits = Waits(settings(empty_database))
    with pytest.raises(TableError, match="run: reactor migrate"):
        await waits.settled(1)
    await waits.aclose()


async def test_before_the_migration_the_page_keeps_no_idle_connection(empty_database, connect_to):
    connection = await connect_to(empty_database)
    open_ones = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'reactor page %'"

    async def none_is_open():
        return await connection.fetchval(open_ones) == 0

    async with running(settings(empty_database)) as r, client_of(r.app) as client:
        answer = await client.get("/")
        opened = await connection.fetchval(open_ones)
        for session in (r._site.reads._state, r._site.reads.session):
            session._used_at = float("-inf")
        await until(none_is_open)

    assert (answer.status_code, opened > 0) == (503, True)


KEYS = {
    "a text": ("key text PRIMARY KEY", "'0xA/1'", "0xA/1"),
    "a bigint": ("key bigint PRIMARY KEY", "7", 7),
    "a uuid": ("key uuid PRIMARY KEY", "'00000000-0000-0000-0000-000000000007'", UUID(int=7)),
}


@pytest.mark.parametrize(("column", "literal", "key"), KEYS.values(), ids=KEYS)
async def test_any_kind_of_key_is_waited_for(empty_database, sandbox_url, connect_to, column, literal, key):
    connection = await connect_to(empty_database)
    await connection.execute(f"CREATE TABLE tokens_s0 ({column}, status text NOT NULL DEFAULT 'detected', prompt text)")
    await revisions.upgrade(empty_database)

    async with running(settings(empty_database, replicate_base_url=sandbox_url)) as r:
        await connection.execute(f"INSERT INTO tokens_s0 VALUES ({literal}, DEFAULT, 'a fox')")
        with anyio.fail_after(20):
            row = await r.wait_for(key)

    assert (row["token_id"], row["status"]) == (key, "uploading")


# The state, and the end.


async def test_the_state_is_that_of_the_command_and_of_this_worker(given, make_token):
    async with running(given) as r:
        await r.wait_for(await make_token())
        state = await r.status()

    assert state["tokens"]["uploading"] == 1
    assert state["worker"]["slots"] == {"in_use": 0, "of": 10}
    assert state["sentence"]


async def test_a_reactor_that_was_stopped_claims_nothing_more(given, make_token, token_row):
    async with running(given) as r:
        await r.wait_for(await make_token())
        with anyio.fail_after(20):
            await r.stop()
            await r.stop()
        token_id = await make_token()

    assert (await token_row(token_id))["status"] == "detected"


async def test_no_connection_is_left_behind(given, connection, make_token):
    async with running(given) as r:
        await r.wait_for(await make_token())
        await r.status()

    left = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name LIKE 'reactor%'"
    await until(lambda: connection.fetchval(left))


# Hosts: the page and /readyz, below a path, behind the host's own authentication.


class Login:
    """A host's authentication: whoever has the cookie is let in."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        headers = dict(scope.get("headers", []))
        if scope["type"] == "http" and b"user=ada" not in headers.get(b"cookie", b""):
            await PlainTextResponse("who are you?", 401)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def fastapi_host():
    app = FastAPI(lifespan=lifespan)
    app.mount("/admin/reactor", Login(page()))
    return app, app.router.lifespan_context(app)


def fastapi_host_with_its_own_lifespan():
    @asynccontextmanager
    async def own(app):
        async with reactor.lifespan(app):
            yield

    app = FastAPI(lifespan=own)
    app.mount("/admin/reactor", Login(page()))
    return app, app.router.lifespan_context(app)


def starlette_host():
    app = Starlette(routes=[Mount("/admin/reactor", page(), middleware=[Middleware(Login)])], lifespan=lifespan)
    return app, app.router.lifespan_context(app)


def litestar_host():
    shown = Login(page())

    @asgi("/admin/reactor", is_mount=True, copy_scope=True)
    async def mounted(scope: dict, receive: object, send: object) -> None:
        await shown(scope, receive, send)

    app = Litestar([mounted], lifespan=[lifespan], logging_config=None)  # else it sets up the root logger
    return app, app.lifespan()


HOSTS = [fastapi_host, fastapi_host_with_its_own_lifespan, starlette_host, litestar_host]


@pytest.mark.parametrize("host", HOSTS)
async def test_a_host_shows_the_page_to_its_users_alone(environment, make_token, connection, host):
    app, life = host()
    async with life, client_of(app) as client:
        token_id = await make_token()
        await until(lambda: connection.fetchval("SELECT image_url FROM tokens_s0 WHERE token_id = $1", token_id))
        refused = await client.get("/admin/reactor/readyz")
        client.cookies["user"] = "ada"
        ready = await client.get("/admin/reactor/readyz")
        status = await client.get("/admin/reactor/api/status")
        shown = await client.get("/admin/reactor/")

    assert (refused.status_code, ready.status_code) == (401, 200)
    assert ready.json()["slots"] == {"in_use": 0, "of": 10}
    assert status.json()["tokens"]["uploading"] == 1
    assert shown.status_code == 200
    links = re.findall(r'(?:href|src|action)="(/[^"]*)"', shown.text)
    assert links
    assert all(link.startswith("/admin/reactor/") for link in links)


async def test_a_page_without_a_reactor_says_so():
    app = Starlette(routes=[Mount("/reactor", page())])
    async with client_of(app) as client:
        answer = await client.get("/reactor/")

    assert (answer.status_code, "reactor.lifespan" in answer.text) == (503, True)


async def test_a_page_shows_the_reactor_that_it_is_given(given):
    async with running(given) as r, client_of(page(r)) as client:
        assert (await client.get("/readyz")).status_code == 200


async def test_each_application_shows_its_own_reactor(environment, empty_database, monkeypatch):
    one, two = fastapi_host()[0], fastapi_host()[0]
    async with one.router.lifespan_context(one):
        monkeypatch.setenv("DATABASE_URL", empty_database)
        async with two.router.lifespan_context(two):
            triggers = {}
            for name, app in (("one", one), ("two", two)):
                async with client_of(app) as client:
                    client.cookies["user"] = "ada"
                    triggers[name] = (await client.get("/admin/reactor/readyz")).json()["triggers"]

    assert triggers == {"one": "enabled", "two": "disabled"}


async def test_before_the_migration_the_application_runs_and_readyz_says_so(empty_database, environment, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", empty_database)
    app, life = fastapi_host()
    async with life, client_of(app) as client:
        client.cookies["user"] = "ada"
        before = (await client.get("/admin/reactor/readyz")).json()
        await revisions.upgrade(empty_database)

        async def proven():
            after = (await client.get("/admin/reactor/readyz")).json()
            return (after["triggers"], after["listener"]) == ("enabled", "proven")

        await until(proven, 30)

    assert (before["triggers"], before["listener"]) == ("disabled", "starting")


async def test_a_reactor_that_died_is_seen_and_begun_anew(environment):
    async def die():
        raise RuntimeError

    app, life = fastapi_host()
    with switched_on("listening", die):
        async with life, client_of(app) as client:
            client.cookies["user"] = "ada"

            async def proven():
                return (await client.get("/admin/reactor/readyz")).json()["listener"] == "proven"

            await until(proven, 30)


# A server with several processes.

HOST = """
import fastapi, reactor
app = fastapi.FastAPI(lifespan=reactor.lifespan)
app.mount("/reactor", reactor.page())
"""


@pytest.fixture
def port():
    with ports.kept() as number:
        yield number


@pytest.fixture
def two_workers(environment, tmp_path, port):
    """A server of two processes; its URL."""
    (tmp_path / "host.py").write_text(HOST)
    server = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "host:app", "--workers", "2", "--port", f"{port}"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield f"http://127.0.0.1:{port}"
        server.send_signal(signal.SIGTERM)
        server.wait(30)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)  # a process of it that is left would keep the database
        server.wait()


@pytest.mark.parametrize("anyio_backend", [UVLOOP], indirect=True)  # the server's processes choose their own
async def test_several_workers_of_uvicorn_are_several_reactors(two_workers, connection, make_token):
    listeners = "SELECT count(*) = 2 FROM pg_stat_activity WHERE application_name = $1"
    await until(lambda: connection.fetchval(listeners, session_name("listener")), 40)
    token_id = await make_token()
    await until(lambda: connection.fetchval("SELECT image_url FROM tokens_s0 WHERE token_id = $1", token_id))
    async with httpx.AsyncClient() as client:
        state = (await client.get(f"{two_workers}/reactor/api/status")).json()

    assert state["workers"] == 2
