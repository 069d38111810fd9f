"""`reactor doctor`: each fault is found, with what to do; what cannot be asked is unknown; nothing is changed."""

import json
from dataclasses import replace

import anyio
import asyncpg
import pytest
from anyio import to_thread
from catalogue import snapshot
from databases import on
from doubles import settings, until
from pooler import pooler
from strangers import stranger

from reactor.operations import server_checks, table_checks
from reactor.operations.doctor import examine
from reactor.operations.server_checks import Link
from reactor.operations.wake_check import wake
from reactor.sandbox import Sandbox

pytestmark = pytest.mark.anyio

NAMES = [
    "connection",
    "version",
    "encoding",
    "writable",
    "durability",
    "clock",
    "pooler",
    "prepared transactions",
    "notify queue",
    "notify lock",
    "old snapshots",
    "table",
    "privileges",
    "row security",
    "prompt",
    "revision",
    "drift",
    "triggers",
    "dead rows",
    "wake",
    "budget",
    "settings",
    "API token",
    "model",
]
OF_THE_PROVIDER = {"budget", "settings", "API token", "model"}  # unknown, unless a worker's settings are given


def of(report, name):
    (finding,) = [finding for finding in report.findings if finding.name == name]
    return finding


async def test_a_database_as_it_should_be_has_no_fault_and_is_not_changed(database, connection):
    before, rows = await snapshot(database), await connection.fetch("SELECT * FROM reactor.intake")

    report = await examine(settings(database))

    assert not report.failed
    assert [finding.name for finding in report.findings] == NAMES
    assert {finding.name for finding in report.findings if finding.state != "ok"} <= {
        "durability",  # the tests' server has synchronous_commit = off
        "prepared transactions",
        *OF_THE_PROVIDER,
    }
    assert await snapshot(database) == before
    assert await connection.fetch("SELECT * FROM reactor.intake") == rows


def test_the_mapping_stands_at_the_top_as_a_plan_prints_it_and_each_check_is_a_line(reactor):
    _, plan, _ = reactor("migrate", "--plan")
    code, told, err = reactor("doctor")

    mapping = plan.partition("\n\n")[0]
    lines = told.removeprefix(f"{mapping}\n\n").splitlines()
    assert (code, err) == (0, "")
    assert told.startswith(f"{mapping}\n\n")
    assert [line[:23].rstrip() for line in lines] == NAMES
    assert {line[23:32].rstrip() for line in lines[: -len(OF_THE_PROVIDER)]} <= {"ok", "warning"}
    assert {line[23:32].rstrip() for line in lines[-len(OF_THE_PROVIDER) :]} == {"unknown"}


def test_as_json_it_is_one_object(reactor):
    code, told, _ = reactor("doctor", "--json")

    said = json.loads(told)
    assert (code, said["ok"], said["mapping"]["table"]) == (0, True, "public.tokens_s0")
    assert [check["name"] for check in said["checks"]] == NAMES
    assert {*said["checks"][0]} == {"name", "state", "found", "todo"}


SET = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {}', current_database()); END $$"
FAULTS = {
    "disabled triggers": (
        "ALTER TABLE tokens_s0 DISABLE TRIGGER ALL",
        {"triggers": "failed", "drift": "failed"},
        "reactor_notify_inserted is disabled",
    ),
    "a dropped trigger": (
        "DROP TRIGGER reactor_notify_updated ON tokens_s0",
        {"triggers": "failed", "drift": "failed"},
        "no trigger calls reactor.notify_updated",
    ),
    "a trigger of another name": (
        """DROP TRIGGER reactor_notify_updated ON tokens_s0;
        CREATE TRIGGER reactor_notify_updated AFTER UPDATE ON tokens_s0
        REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
        FOR EACH STATEMENT EXECUTE FUNCTION reactor.notify_updated('a', 'b', 'id', 'token_id')""",
        {"triggers": "failed", "drift": "failed"},
        "rings other channels",
    ),
    "an older revision": (
        "UPDATE reactor.alembic_version SET version_num = '0001'",
        {"revision": "failed", "table": "failed", "drift": "failed", "privileges": "unknown"},
        "at 0001, not at",
    ),
    "a newer revision": (
        "UPDATE reactor.alembic_version SET version_num = '9999'",
        {"revision": "warning"},
        "a newer reactor has migrated",
    ),
    "a dropped index": (
        "DROP INDEX tokens_s0_generation_uploads",
        {"table": "failed", "drift": "failed"},
        "build index tokens_s0_generation_uploads",
    ),
    "a bad prompt": (
        "ALTER TABLE authors RENAME prompt_text TO words",
        {"table": "failed", "drift": "failed", "prompt": "unknown"},
        "has no prompt",
    ),
    "a read-only database": (
        SET.format("default_transaction_read_only = on"),
        {"writable": "failed"},
        "the database is read-only",
    ),
    "mints that a crash may lose": (
        SET.format("synchronous_commit = off"),
        {"durability": "warning"},
        "synchronous_commit = off",
    ),
}


@pytest.mark.parametrize(("change", "states", "words"), FAULTS.values(), ids=FAULTS)
async def test_a_fault_is_found_and_what_to_do_is_said(database, connection, change, states, words):
    await connection.execute(change)

    report = await examine(settings(database))

    assert {name: of(report, name).state for name in states} == states
    assert any(words in finding.found for finding in report.findings)
    assert all(finding.todo for finding in report.findings if finding.state in {"warning", "failed"})
    assert report.failed == ("failed" in states.values())


async def test_a_prompt_that_cannot_be_read_is_found(database):
    report = await examine(settings(database, prompt_sql="token.nonsense"))

    assert of(report, "prompt").state == "failed"
    assert "token.nonsense" in of(report, "prompt").found


async def test_before_the_migration_it_says_what_would_be_done_and_how_the_table_is_mapped(empty_database):
    report = await examine(settings(empty_database))

    assert report.failed
    assert of(report, "table").todo == "run: reactor migrate"
    assert of(report, "drift").state == "failed"
    assert dict(report.mapping)["table"] == "public.tokens_s0"
    assert of(report, "triggers").state == "unknown"


async def test_without_a_database_everything_else_is_unknown_and_no_password_is_shown(reactor, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody:hidden@127.0.0.1:1/nowhere")

    code, told, _ = await to_thread.run_sync(reactor, "doctor", "--json")

    states = {check["name"]: check["state"] for check in json.loads(told)["checks"]}
    assert code == 1
    assert states == dict.fromkeys(NAMES, "unknown") | {"connection": "failed"}
    assert "hidden" not in told


async def test_both_connections_are_looked_at(database):
    report = await examine(settings(database, listen_database_url="postgresql://nobody@127.0.0.1:1/nowhere"))

    assert of(report, "connection").state == "ok"
    assert of(report, "listen connection").state == "failed"
    assert (of(report, "pooler").state, of(report, "wake").state, of(report, "drift").state) == ("unknown",) * 3
    assert of(report, "triggers").state == "ok"


async def test_a_pooler_in_between_is_found(database):
    async with pooler(database) as pooled:
        alone = await examine(settings(pooled))
        beside = await examine(settings(pooled, listen_database_url=database))
        wrong = await examine(settings(database, listen_database_url=pooled))

    assert [of(report, "pooler").state for report in (alone, beside, wrong)] == ["failed", "ok", "failed"]
    assert of(alone, "table").state == "ok"


async def test_a_wake_that_does_not_arrive_is_found(database, server_url, open_session):
    session, listening = open_session(database), await asyncpg.connect(on(server_url, "postgres"))
    finding = await wake(listening, session, "LISTEN_DATABASE_URL", within=0.1)
    await listening.close()

    assert finding.state == "failed"
    assert "did not arrive" in finding.found


async def test_what_this_role_may_not_ask_is_unknown(database, connection):
    held = connection.transaction()
    await held.start()
    await connection.execute("SELECT 1")
    async with stranger(database, "GRANT USAGE ON SCHEMA reactor TO {role}") as url:
        report = await examine(settings(url))
    await held.rollback()

    unknown = {finding.name for finding in report.findings if finding.state == "unknown"}
    assert {"old snapshots", "revision", "drift", "prompt"} <= unknown
    assert of(report, "privileges").state == "failed"


async def test_an_old_transaction_is_found_with_its_session(connection, connect):
    other = await connect()
    async with other.transaction():
        await other.execute("SELECT 1")
        found = await server_checks.snapshots(connection.fetch, old=-1.0)
    ended = await server_checks.snapshots(connection.fetch)

    assert (found.state, ended.state) == ("warning", "ok")
    assert f"pg_terminate_backend({other.get_server_pid()})" in found.todo


async def test_a_prepared_transaction_is_found_and_so_is_that_there_may_be_one(connection):
    if await connection.fetchval("SHOW max_prepared_transactions") == "0":
        pytest.skip("the server allows no prepared transactions")
    possible = await server_checks.prepared(connection.fetch)
    await connection.execute("BEGIN; INSERT INTO authors DEFAULT VALUES; PREPARE TRANSACTION 'left over'")
    young = await server_checks.prepared(connection.fetch)
    old = await server_checks.prepared(connection.fetch, old=-1.0)
    await connection.execute("ROLLBACK PREPARED 'left over'")
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET reactor.silent = 'on'")
    silenced = await server_checks.prepared(connection.fetch)

    assert [each.state for each in (possible, young, old, silenced)] == ["warning", "warning", "failed", "ok"]
    assert "reactor.silent" in possible.todo
    assert "ROLLBACK PREPARED 'left over'" in old.todo


async def test_a_queue_that_fills_up_is_found(connection):
    nearly = await server_checks.notify_queue(connection.fetch, nearly_full=-1.0)
    full = await server_checks.notify_queue(connection.fetch, nearly_full=-1.0, full=-1.0)

    assert (nearly.state, full.state) == ("warning", "failed")
    assert "the triggers are silent" in full.found


SOUND = Link(
    url="DATABASE_URL",
    pid=7,
    took=0.01,
    facts={
        "pid": 7,
        "role": "worker",
        "database": "minted",
        "version": 160003,
        "encoding": "UTF8",
        "in_recovery": False,
        "read_only": False,
        "synchronous_commit": "on",
        "may_migrate": False,
        "now": 0.0,
    },
    offset=0.001,
    precision=0.002,
)


def but(**facts):
    return replace(SOUND, facts=SOUND.facts | facts)


ABOUT_THE_SERVER = [
    (server_checks.version, SOUND, "ok"),
    (server_checks.version, but(version=130014), "failed"),
    (server_checks.version, but(version=140000), "ok"),
    (server_checks.version, but(version=189999), "ok"),
    (server_checks.version, but(version=190000), "warning"),
    (server_checks.encoding, SOUND, "ok"),
    (server_checks.encoding, but(encoding="LATIN1"), "warning"),
    (server_checks.writable, SOUND, "ok"),
    (server_checks.writable, but(in_recovery=True, read_only=True), "failed"),
    (server_checks.durable, SOUND, "ok"),
    (server_checks.durable, but(synchronous_commit="remote_apply"), "ok"),
    (server_checks.clock, SOUND, "ok"),
    (server_checks.clock, replace(SOUND, offset=-3.0), "warning"),
    (server_checks.clock, replace(SOUND, offset=3.0, precision=2.0), "ok"),
]


@pytest.mark.parametrize(("check", "link", "state"), ABOUT_THE_SERVER)
def test_each_fact_about_the_server_is_judged(check, link, state):
    finding = check(link)

    assert finding.state == state
    assert (finding.todo is None) == (state == "ok")


async def test_dead_rows_that_slow_claims_down_are_found(connection, database, open_session, table):
    await connection.execute("INSERT INTO tokens_s0 (author_id) SELECT NULL FROM generate_series(1, 100)")
    await connection.execute("UPDATE tokens_s0 SET status = 'ready'")
    await connection.execute("SELECT pg_stat_force_next_flush()")
    session = open_session(database)

    few = await table_checks.dead_rows(session, table)
    many = await table_checks.dead_rows(session, table, many=50)

    assert (few.state, many.state) == ("ok", "warning")
    assert "VACUUM" in many.todo


async def test_commits_that_wait_for_the_lock_of_notify_are_found(connection, connect):
    """A standby that never answers keeps a commit, and with it the lock."""
    holder, waiting, over = await connect(), await connect(), anyio.Event()

    async def commit_until_one_waits():
        """A commit waits once the server's checkpointer has read the new settings, which no client can see."""
        while not over.is_set():
            await holder.execute("INSERT INTO authors DEFAULT VALUES; NOTIFY something")

    def waits_for(event, process):
        return until(lambda: connection.fetchval(WAITS_FOR, process.get_server_pid(), event))

    calm = await server_checks.notify_waits(connection.fetch, looks=1, pause=0.0)
    await connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    try:
        await connection.execute("SELECT pg_reload_conf()")
        await holder.execute("SET synchronous_commit = on")
        async with anyio.create_task_group() as group:
            group.start_soon(commit_until_one_waits)
            await waits_for("SyncRep", holder)  # an ordinary commit has the lock too, but not for long
            group.start_soon(waiting.execute, "NOTIFY something")
            await waits_for("object", waiting)
            found = await server_checks.notify_waits(connection.fetch, looks=3, pause=0.0)
            over.set()
            await connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
            await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
        await connection.execute("SELECT pg_reload_conf()")

    assert (calm.state, found.state) == ("ok", "warning")
    assert f"process {holder.get_server_pid()} holds" in found.found


WAITS_FOR = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = $2)"


# The provider.


SDXL = "stability-ai/sdxl"  # a model that the sandbox describes


async def of_provider(database, sandbox_url, **given):
    worker = settings(database, **{"replicate_model_version": SDXL, "replicate_base_url": sandbox_url} | given)
    report = await examine(worker, worker)
    return {name: of(report, name) for name in OF_THE_PROVIDER}


async def test_an_accepted_token_and_a_model_with_a_seed_are_well(database):
    async with Sandbox().serve() as url:
        found = await of_provider(database, url)

    assert {name: finding.state for name, finding in found.items()} == dict.fromkeys(OF_THE_PROVIDER, "ok")
    assert "'prompt' and 'seed'" in found["model"].found


WRONG = {
    "a model that is not there": ({"replicate_model_version": "acme/missing"}, "failed", "knows no model"),
    "a seed input that is not there": ({"replicate_seed_input": "noise"}, "failed", "has no input 'noise'"),
    "no seed input": ({"replicate_seed_input": ""}, "warning", "may be paid twice"),
    "an input that is not there": ({"replicate_model_input": {"mood": "blue"}}, "warning", "has no input 'mood'"),
    "a version id alone": ({"replicate_model_version": "a" * 64}, "unknown", "does not say which inputs"),
    "a model without a version": ({"replicate_model_version": "acme/fox"}, "unknown", "does not say which inputs"),
}


@pytest.mark.parametrize(("given", "state", "words"), WRONG.values(), ids=WRONG)
async def test_a_model_that_does_not_fit_is_found(database, given, state, words):
    async with Sandbox().serve() as url:
        finding = (await of_provider(database, url, **given))["model"]

    assert (finding.state, words in finding.found) == (state, True), finding
    assert (finding.todo is None) == (state == "unknown")


async def test_a_token_that_is_refused_is_found(database):
    async with Sandbox(token="another").serve() as url:
        found = await of_provider(database, url)

    assert found["API token"].state == "failed"
    assert "REPLICATE_API_TOKEN" in found["API token"].todo


async def test_a_provider_that_is_away_leaves_it_unknown(database):
    found = await of_provider(database, "http://127.0.0.1:1")

    assert [found[name].state for name in ("settings", "API token", "model")] == ["ok", "unknown", "unknown"]


def test_settings_with_which_no_worker_starts_are_found(reactor, monkeypatch):
    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_x")
    monkeypatch.setenv("MAX_ATTEMPTS", "0")

    code, told, _ = reactor("doctor", "--json")

    (finding,) = [check for check in json.loads(told)["checks"] if check["name"] == "settings"]
    assert (code, finding["state"]) == (1, "failed")
    assert "FALLBACK_CENSORED_PROMPT: is required" in finding["found"]
    assert "MAX_ATTEMPTS: " in finding["found"]


@pytest.mark.parametrize(("bought", "day", "state"), [(0, 0, "ok"), (89, 0, "ok"), (90, 0, "warning"), (90, -1, "ok")])
async def test_a_budget_that_is_nearly_used_is_found(database, connection, bought, day, state):
    today = "(now() AT TIME ZONE 'UTC')::date"
    await connection.execute(f"UPDATE reactor.intake SET budget_day = {today} + {day}, budget_bought = {bought}")

    found = (await of_provider(database, "http://127.0.0.1:1", daily_budget=100))["budget"]

    assert found.state == state
    assert found.found.startswith(f"{bought if day == 0 else 0} of 100 creates today")
