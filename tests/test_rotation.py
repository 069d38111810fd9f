"""A secret that was rotated is read again once the old one is refused, and never shown."""

import asyncio

import anyio
import asyncpg
import pytest
from conftest import FAST
from doubles import DirectedProvider, Log
from wire import Wire, http

from reactor.database.connections import LoginRefusedError, dial
from reactor.database.session import Session
from reactor.embedded import EmbeddedPostgres
from reactor.engine.gate.checks import Checks
from reactor.engine.worker import Worker
from reactor.errors import UnauthorizedError
from reactor.logs import StructuredLog
from reactor.migrations import revisions
from reactor.providers.replicate import ReplicateProvider
from reactor.secret import Secret
from reactor.settings import Settings
from reactor.telemetry import Telemetry

pytestmark = pytest.mark.anyio

OLD, NEW = "the-old-secret", "the-new-secret"
ROLE = "rotated"
# The role needs its password, all others none.
GUARD = f"""
    COPY (
      SELECT 'host all {ROLE} all scram-sha-256'
      UNION ALL
      SELECT line FROM regexp_split_to_table(pg_read_file(current_setting('hba_file')), '\\n') AS line
      WHERE line ~ '^[a-z]'
    ) TO PROGRAM 'cat > pg_hba.new && mv pg_hba.new pg_hba.conf'
"""


@pytest.fixture(scope="module")
def guarded():
    """The URL of a migrated database in a server that asks one role for its password."""
    with EmbeddedPostgres(settings=FAST) as server:

        async def prepare():
            await revisions.upgrade(server.url())
            connection = await asyncpg.connect(server.url())
            await connection.execute(f"CREATE ROLE {ROLE} LOGIN SUPERUSER PASSWORD '{OLD}'")
            await connection.execute(GUARD)
            await connection.execute("SELECT pg_reload_conf()")
            await connection.close()

        asyncio.run(prepare())
        yield server.url()


@pytest.fixture
async def password(guarded):
    """Change the role's password."""
    connection = await asyncpg.connect(guarded)

    async def change(to):
        await connection.execute(f"ALTER ROLE {ROLE} PASSWORD '{to}'")

    await change(OLD)
    yield change
    await connection.close()


def url_with(guarded, secret):
    return guarded.replace("postgres@", f"{ROLE}:{secret}@")


@pytest.fixture
def given(guarded, monkeypatch, tmp_path):
    """Settings whose secrets stand in files or in `.env`; and the function that rotates the password there."""

    def make(place):
        file, dotenv, passfile = tmp_path / "url", tmp_path / ".env", tmp_path / "passwords"

        def write(secret):
            file.write_text(url_with(guarded, secret))
            dotenv.write_text(f"DATABASE_URL={url_with(guarded, secret)}\n" if place == ".env" else "")
            passfile.write_text(f"*:*:*:{ROLE}:{secret}\n")
            passfile.chmod(0o600)

        write(OLD)
        environment = {
            "a file": {"DATABASE_URL_FILE": str(file)},
            ".env": {},
            "a password file": {"DATABASE_URL": f"{url_with(guarded, '').replace(':@', '@')}?passfile={passfile}"},
        }[place]
        others = {"REPLICATE_API_TOKEN": "r8_made_up_token", "FALLBACK_CENSORED_PROMPT": "a calm sea", "HTTP_PORT": "0"}
        for name, value in (environment | others).items():
            monkeypatch.setenv(name, value)
        return Settings.load(_env_file=dotenv), write

    return make


@pytest.mark.parametrize("place", ["a file", ".env", "a password file"])
async def test_the_next_try_has_the_new_password(given, password, place):
    settings, write = given(place)
    session = Session(settings.secret("database_url"), name="test")
    assert await session.fetch("SELECT 1")
    session.drop()
    await password(NEW)
    write(NEW)

    assert await session.fetch("SELECT 1")

    session.drop()
    assert NEW not in settings.redact(f"it was {NEW}")


async def test_a_worker_waits_for_a_rotation_that_is_late_and_says_why(given, password, capsys):
    settings, write = given("a file")
    await password(NEW)
    log = Log()
    shown = StructuredLog(settings.redact, level="DEBUG", style="json")
    worker = Worker(settings, DirectedProvider(), Telemetry(log, shown), settings.redact)
    async with anyio.create_task_group() as group:
        group.start_soon(worker.run)
        error = await log.wait("worker.error", error_type="LoginRefusedError")
        write(NEW)
        await log.wait("listener.connected")
        worker.stop_now()

    assert "password authentication failed" in error["error_message"]
    assert '"level":"error"' in capsys.readouterr().out.split("LoginRefusedError")[0].splitlines()[-1]


async def test_a_password_that_a_caller_gave_is_what_it_is(guarded, password):
    await password(NEW)

    with pytest.raises(LoginRefusedError):
        await dial(url_with(guarded, OLD), name="test")


async def test_a_file_that_cannot_be_used_changes_nothing(given, password, tmp_path):
    settings, _ = given("a file")
    secret = settings.secret("database_url")
    for content in ("", "mysql://x", f"{secret.value}?channel_binding=require", None):
        (tmp_path / "url").unlink() if content is None else (tmp_path / "url").write_text(content)

        assert not await secret.renewed(secret.value)


async def test_who_was_refused_with_a_value_that_was_replaced_meanwhile_reads_nothing():
    read = iter([NEW])
    secret = Secret(OLD, lambda: next(read))

    assert [await secret.renewed(OLD), await secret.renewed(OLD)] == [True, True]
    assert secret.value == NEW


# The API token


UNAUTHORIZED = http({"detail": "Unauthenticated"}, 401)
ACCOUNT = http({"type": "user", "username": "x"})


@pytest.fixture
def token(monkeypatch, tmp_path):
    """Settings whose API token stands in a file, and the file."""
    file = tmp_path / "token"
    file.write_text("the-old-api-token\n")
    monkeypatch.setenv("REPLICATE_API_TOKEN_FILE", str(file))
    given = {"database_url": "postgresql://x@y/z", "fallback_censored_prompt": "a calm sea"}
    return Settings.load(_env_file=None, **given).secret("replicate_api_token"), file


def bearers(wire):
    heads = [head.lower() for head, _ in wire.requests]
    return [head.partition("authorization: bearer ")[2].partition("\r\n")[0] for head in heads]


async def test_a_create_that_is_refused_is_sent_again_with_the_token_that_the_file_has_now(token):
    secret, file = token
    bought = http({"id": "p1", "status": "starting", "urls": {}, "model": "m", "version": "v", "input": {}})
    wire = Wire(UNAUTHORIZED, bought)
    async with wire.serve() as url:
        provider = ReplicateProvider(secret, base_url=url)
        file.write_text("the-new-api-token\n")
        assert (await provider.create("a fox", 1)).id == "p1"
        assert "the-new" not in provider._redact("it was the-new-api-token")
        await provider.aclose()

    assert bearers(wire) == ["the-old-api-token", "the-new-api-token"]


async def test_a_token_that_is_still_the_same_is_refused_once(token):
    secret, _ = token
    wire = Wire(UNAUTHORIZED)
    async with wire.serve() as url:
        provider = ReplicateProvider(secret, base_url=url)
        with pytest.raises(UnauthorizedError):
            await provider.create("a fox", 1)
        await provider.aclose()

    assert len(wire.requests) == 1


async def test_a_gate_that_is_closed_for_a_token_is_checked_at_once_with_another(token):
    secret, file = token
    checks = Checks(secret)
    state = {"paused": True, "opens_on": "check", "check_in": 3600.0, "refused_token": checks.mark}
    checks.looked({**state, "paused": False, "opens_on": None})
    checks.looked(state)
    await checks.renew()
    assert not checks.due(state)

    file.write_text("the-new-api-token\n")
    await checks.renew()

    assert checks.due(state)
