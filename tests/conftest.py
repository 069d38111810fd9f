"""One server for each process of the run, a migrated database for each test, the sandbox in the test's own loop."""

import asyncio
import contextlib
import functools
import gc
import os
import ssl
import tempfile
import time
import uuid
from urllib.parse import urlsplit

import anyio
import asyncpg
import hypothesis
import pytest
from catalogue import snapshot
from databases import Databases, clone, on
from doubles import unaccounted, until
from hosts import make_host
from hypothesis import strategies as st
from xdist.scheduler import LoadScopeScheduling

from reactor.cli import main
from reactor.database.discovery import find
from reactor.database.session import Session
from reactor.embedded import EmbeddedPostgres
from reactor.engine.gate.gate_store import GateStore
from reactor.migrations import revisions
from reactor.settings import Settings

# No test needs its data to survive a power cut.
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "max_prepared_transactions": "10",
    "autovacuum": "off",
}
DAY = 86400  # seconds
MEMORY = "/dev/shm"  # noqa: S108  (only the run's own folders in it)
ROOM = 4 * 2**30  # bytes

# The longest files first, so that no core idles at the end.
FIRST = (
    "test_database_faults",
    "test_demo",
    "test_hostile_provider",
    "test_end_to_end",
    "test_bad_input",
    "test_leases",
    "test_web",
)
# Files whose tests share something costly, or would take the same port, so that one process runs them all.
WHOLE = ("test_failpoints", "test_database_faults", "test_a_newcomers_path")

# The same examples in every run. No deadline for one example, because its time depends on the machine's load.
hypothesis.settings.register_profile("reactor", deadline=None, derandomize=True)
hypothesis.settings.load_profile("reactor")

UVLOOP = pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop")
ASYNCIO = pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each process that is free the next test, or the next whole file of WHOLE."""
    scheduling = LoadScopeScheduling(config, log)
    scheduling._split_scope = lambda nodeid: next((name for name in WHOLE if f"{name}.py::" in nodeid), nodeid)
    return scheduling


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Exempt the collected tests from garbage collection, because they stay until the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        uses_hypothesis()
        gc.freeze()


@hypothesis.settings(max_examples=1, database=None)
@hypothesis.given(st.none())
def uses_hypothesis(_none):
    """At its first use Hypothesis looks for objects that it would not find if they were exempt: on Python 3.14."""


def pytest_configure():
    """Keep all temporary files in memory, if it has room, because a run makes and removes 150,000 files."""
    if "TMPDIR" not in os.environ and has_room(MEMORY):
        os.environ["TMPDIR"] = MEMORY
        tempfile.tempdir = None  # so that tempfile reads TMPDIR again


def has_room(folder):
    """Whether the files of a run fit into the folder, and programs may run from it."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    fits = found.f_bavail * found.f_frsize > ROOM and not found.f_flag & os.ST_NOEXEC
    return fits and os.access(folder, os.W_OK | os.X_OK)


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.module.__name__, len(FIRST)))


@pytest.fixture(autouse=True, scope="session")
def authorities_read_once():
    """Make one TLS context for all clients that trust the same files: a new one takes longer than most tests."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(ssl, "create_default_context", functools.cache(ssl.create_default_context))
        yield


@pytest.fixture(params=[UVLOOP])
def anyio_backend(request):
    return request.param


@pytest.fixture(scope="session")
def server_url():
    """The maintenance database of DATABASE_URL's server, or of an embedded server."""
    if given := os.environ.get("DATABASE_URL"):
        yield given
        return
    with EmbeddedPostgres(settings=FAST) as server:
        yield server.url("postgres")


@pytest.fixture
def settled_server(server_url):
    """A server that started more than ten seconds ago: until then no worker counts as dead."""
    command(server_url, "SELECT pg_sleep_until(pg_postmaster_start_time() + interval '10.1 seconds')")


def command(url, *statements):
    async def main():
        connection = await asyncpg.connect(url, timeout=10)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(main())


@pytest.fixture(scope="session")
def template(server_url):
    """A migrated database, to be cloned."""
    name = f"reactor_template_{uuid.uuid4().hex[:12]}"
    command(server_url, f"CREATE DATABASE {name}")
    asyncio.run(revisions.upgrade(on(server_url, name)))
    yield name
    command(server_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_database(server_url):
    """The URL of a database with nothing in it."""
    with lent(server_url, "template1") as url:
        yield url


@contextlib.contextmanager
def lent(server_url, template):
    """The URL of a clone, dropped at the end."""
    name = asyncio.run(clone(server_url, template))
    yield on(server_url, name)
    command(server_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def migrated_host_template(server_url):
    """A database with the tables of `make_host`, migrated; what was in it before and is in it since."""
    with lent(server_url, "template1") as url:
        asyncio.run(make_host(url))
        before = asyncio.run(snapshot(url))
        asyncio.run(revisions.upgrade(url))
        yield urlsplit(url).path[1:], before, asyncio.run(snapshot(url))


@pytest.fixture
def migrated_host(server_url, migrated_host_template):
    """The URL of a clone of it."""
    with lent(server_url, migrated_host_template[0]) as url:
        yield url


@pytest.fixture
def before_migration(migrated_host_template):
    """The catalogue of `migrated_host` before its migration."""
    return migrated_host_template[1]


@pytest.fixture
def since_migration(migrated_host_template):
    """The catalogue of `migrated_host` as it was migrated."""
    return migrated_host_template[2]


@pytest.fixture(scope="session")
def databases(server_url, template):
    """The migrated databases of this process."""
    lent = Databases(server_url, template)
    yield lent
    lent.close()


@pytest.fixture
def database(server_url, databases):
    """The URL of a migrated database."""
    name = databases.take()
    yield on(server_url, name)
    databases.give_back(name)


@pytest.fixture
async def connection(database):
    """A client of the test's database."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


@pytest.fixture
def one_day():
    """Begin no test of a day's sums in the last seconds of the UTC day: they would be of two days."""
    left = DAY - time.time() % DAY
    if left < 20:
        time.sleep(left)


@pytest.fixture
def environment(database, sandbox_url, monkeypatch, tmp_path):
    """Set the environment variables that `lifespan` reads; the provider is the test's `sandbox_url`."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_made_up_token")
    monkeypatch.setenv("REPLICATE_BASE_URL", sandbox_url)
    monkeypatch.setenv("FALLBACK_CENSORED_PROMPT", "a calm sea")


@pytest.fixture
def make_token(connection):
    """Make a token in any state. Its author has the given prompt; author=False makes a token without an author."""

    async def make(*, prompt="a lighthouse in a storm", author=True, **columns):
        author_id = None
        if author:
            author_id = await connection.fetchval(
                "INSERT INTO authors (wallet_address, prompt_text) VALUES (left($1, 42), $2) RETURNING id",
                f"0x{uuid.uuid4().hex}{uuid.uuid4().hex}",
                prompt,
            )
        values = {"author_id": author_id, **columns}
        names = ", ".join(values)
        places = ", ".join(f"${place}" for place in range(1, len(values) + 1))
        return await connection.fetchval(
            f"INSERT INTO tokens_s0 ({names}) VALUES ({places}) RETURNING token_id", *values.values()
        )

    return make


@pytest.fixture
def token_row(connection):
    """Read a token."""

    async def read(token_id):
        return await connection.fetchrow("SELECT * FROM tokens_s0 WHERE token_id = $1", token_id)

    return read


@pytest.fixture
async def connect_to():
    """Open clients of any database. They are closed at the end, because uvloop cannot close while one is open."""
    async with contextlib.AsyncExitStack() as opened:

        async def open_another(url):
            another = await asyncpg.connect(url)
            opened.push_async_callback(another.close)
            return another

        yield open_another


@pytest.fixture
def connect(connect_to, database):
    """Open further clients of the test's database."""
    return lambda: connect_to(database)


@pytest.fixture
async def open_session():
    opened = []

    def open_another(url, **given):
        opened.append(Session(url, name="test", **given))
        return opened[-1]

    yield open_another
    for session in opened:
        session.drop()


@pytest.fixture
async def table(connection):
    """The tokens table, as a worker discovers it."""
    return await find(connection.fetch, "tokens_s0")


@pytest.fixture
def ask(connection, table):
    """Run one of the worker's statements."""

    async def fetch(name, *arguments, on=connection):
        return await on.fetch(table.query(name), *unaccounted(name, arguments))

    return fetch


@pytest.fixture
def until_blocked(connect):
    """Wait until the given client waits for a lock."""

    async def wait(blocked):
        watch = await connect()
        await until(lambda: watch.fetchval("SELECT pg_blocking_pids($1)", blocked.get_server_pid()))

    return wait


@pytest.fixture
def reactor(database, monkeypatch, tmp_path, capsys):
    """Run a command on the test's database; return its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database)

    def run(*arguments):
        code = 0
        try:
            main(arguments)
        except SystemExit as stop:
            code = stop.code
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.fixture
def two_looks(monkeypatch):
    """Let workers look at the gate all the time. Wait until two looks have begun: then the first is reported."""
    state, begun = GateStore.state, []

    async def counted(gate):
        if begun:
            begun.pop().set()
        return await state(gate)

    monkeypatch.setattr(GateStore, "state", counted)

    async def two_looks():
        for _ in range(2):
            look = anyio.Event()
            begun.append(look)
            with anyio.fail_after(5):
                await look.wait()

    return two_looks
