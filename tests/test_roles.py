"""A worker's role needs the privileges of one list: these and no more. It says which one it lacks, and `doctor` too."""

import json
import uuid
from contextlib import suppress
from dataclasses import replace
from functools import partial

import anyio
import asyncpg
import pytest
from anyio import to_thread
from databases import EMPTY
from doubles import Barrier, DirectedProvider, Log, running, settings, until
from roles import KINDS, drop_roles, make_roles, run_script

from reactor import telemetry
from reactor.application import run
from reactor.database.discovery import find
from reactor.database.privileges import WRITTEN
from reactor.database.rights import look_at_rights, needed
from reactor.database.shape import OURS
from reactor.engine.timings import Timings
from reactor.errors import ContentPolicyError, PermanentError, RateLimitedError, TransientError, UnauthorizedError
from reactor.migrations import revisions
from reactor.operations import server_checks
from reactor.operations.doctor import examine

pytestmark = pytest.mark.anyio

SOON = Timings(
    rights_apart=0.01, check_every=0.05, probe_every=0.2, rescue_every=0.05, longest_reconnect=0.2, breaker_pause=0.2
)
OFTEN = replace(SOON, rights_every=0.05)
# Where one worker loses one right after the other: what it says of the one is said before the next is taken away.
AT_ONCE = replace(SOON, rights_apart=0.001, longest_spin=0.05)
# Every statement that a worker runs about tokens, gate and wake.
ABOUT_TOKENS = ("claim", "look", "abandoned", "rescue", "next_due", "renew", "record", "censor", "settle", "unfinished")
ABOUT_THE_GATE = ("gate_state", "pause_gate", "limit_gate", "refuse_gate", "prove_gate", "open_gate")
ABOUT_THE_WAKE = ("half_open_gate", "watch", "leave", "own_watch", "liveness", "ring", "under_way", "gauges", "crowded")
ABOUT_THE_HISTORY = ("prune_history",)
STATEMENTS = (*ABOUT_TOKENS, *ABOUT_THE_GATE, *ABOUT_THE_WAKE, *ABOUT_THE_HISTORY, "path")


@pytest.fixture(scope="module")
def names(server_url):
    given = {kind: f"tests_{kind}_{uuid.uuid4().hex[:12]}" for kind in KINDS}
    yield given
    anyio.run(drop_roles, server_url, [given[kind] for kind in ("migrator", "worker", "reader", "owner")])


@pytest.fixture
async def urls(database, names):
    """The URL of each role in the test's database."""
    return await make_roles(database, names)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    """Let `doctor` look at the lock of NOTIFY without pauses, because no test here holds that lock."""
    monkeypatch.setattr(server_checks, "notify_waits", partial(server_checks.notify_waits, pause=0.0))


@pytest.fixture
async def as_worker(urls, connect_to):
    return await connect_to(urls["worker"])


def on(privilege):
    """The privilege and its object, as GRANT and REVOKE name them."""
    if privilege.object is None:
        return f'USAGE ON SCHEMA "{privilege.schema}"'
    if privilege.object == "attempts":
        return f"{privilege.name} ON reactor.attempts"
    if privilege.column is None:
        return f"EXECUTE ON FUNCTION pg_catalog.{privilege.object}"
    return f'{privilege.name} ("{privilege.column}") ON "{privilege.schema}"."{privilege.object}"'


def words(privilege, role):
    """How the missing privilege is told."""
    column = f" ({privilege.column})" if privilege.column else ""
    place = f"{privilege.schema}.{privilege.object}"
    if privilege.column is None and privilege.object != "attempts":
        place = f"FUNCTION {place}" if privilege.object else f"SCHEMA {privilege.schema}"
    return f"GRANT {privilege.name}{column} ON {place} TO {role}"


async def only_by_name(connection, role):
    """Make each privilege of the worker one that can be taken away by itself."""
    for function in ("pg_notify(text, text)", "pg_notification_queue_usage()"):
        await connection.execute(
            f"REVOKE EXECUTE ON FUNCTION pg_catalog.{function} FROM PUBLIC;"
            f"GRANT EXECUTE ON FUNCTION pg_catalog.{function} TO {role}"
        )
    table = await find(connection.fetch, "tokens_s0")
    await connection.execute(f"REVOKE SELECT ON reactor.intake FROM {role}")
    for privilege in needed(table):
        if privilege.object == "intake":
            await connection.execute(f"GRANT {on(privilege)} TO {role}")
    return table


async def first_denied(connection, table):
    """The first statement that the server would not run for this connection's role. A claim is the first of all."""
    for name in STATEMENTS:
        try:
            await connection.fetch(f"EXPLAIN {table.query(name)}", *[None] * PARAMETERS[name])
        except asyncpg.InsufficientPrivilegeError:
            return name
    return None


PARAMETERS = {}  # of each statement, their number


@pytest.fixture
async def table(connection, names, urls):
    table = await only_by_name(connection, names["worker"])
    for name in STATEMENTS:
        PARAMETERS[name] = len((await connection.prepare(table.query(name))).get_parameters())
    return table


def test_the_columns_that_a_worker_writes_are_ours_and_the_status():
    assert {*WRITTEN} == {"status", *OURS}


async def test_with_the_privileges_of_the_list_no_statement_is_denied(as_worker, table):
    assert await first_denied(as_worker, table) is None


async def test_without_any_of_them_a_statement_is_denied_and_so_is_every_claim(connection, as_worker, table, names):
    wrong = []
    for privilege in needed(table):
        await connection.execute(f"REVOKE {on(privilege)} FROM {names['worker']}")
        statement = await first_denied(as_worker, table)
        if statement is None or (statement == "claim") == privilege.later:
            wrong.append((privilege, statement))
        await connection.execute(f"GRANT {on(privilege)} TO {names['worker']}")

    assert wrong == []


def of(kind):
    """Which of the needed privileges one test takes away, because all at once would take too long."""
    return {
        "schemas and functions": lambda privilege: privilege.column is None,
        "what is read of tokens": lambda privilege: (privilege.object, privilege.name) == ("tokens_s0", "SELECT"),
        "what is written of tokens": lambda privilege: (privilege.object, privilege.name) == ("tokens_s0", "UPDATE"),
        "authors": lambda privilege: privilege.object == "authors",
        "the gate": lambda privilege: privilege.object == "intake",
    }[kind]


TAKEN = ("schemas and functions", "what is read of tokens", "what is written of tokens", "authors", "the gate")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", TAKEN)
async def test_a_grant_taken_away_is_named_stops_claims_and_costs_no_attempt(
    connection, table, names, urls, make_token, token_row, monkeypatch, kind
):
    monkeypatch.setattr(telemetry, "REPEATS_EVERY", 0.0)  # one worker tells of each
    async with running(urls["worker"], DirectedProvider(), timings=AT_ONCE) as (_, log):
        for privilege in filter(of(kind), needed(table)):
            before, of_rights = len(log.errors()), len(log.of("worker.error", role="rights"))
            await connection.execute(f"REVOKE {on(privilege)} FROM {names['worker']}")
            token_id = await make_token()

            error = await log.wait("worker.error", role="rights", times=of_rights + 1)
            report = await examine(settings(urls["worker"]))
            row = await token_row(token_id)
            errors = log.errors()[before:]  # a statement that was denied just before the GRANT may be told after it
            await connection.execute(f"GRANT {on(privilege)} TO {names['worker']}")
            await log.wait("token.generation.succeeded", token_id=token_id)

            told = words(privilege, names["worker"])
            (finding,) = [finding for finding in report.findings if finding.name == "privileges"]
            assert error["error_message"] == f"role {names['worker']} lacks privileges: {told}"
            assert (finding.state, finding.todo) == ("failed", told)
            assert (row["status"], row["generation_attempts"], row["generation_epoch"]) == ("detected", 0, 0)
            assert errors == [error]
            assert (await token_row(token_id))["generation_attempts"] == 0


@pytest.mark.parametrize(
    "grant",
    ["UPDATE (image_url) ON public.tokens_s0", "SELECT (prompt_text) ON public.authors", "USAGE ON SCHEMA reactor"],
)
async def test_a_worker_that_starts_without_a_grant_waits_for_it(connection, table, names, urls, make_token, grant):
    await connection.execute(f"REVOKE {grant} FROM {names['worker']}")
    await make_token()
    async with running(urls["worker"], DirectedProvider(), timings=SOON, connected=False) as (_, log):
        error = await log.wait("worker.error")
        await connection.execute(f"GRANT {grant} TO {names['worker']}")
        await log.wait("token.generation.succeeded")

    assert error["error_type"] == "RightsError"
    assert f"GRANT {grant} TO {names['worker']}" in error["error_message"]


async def test_a_result_that_may_not_be_written_is_kept_until_it_may(
    connection, table, names, urls, make_token, token_row
):
    provider, held = DirectedProvider(), Barrier()
    provider.script["wait"] = [held]
    async with running(urls["worker"], provider, timings=SOON) as (_, log):
        token_id = await make_token()
        await held.entered()
        await connection.execute(f"REVOKE UPDATE (image_url) ON tokens_s0 FROM {names['worker']}")
        held.open()
        await log.wait("worker.error", role="rights")
        await connection.execute(f"GRANT UPDATE (image_url) ON tokens_s0 TO {names['worker']}")
        await log.wait("token.generation.succeeded")

    row = await token_row(token_id)
    assert (row["status"], row["generation_attempts"]) == ("uploading", 0)
    assert len(provider.asked("create")) == 1


async def test_the_workers_role_may_not_make_the_gates_row_and_says_who_may(connection, urls, make_token, token_row):
    await connection.execute("DELETE FROM reactor.intake")
    token_id = await make_token()
    given = {"timings": SOON, "poll_interval_seconds": 0.2}
    async with running(urls["worker"], DirectedProvider(), **given) as (_, log):
        error = await log.wait("worker.error", role="intake")
        await revisions.upgrade(urls["migrator"])
        await log.wait("token.generation.succeeded")

    assert error["error_message"].endswith("run: reactor migrate")

    assert (await token_row(token_id))["generation_attempts"] == 0


async def test_what_is_denied_though_no_privilege_of_the_list_is_missing_is_told_in_the_servers_words(
    connection, urls, make_token
):
    async with running(urls["worker"], DirectedProvider(), timings=SOON) as (_, log):
        await connection.execute("REVOKE EXECUTE ON FUNCTION pg_catalog.clock_timestamp() FROM PUBLIC")
        await make_token()
        error = await log.wait("worker.error", role="rights")
        await connection.execute("GRANT EXECUTE ON FUNCTION pg_catalog.clock_timestamp() TO PUBLIC")
        await log.wait("token.generation.succeeded")

    assert error["error_message"].endswith("permission denied for function clock_timestamp")
    assert len(log.errors()) == 1


@pytest.mark.parametrize("begun", [True, False], ids=["at work", "at the start"])
async def test_row_security_that_hides_everything_is_a_fault(
    connection, names, urls, ask, as_worker, make_token, token_row, begun
):
    for table in ("tokens_s0", "reactor.intake", "reactor.attempts", "authors"):
        enable = f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"
        if not begun:
            await connection.execute(enable)
        async with running(urls["worker"], DirectedProvider(), timings=OFTEN, connected=begun) as (_, log):
            if begun:
                await connection.execute(enable)
            token_id = await make_token()
            error = await log.wait("worker.error", error_type="RightsError")
            assert await ask("claim", 0.0, 10, 1, 60.0, on=as_worker) == []  # nor can the worker claim it later
            row = await token_row(token_id)
            report = await examine(settings(urls["worker"]))
            await connection.execute(f"CREATE POLICY reactor ON {table} TO {names['worker']} USING (true)")
            await log.wait("token.generation.succeeded", token_id=token_id)

        place = table if "." in table else f"public.{table}"
        policy = f"CREATE POLICY reactor ON {place} TO {names['worker']} USING (true)"
        hides = f"row security hides every row of {place} from role {names['worker']}"
        assert error["error_message"] == f"{hides}: {policy}"
        assert (row["status"], row["generation_attempts"]) == ("detected", 0)
        assert [(each.state, each.found, each.todo) for each in report.findings if each.name == "row security"] == [
            ("failed", hides, policy)
        ]
        await connection.execute(f"DROP POLICY reactor ON {table}; ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")


async def test_row_security_that_may_hide_some_tokens_is_said_once_before_a_drain_ends(
    connection, names, urls, make_token, token_row
):
    hidden, shown = await make_token(), await make_token()
    await connection.execute(
        "ALTER TABLE tokens_s0 ENABLE ROW LEVEL SECURITY;"
        f"CREATE POLICY shown ON tokens_s0 TO {names['worker']} USING (token_id = {shown})"
    )
    log = Log()
    with anyio.fail_after(20):
        await run(settings(urls["worker"], max_attempts=1), drain=True, log=log, timings=Timings(drain_every=0.01))

    (told,) = log.of("worker.restricted")
    assert "public.tokens_s0" in told["error_message"]
    assert names["worker"] in told["error_message"]
    assert (await token_row(hidden))["status"] == "detected"
    assert (await token_row(shown))["status"] != "detected"


async def test_a_drain_does_not_end_because_everything_is_hidden(connection, urls, make_token):
    await make_token(status="generating", generation_worker=7, generation_epoch=1)
    await connection.execute("UPDATE tokens_s0 SET generation_lease_ends_at = now() + interval '1 hour'")
    log, often = Log(), Timings(drain_every=0.01)
    async with anyio.create_task_group() as group:
        group.start_soon(partial(run, settings(urls["worker"], lease_seconds=3600), drain=True, log=log, timings=often))
        await log.wait("listener.connected")
        await connection.execute("ALTER TABLE tokens_s0 ENABLE ROW LEVEL SECURITY")
        await log.wait("worker.error", error_type="RightsError")
        ended = log.of("worker.stopping")
        group.cancel_scope.cancel()

    assert not ended


@pytest.mark.parametrize(("policy", "state"), [("", "failed"), ("USING (token_id > 1)", "warning")])
async def test_status_and_doctor_say_what_row_security_hides(
    connection, names, urls, reactor, monkeypatch, policy, state
):
    await connection.execute("ALTER TABLE tokens_s0 ENABLE ROW LEVEL SECURITY")
    if policy:
        await connection.execute(f"CREATE POLICY shown ON tokens_s0 TO {names['worker']} {policy}")
    monkeypatch.setenv("DATABASE_URL", urls["worker"])

    _, lines, _ = await to_thread.run_sync(reactor, "status")
    _, told, _ = await to_thread.run_sync(reactor, "status", "--json")
    code, checked, _ = await to_thread.run_sync(reactor, "doctor", "--json")

    says = json.loads(told)["row_security"]
    (finding,) = [each for each in json.loads(checked)["checks"] if each["name"] == "row security"]
    assert f"hidden      {says}\n" in lines
    assert (finding["state"], finding["found"], code) == (state, says, int(state == "failed"))


ENDS = {
    "an image": ([], [], "uploading", 0),
    "a retry": ([TransientError("no")], [], "uploading", 1),
    "a rate limit": ([RateLimitedError("slow down", retry_after=0.05)], [], "uploading", 0),
    "a refused prompt": ([], [ContentPolicyError("no")], "uploading", 1),
    "a bad input": ([PermanentError("no")], [], "failed", 0),
    "a refused API token": ([UnauthorizedError("no")], [], "failed", 0),
}


@pytest.mark.parametrize(("create", "wait", "status", "attempts"), ENDS.values(), ids=ENDS)
async def test_each_end_of_an_attempt_is_written_by_the_workers_role(
    urls, make_token, token_row, create, wait, status, attempts
):
    provider = DirectedProvider()
    provider.script |= {"create": create, "wait": wait}
    async with running(urls["worker"], provider, timings=SOON) as (_, log):
        token_id = await make_token()
        await until(lambda: ended(token_row, token_id, status))

    assert (await token_row(token_id))["generation_attempts"] == attempts
    assert not log.errors()


async def ended(token_row, token_id, status):
    return (await token_row(token_id))["status"] == status


async def test_the_workers_role_rescues_releases_and_closes_the_gate(connection, urls, make_token, token_row):
    abandoned = await make_token(status="generating", generation_worker=7, generation_epoch=1, generation_seed=1)
    await connection.execute(
        "UPDATE tokens_s0 SET generation_lease_ends_at = '2000-01-01', generation_seeded_at = now()"
    )
    provider, held = DirectedProvider(), Barrier()
    given = {"timings": replace(SOON, sure_after=0.1, listing_every=0.05), "breaker_threshold": 1, "idle": False}
    async with running(urls["worker"], provider, **given) as (_, log):
        await log.wait("token.generation.rescued")
        await log.wait("token.generation.succeeded")
        provider.script["create"] = [TransientError("no"), None]
        await make_token()
        await log.wait("intake.paused")
        await log.wait("intake.resumed")
        await log.wait("token.generation.succeeded", times=2)
        provider.script["wait"] = [held]
        released = await make_token()
        await held.entered()

    assert (await token_row(abandoned))["status"] == "uploading"
    assert (await token_row(released))["status"] == "detected"
    assert not log.errors()


COMMANDS = {
    "worker": [
        "status",
        "status --json",
        "show 1",
        "retry 1",
        "retry --failed",
        "retry --expired",
        "pause",
        "resume",
        "doctor",
    ],
    "reader": ["status", "status --json", "show 1", "doctor", "doctor --json"],
    "migrator": ["migrate", "migrate --plan", "status", "doctor", "mint"],
}


@pytest.mark.parametrize("kind", COMMANDS)
async def test_each_role_may_run_its_commands(connection, urls, make_token, monkeypatch, reactor, kind):
    monkeypatch.setenv("DATABASE_URL", urls[kind])
    ends = {}
    for command in COMMANDS[kind]:
        await connection.execute(EMPTY)
        token_id = await make_token(status="failed", generation_error="no")

        code, _, err = await to_thread.run_sync(reactor, *command.replace("1", str(token_id)).split())
        ends[command] = code, err

    assert ends == dict.fromkeys(COMMANDS[kind], (0, ""))


MAY_NOT = {
    "worker": [
        "INSERT INTO tokens_s0 DEFAULT VALUES",
        "DELETE FROM tokens_s0",
        "UPDATE tokens_s0 SET mint_timestamp = now()",
        "UPDATE authors SET prompt_text = 'x'",
        "SELECT wallet_address FROM authors",
        "UPDATE reactor.intake SET serves_from = 'x'",
        "DELETE FROM reactor.intake",
        "DELETE FROM reactor.alembic_version",
        "UPDATE reactor.attempts SET cost = 0",
        "TRUNCATE reactor.attempts",
        "CREATE TABLE reactor.x ()",
        "CREATE TABLE public.x ()",
    ],
    "reader": [
        "UPDATE tokens_s0 SET status = 'failed'",
        "UPDATE reactor.intake SET reason = 'x'",
        "DELETE FROM reactor.attempts",
    ],
}


@pytest.mark.parametrize("kind", MAY_NOT)
async def test_no_role_may_do_more(urls, connect_to, kind):
    connection, denied = await connect_to(urls[kind]), []

    for statement in MAY_NOT[kind]:
        with suppress(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
            continue
        denied.append(statement)

    assert denied == MAY_NOT[kind]


async def test_the_script_grants_a_traceparent_that_a_host_has_added(database, connection, names, connect_to):
    await connection.execute("ALTER TABLE tokens_s0 ADD COLUMN traceparent text")
    urls = await make_roles(database, names)

    for_worker = await connect_to(urls["worker"])
    assert not (await look_at_rights(for_worker.fetch, await find(connection.fetch, "tokens_s0"))).grants
    await connection.execute(f"REVOKE SELECT (traceparent) ON tokens_s0 FROM {names['worker']}")
    (grant,) = (await look_at_rights(for_worker.fetch, await find(connection.fetch, "tokens_s0"))).grants
    assert grant == f"GRANT SELECT (traceparent) ON public.tokens_s0 TO {names['worker']}"


async def test_a_traceparent_that_the_role_may_not_read_is_left_alone(database, connection, urls, connect_to):
    await connection.execute("ALTER TABLE tokens_s0 ADD COLUMN traceparent text")
    for_worker = await connect_to(urls["worker"])

    assert (await find(connection.fetch, "tokens_s0")).trace
    assert (await find(for_worker.fetch, "tokens_s0")).trace is None


async def test_roles_may_be_made_before_the_tables_and_the_script_run_again(empty_database, names, connect_to):
    first = run_script(empty_database, names)
    urls = await make_roles(empty_database, names)
    await revisions.upgrade(urls["migrator"])
    await make_roles(empty_database, names)
    connection = await connect_to(urls["worker"])

    assert "Next: reactor migrate" in first
    assert (
        await connection.fetchval("SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'tokens_s0'")
    ) == (names["owner"])
    async with running(urls["worker"], DirectedProvider(), timings=SOON) as (_, log):
        migrator = await connect_to(urls["migrator"])
        await migrator.execute("INSERT INTO authors (prompt_text) VALUES ('x')")
        await migrator.execute("INSERT INTO tokens_s0 (author_id) SELECT id FROM authors")
        await log.wait("token.generation.succeeded")
