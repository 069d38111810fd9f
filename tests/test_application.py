import asyncio
import logging
import re
import signal
from contextlib import asynccontextmanager

import anyio
import ports
import pytest
from conftest import ASYNCIO, UVLOOP
from doubles import DirectedProvider, Log, settings
from starlette.applications import Starlette

from reactor import SettingsError, TableError, lifespan, run
from reactor.engine.timings import Timings
from reactor.engine.worker import Worker
from reactor.failpoints import switched_on
from reactor.migrations import revisions
from reactor.sandbox import Sandbox, Timing
from reactor.supervisor import Supervisor, beside
from reactor.telemetry import Telemetry

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", [UVLOOP, ASYNCIO], indirect=True)]


@pytest.fixture
def sandbox():
    return Sandbox(Timing.instant())


@pytest.fixture
async def sandbox_url(sandbox):
    async with sandbox.serve() as base_url:
        yield base_url


class Records(logging.Handler):
    """The records that the host application's own logging gets."""

    def __init__(self):
        super().__init__()
        self.log = Log()

    def emit(self, record):
        self.log(record.getMessage().split()[0], record.reactor)


@pytest.fixture
def host_log():
    handler, logger = Records(), logging.getLogger("reactor")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler.log
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


async def test_a_host_application_runs_the_reactor_as_its_lifespan(environment, host_log, make_token, token_row):
    app = Starlette(lifespan=lifespan)
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    async with app.router.lifespan_context(app):
        token_id = await make_token()
        await host_log.wait("token.generation.succeeded")
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers

    assert (await token_row(token_id))["status"] == "uploading"
    assert host_log.of("worker.stopped")
    assert logging.getLogger("reactor").propagate


async def test_what_nobody_is_left_to_resume_ends_by_itself(environment, sandbox, host_log, make_token, monkeypatch):
    monkeypatch.setenv("GENERATION_TIMEOUT_SECONDS", "100")
    monkeypatch.setenv("LEASE_SECONDS", "20")
    app = Starlette(lifespan=lifespan)

    async with app.router.lifespan_context(app):
        await make_token()
        await host_log.wait("token.generation.succeeded")

    (bought,) = sandbox.ledger
    assert bought.deadline - bought.requested_at == pytest.approx(120)


async def test_a_lifespan_opens_no_port(environment, host_log):
    app, before = Starlette(lifespan=lifespan), ports.listening()

    async with app.router.lifespan_context(app):
        await host_log.wait("listener.connected")

        assert ports.listening() == before


@pytest.fixture
def uvicorn_loggers():
    """The loggers of uvicorn, as a host application may have set them up."""
    loggers = [logging.getLogger(name) for name in ("uvicorn.access", "uvicorn.error", "uvicorn.asgi")]
    handler = logging.NullHandler()
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.CRITICAL)
    yield loggers
    for logger in loggers:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


async def test_serving_leaves_the_hosts_logging_alone(database, uvicorn_loggers):
    loggers = uvicorn_loggers
    before = [(list(logger.handlers), logger.level, logger.propagate) for logger in loggers]
    log = Log()
    with ports.kept() as port:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: run(settings(database, http_port=port), log=log))
            await log.wait("listener.connected")
            group.cancel_scope.cancel()

    assert [(logger.handlers, logger.level, logger.propagate) for logger in loggers] == before


async def test_a_lifespan_that_ends_hands_back_what_it_holds(environment, host_log, make_token, token_row, monkeypatch):
    monkeypatch.setenv("SHUTDOWN_GRACE_SECONDS", "0")
    app = Starlette(lifespan=lifespan)

    async with app.router.lifespan_context(app):
        token_id = await make_token(prompt="a slow fox [sandbox: run=60]")
        await host_log.wait("token.generation.started")

    assert (await token_row(token_id))["status"] == "detected"


async def test_a_lifespan_begins_once_the_table_is_migrated(empty_database, environment, host_log, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", empty_database)
    app = Starlette(lifespan=lifespan)

    async with app.router.lifespan_context(app):
        told = await host_log.wait("worker.error")
        await revisions.upgrade(empty_database)
        await host_log.wait("listener.connected")

    assert told["error_message"].endswith("; run: reactor migrate")
    assert len(host_log.of("worker.error")) == 1  # logged once, although the table was looked for many times
    assert host_log.of("worker.stopped")


async def test_a_lifespan_begins_anew_whenever_its_reactor_died(environment, host_log, make_token, token_row):
    async def die():
        raise RuntimeError("a secret prompt")

    app = Starlette(lifespan=lifespan)
    with switched_on("listening", die), switched_on("before_watch", die):
        async with app.router.lifespan_context(app):
            await host_log.wait("watch.taken")
            token_id = await make_token()
            await host_log.wait("token.generation.succeeded")

    deaths = host_log.of("worker.error", role="worker", error_type="RuntimeError")
    assert len(deaths) == 2
    assert all(re.fullmatch(r"died in die, test_application\.py:\d+", told["error_message"]) for told in deaths)
    assert (await token_row(token_id))["status"] == "uploading"
    assert len(host_log.of("worker.started")) == 3
    assert "a secret prompt" not in host_log.text


@pytest.mark.parametrize("name", ["database_url", "listen_database_url"])
async def test_a_lifespan_says_once_why_no_server_can_serve_it(database, name):
    given = settings(database, **{name: f"{database}?sslmode=disable&options=-c%20no_such_setting%3D1"})
    log, at_once = Log(), Timings(first_reconnect=0.0)

    @asynccontextmanager
    async def refused():
        log("test.begun", {})
        yield Worker(given, DirectedProvider(), Telemetry(log), given.redact)

    async with beside(Supervisor(refused, Telemetry(log), timings=at_once)):
        error = await log.wait("worker.error", error_type="RefusedError")
        await log.wait("test.begun", times=4)

    assert "no_such_setting" in error["error_message"]
    assert len(log.of("worker.error")) == 1


@asynccontextmanager
async def unfit():
    """A worker whose table is not migrated."""
    raise TableError("no table nothing")
    yield


async def test_a_lifespan_ends_while_its_reactor_waits_to_begin_anew():
    log, an_hour = Log(), Timings(first_reconnect=3600.0, longest_reconnect=3600.0)

    with anyio.fail_after(5):
        async with beside(Supervisor(unfit, Telemetry(log), timings=an_hour)):
            await log.wait("worker.error")


async def test_a_lifespan_leaves_the_hosts_own_error_as_it_is(environment, host_log):
    async def fail():
        async with lifespan(None):
            await host_log.wait("listener.connected")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert host_log.of("worker.stopped")


async def test_a_lifespan_may_end_in_another_task_than_it_began_in(environment, host_log):
    entered = lifespan(None)

    await asyncio.create_task(entered.__aenter__())
    await host_log.wait("listener.connected")
    await asyncio.create_task(entered.__aexit__(None, None, None))

    assert host_log.of("worker.stopped")


async def test_a_lifespan_that_is_cancelled_while_it_ends_hands_back_at_once(
    environment, host_log, make_token, token_row, monkeypatch
):
    monkeypatch.setenv("SHUTDOWN_GRACE_SECONDS", "3600")
    ending = anyio.CancelScope()

    with ending:
        async with lifespan(None):
            token_id = await make_token(prompt="a slow fox [sandbox: run=60]")
            await host_log.wait("token.generation.started")
            asyncio.get_running_loop().call_soon(cancel_once, host_log, ending)

    assert ending.cancelled_caught
    assert (await token_row(token_id))["status"] == "detected"


def cancel_once(log, ending):
    """Cancel as soon as the worker has begun to stop."""
    if log.of("worker.stopping"):
        ending.cancel()
    else:
        asyncio.get_running_loop().call_soon(cancel_once, log, ending)


async def test_bad_settings_keep_an_application_from_starting_and_the_last_line_names_them(environment, monkeypatch):
    monkeypatch.setenv("MAX_ATTEMPTS", "0")
    monkeypatch.delenv("FALLBACK_CENSORED_PROMPT")
    sent, app = [], Starlette(lifespan=lifespan)

    async def receive():
        return {"type": "lifespan.startup"}

    async def send(message):
        sent.append(message)

    with pytest.raises(SettingsError):
        await app({"type": "lifespan", "app": app, "asgi": {"version": "3.0"}, "state": {}}, receive, send)

    ((kind, told),) = [(message["type"], message["message"]) for message in sent]
    assert kind == "lifespan.startup.failed"
    assert told.splitlines()[-1] == (
        "reactor.settings.SettingsError: FALLBACK_CENSORED_PROMPT: is required;"
        " MAX_ATTEMPTS: Input should be greater than or equal to 1"
    )


async def test_run_is_a_coroutine_that_can_be_cancelled(database, sandbox_url, make_token, token_row):
    log = Log()
    given = settings(database, replicate_base_url=sandbox_url, shutdown_grace_seconds=0)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: run(given, log=log))
        token_id = await make_token(prompt="a slow fox [sandbox: run=60]")
        await log.wait("token.generation.started")
        group.cancel_scope.cancel()

    assert (await token_row(token_id))["status"] == "detected"


async def test_run_raises_a_plain_error_where_the_table_is_not_migrated(empty_database, sandbox_url):
    with pytest.raises(TableError, match="run: reactor migrate"):
        await run(settings(empty_database, replicate_base_url=sandbox_url), log=Log())
