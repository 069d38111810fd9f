"""A worker at a database that another version of the reactor has migrated."""

import json

import pytest
import wheels
from conftest import command
from doubles import DirectedProvider, is_late_renewal, running, until
from test_end_to_end import TOKEN, Lines
from test_end_to_end import reactor as program

from reactor.database.discovery import find
from reactor.database.table import HEAD, TableError
from reactor.migrations import revisions

pytestmark = pytest.mark.anyio

NEWER, NEWEST = f"{int(HEAD) + 1:04}", f"{int(HEAD) + 2:04}"
AT = "UPDATE reactor.alembic_version SET version_num = '{at}'"
TOO_NEW = (
    rf"^the database was migrated by a newer reactor \(at {NEWEST}\), which serves versions from {NEWER} on, and this"
    rf" one is {HEAD}: upgrade it$"
)
# What a newer version may leave of the gate.
COMPATIBLE = {
    "it serves this version": f"UPDATE reactor.intake SET serves_from = '{HEAD}'",
    "it serves older versions": "UPDATE reactor.intake SET serves_from = '0009'",
    "nothing says what it serves": "ALTER TABLE reactor.intake DROP COLUMN serves_from",
    "the gate has no row": "DELETE FROM reactor.intake",
}
INCOMPATIBLE = [AT.format(at=NEWEST), f"UPDATE reactor.intake SET serves_from = '{NEWER}'"]


@pytest.mark.parametrize("change", COMPATIBLE.values(), ids=COMPATIBLE)
async def test_a_newer_database_that_serves_this_version_is_worked_on(
    database, make_token, token_row, connection, change
):
    await connection.execute(f"{AT.format(at=NEWEST)}; {change}")
    async with running(database, DirectedProvider()) as (_, log):
        token_id = await make_token()
        await log.wait("token.generation.succeeded")

    assert (await token_row(token_id))["status"] == "uploading"


async def test_a_newer_database_that_does_not_serve_this_version_ends_the_worker_before_it_claims(
    database, make_token, token_row, connection
):
    token_id = await make_token()
    await connection.execute(";".join(INCOMPATIBLE))
    provider = DirectedProvider()

    with pytest.raises(ExceptionGroup) as ended:
        async with running(database, provider, connected=False) as (_, log):
            await log.wait("worker.started")

    assert ended.group_contains(TableError, match=TOO_NEW)
    assert provider.calls == []
    assert (await token_row(token_id))["generation_epoch"] == 0


async def test_a_newer_database_is_named_also_if_this_version_does_not_see_its_migration(connection):
    """A newer version may mark its tables in another way: `reactor migrate` of this version is no help then."""
    await connection.execute(";".join(INCOMPATIBLE))
    await connection.execute("COMMENT ON TABLE tokens_s0 IS NULL; DROP FUNCTION reactor.notify_inserted CASCADE")
    await connection.execute("DROP FUNCTION reactor.notify_updated CASCADE")

    with pytest.raises(TableError, match=TOO_NEW):
        await find(connection.fetch, "tokens_s0")


@pytest.mark.parametrize("words", [("status",), ("retry", "1")])
def test_a_command_says_that_the_database_is_too_new(database, reactor, words):
    command(database, *INCOMPATIBLE)

    code, out, err = reactor(*words)

    assert (code, out) == (1, "")
    assert err.startswith(f"Error: the database was migrated by a newer reactor (at {NEWEST}), which serves")
    assert err.count("\n") == 1


# Two versions side by side: the wheel of the commit before the tables' mapping and the history, and ours.

SLOW = {"token": TOKEN, "timing": {"queue": [0, 0.02], "run": [0.2, 0.3]}}


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """The wheel of an older version, unpacked."""
    return wheels.unpacked_wheel(tmp_path_factory.mktemp("old"), wheels.BEFORE)


@pytest.fixture(scope="module")
def sandbox():
    process = program("sandbox", "--port", "0", "--config", json.dumps(SLOW))
    yield process.stdout.readline().strip()
    process.terminate()
    process.communicate(timeout=10)


@pytest.fixture
def start():
    """Start workers of any version, each with two slots; kill them at the end."""
    started = []

    def start(version, database, provider, **given):
        values = {
            "DATABASE_URL": database,
            "REPLICATE_API_TOKEN": TOKEN,
            "REPLICATE_BASE_URL": provider,
            "FALLBACK_CENSORED_PROMPT": "a calm sea",
            "POLL_INTERVAL_SECONDS": "60",
            "WORKER_BATCH_SIZE": "2",
            "LEASE_SECONDS": "2",
            "HTTP_PORT": "0",
        }
        started.append(wheels.start(version, "run", **values, **given))
        return started[-1], Lines(started[-1])

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.timeout(180)  # it starts three programs
async def test_the_old_and_the_new_version_serve_one_table_while_it_is_migrated(
    empty_database, connect_to, old, start, sandbox
):
    wheels.complete(old, "migrate", DATABASE_URL=empty_database)
    connection = await connect_to(empty_database)
    await connection.execute("INSERT INTO authors (prompt_text) VALUES ('a red kite')")

    async def mint(count, prompt="a red kite"):
        author = await connection.fetchval("INSERT INTO authors (prompt_text) VALUES ($1) RETURNING id", prompt)
        await connection.execute(
            "INSERT INTO tokens_s0 (author_id) SELECT $1 FROM generate_series(1, $2)", author, count
        )

    async def all_done():
        unfinished = "SELECT count(*) = 0 FROM tokens_s0 WHERE status IN ('detected', 'generating')"
        await until(lambda: connection.fetchval(unfinished), seconds=60)

    of_old, old_lines = start(old, empty_database, sandbox)
    old_lines.until("listener.connected")
    await mint(4)
    await revisions.upgrade(empty_database)
    await mint(4)
    old_lines.until("token.generation.succeeded", times=8)
    _, new_lines = start(wheels.CHECKOUT, empty_database, sandbox)
    new_lines.until("listener.connected")
    await mint(20)
    await all_done()
    new_lines.until("token.generation.succeeded")
    old_lines.until("token.generation.succeeded", times=9)
    await mint(4, "a slow kite [sandbox: run=2]")
    key = old_lines.of("worker.started")[0]["worker"]
    held = "SELECT count(*) > 0 FROM tokens_s0 WHERE status = 'generating' AND generation_worker = $1"
    await until(lambda: connection.fetchval(held, key))
    of_old.kill()
    new_lines.until("token.generation.rescued")
    await all_done()

    rows = await connection.fetch("SELECT status, generation_error, generation_attempts, image_url FROM tokens_s0")
    assert {(row["status"], row["generation_error"], row["generation_attempts"]) for row in rows} == {
        ("uploading", None, 0)
    }
    assert len({row["image_url"] for row in rows}) == len(rows) == 32
    told = await connection.fetch("SELECT outcome, prediction_id FROM reactor.attempts")
    assert {row["outcome"] for row in told} == {"succeeded", "rescued"}
    assert 0 < len({row["prediction_id"] for row in told} - {None}) < 32  # an old worker tells nothing
    errors = old_lines.of("worker.error") + new_lines.of("worker.error")
    assert not [told for told in errors if not is_late_renewal(told)]


async def test_a_command_line_that_is_too_old_ends_with_a_line_before_it_claims(
    database, connection, make_token, start
):
    token_id = await make_token()
    await connection.execute(";".join(INCOMPATIBLE))

    process, _ = start(wheels.CHECKOUT, database, "http://127.0.0.1:1")
    out, err = process.communicate(timeout=20)

    assert (process.returncode, out) == (1, "")
    assert err == (
        f"Error: the database was migrated by a newer reactor (at {NEWEST}), which serves versions from {NEWER} on, and"
        f" this one is {HEAD}: upgrade it\n"
    )
    assert await connection.fetchval("SELECT generation_epoch FROM tokens_s0 WHERE token_id = $1", token_id) == 0
