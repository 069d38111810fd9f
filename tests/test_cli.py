import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from importlib.metadata import version
from urllib.parse import urlsplit

import asyncpg
import click
import pytest
from conftest import command
from doubles import NO_GATE, until
from hosts import INDEXES_AGAIN, NO_INDEX, host

from reactor.cli.failures import with_database
from reactor.database.timings import ConnectionTimings
from reactor.migrations import revisions
from reactor.migrations.migration_lock import MigrationError, Patience
from reactor.operations.tokens import STEP
from reactor.settings import DatabaseSettings


def test_help_and_version_need_no_environment(reactor, monkeypatch):
    monkeypatch.delenv("DATABASE_URL")

    code, out, _ = reactor("--help")
    assert code == 0
    for name in ("run", "migrate", "demo", "sandbox", "mint", "status", "show", "retry", "pause", "resume"):
        assert re.search(rf"^  {name} ", out, re.MULTILINE)
    assert reactor("--version") == (0, f"reactor, version {version('mint-reactor')}\n", "")


def test_a_terminal_with_another_alphabet_gets_a_question_mark():
    program = "from reactor.cli.output import output, say\nwith output(): say('a fox…')"
    environment = os.environ | {"PYTHONIOENCODING": "iso-8859-1"}

    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)

    assert done.stdout == b"a fox?\n"


def test_missing_settings_are_a_line_each_and_exit_code_2(reactor, monkeypatch):
    for name in ("DATABASE_URL", "REPLICATE_API_TOKEN", "FALLBACK_CENSORED_PROMPT"):
        monkeypatch.delenv(name, raising=False)

    code, out, err = reactor("run")

    assert (code, out) == (2, "")
    assert [line.split(":")[0] for line in err.splitlines()] == [
        "DATABASE_URL",
        "REPLICATE_API_TOKEN",
        "FALLBACK_CENSORED_PROMPT",
    ]


def test_an_unknown_command_is_a_usage_error(reactor):
    code, _, err = reactor("explode")

    assert code == 2
    assert "No such command 'explode'" in err


@pytest.mark.parametrize("when", ["infinity", "-infinity", "20000-01-01", "4000-01-01 BC"])
def test_a_token_with_times_that_no_clock_tells_is_shown(reactor, database, when):
    command(
        database,
        f"INSERT INTO tokens_s0 (status, mint_timestamp, generation_due_at, generation_lease_ends_at)"
        f" VALUES ('ready', '{when}', '{when}', '{when}')",
    )

    code, out, err = reactor("show", "1")

    assert (code, err) == (0, "")
    assert {"minted_at", "due_at", "lease_ends_at"} <= {line.partition(" ")[0] for line in out.splitlines()}


def test_minted_tokens_are_counted_and_shown(reactor):
    code, out, _ = reactor("mint", "3", "--prompt", "a private wish")
    assert code == 0
    first, *_ = ids = out.split()
    assert len(ids) == 3

    code, out, _ = reactor("status", "--json")
    state = json.loads(out)
    assert state["tokens"] == {
        "detected": 3,
        "generating": 0,
        "uploading": 0,
        "ready": 0,
        "revealed": 0,
        "failed": 0,
    }
    assert state["intake"]["paused"] is False
    assert (state["workers"], state["listening"]) == (0, 0)

    code, out, _ = reactor("show", first)
    assert code == 0
    assert re.search(r"^status +detected$", out, re.MULTILINE)
    assert re.search(r"^prompt_characters +14$", out, re.MULTILINE)
    assert "private" not in out


def test_status_is_read_by_people_too(reactor, database):
    reactor("mint", "2")

    code, out, _ = reactor("status")

    assert code == 0
    assert out.startswith("No worker runs, and 2 tokens wait. Start one: `reactor run`.\n\n")
    assert re.search(r"^detected +2  the oldest has waited for \d+ s$", out, re.MULTILINE)
    assert re.search(r"^gate +open$", out, re.MULTILINE)
    assert re.search(r"^next due +now$", out, re.MULTILINE)
    assert "triggers" not in out


def test_status_counts_what_others_call_a_status_apart(reactor, database):
    command(database, "ALTER TABLE tokens_s0 DROP CONSTRAINT tokens_s0_status_check")
    command(database, "INSERT INTO tokens_s0 (status) VALUES ('failed'), ('minted'), ('burnt')")

    assert re.search(r"^failed +1\nother +2$", reactor("status")[1], re.MULTILINE)
    assert json.loads(reactor("status", "--json")[1])["tokens"]["other"] == 2


@pytest.mark.parametrize(
    ("until", "reason", "told"),
    [
        ("'infinity'", "'maintenance'", "paused: maintenance"),
        ("'infinity'", "NULL", "paused: no reason given"),
        ("now() + interval '5000 seconds'", "'429'", r"paused for (5,000|4,99\d) s: 429"),
        ("now() + interval '200 milliseconds'", "'429'", r"(paused for 1 s|trying one token at a time): 429"),
        (
            "now() - interval '1 second'",
            "'Replicate answered 503'",
            "trying one token at a time: Replicate answered 503",
        ),
    ],
)
def test_status_tells_for_how_long_the_intake_is_closed(reactor, database, until, reason, told):
    command(database, f"UPDATE reactor.intake SET paused_until = {until}, reason = {reason}")

    assert re.search(rf"^gate +{told}$", reactor("status")[1], re.MULTILINE)

    intake = json.loads(reactor("status", "--json")[1])["intake"]
    assert (intake["paused"], intake["reason"]) == (True, None if reason == "NULL" else reason.strip("'"))


@pytest.mark.parametrize(
    ("damage", "told", "done"),
    [
        ("ALTER TABLE tokens_s0 DISABLE TRIGGER reactor_notify_updated", "disabled", "enable"),
        ("DROP TRIGGER reactor_notify_updated ON tokens_s0", "missing", "make"),
    ],
)
def test_status_tells_what_ails_the_triggers_and_migrate_puts_it_right(reactor, database, damage, told, done):
    command(database, damage)

    code, out, _ = reactor("status")
    assert code == 0
    assert re.search(rf"^triggers +{told}: mints wait for the sweep; run: reactor migrate$", out, re.MULTILINE)
    assert json.loads(reactor("status", "--json")[1])["triggers"] is False

    assert reactor("migrate") == (0, f"done: {done} trigger reactor_notify_updated\ntokens_s0: migrated\n", "")
    assert "triggers" not in reactor("status")[1]
    assert json.loads(reactor("status", "--json")[1])["triggers"] is True


REMOVED = """\
removed table public.tokens_s0
removed table public.authors
removed schema reactor
tokens_s0: removed what was added
"""


def test_rows_are_dropped_only_by_who_says_so(reactor, database):
    reactor("mint", "1234", "--prompt", "a fox")

    code, out, err = reactor("migrate", "--down")
    assert (code, out) == (1, "")
    assert err == (
        "Error: --down would drop public.tokens_s0 with 1,234 rows and public.authors with 1,234 rows;"
        " to lose them: reactor migrate --down --yes\n"
    )
    assert json.loads(reactor("status", "--json")[1])["tokens"]["detected"] == 1234

    assert reactor("migrate", "--down", "--yes") == (0, REMOVED, "")


@pytest.mark.parametrize("token_id", [999, 2**63 - 1, 2**63, 10**30, "x", "0x71C7", "1.5", "", "тайна"])
def test_an_unknown_token_is_one_line_and_exit_code_1(reactor, token_id):
    assert reactor("show", f"{token_id}") == (1, "", f"Error: no token {token_id}\n")
    told = f"Error: not failed, or not there: {token_id}\n"
    assert reactor("retry", f"{token_id}") == (1, "0 set back to detected\n", told)


@pytest.mark.parametrize("token_id", [-1, -(2**63), -(10**30)])
def test_an_id_below_zero_is_none_of_ours_either(reactor, token_id):
    assert reactor("show", "--", f"{token_id}") == (1, "", f"Error: no token {token_id}\n")


@pytest.mark.parametrize(
    ("kind", "token_id"),
    [
        ("numeric(78, 0)", f"{2**256 - 1}"),
        ("varchar(66)", "0x" + "a" * 64),
        ("uuid", "00000000-0000-0000-0000-00000000000a"),
        ("text", "12' OR true --"),
    ],
)
def test_a_token_is_named_as_its_table_has_it(reactor, database, kind, token_id):
    value = token_id.replace("'", "''")
    make = f"INSERT INTO tokens_s0 (token_id, status, generation_error) VALUES ('{value}', 'failed', 'x')"
    command(
        database,
        "ALTER TABLE tokens_s0 ALTER token_id DROP IDENTITY, ALTER token_id DROP NOT NULL",
        f"ALTER TABLE tokens_s0 ALTER token_id TYPE {kind} USING NULL",
        make,
    )

    code, out, _ = reactor("show", token_id)
    assert code == 0
    assert f"token_id            {token_id}" in out.splitlines()
    assert reactor("retry", token_id, "nothing") == (
        1, "1 set back to detected\n", "Error: not failed, or not there: nothing\n"
    )  # fmt: skip


def test_failed_tokens_are_set_back(reactor, database):
    ids = reactor("mint", "3")[1].split()
    command(database, "UPDATE tokens_s0 SET status = 'failed', generation_error = 'x'")

    assert reactor("retry", ids[0]) == (0, "1 set back to detected\n", "")
    assert reactor("retry", "--failed", "--yes")[1] == "2 set back to detected\n"
    assert json.loads(reactor("status", "--json")[1])["tokens"]["detected"] == 3


FAILED = """
    INSERT INTO tokens_s0 (id, status, generation_error)
    SELECT lpad(n::text, 32, '0')::uuid, 'failed', 'x' FROM generate_series(1, {}) AS n
"""


def test_all_that_failed_are_set_back_in_steps(reactor, database):
    command(database, FAILED.format(5 * STEP // 2))

    assert reactor("retry", "--failed", "--yes") == (0, f"{5 * STEP // 2:,} set back to detected\n", "")
    assert reactor("retry", "--failed", "--yes") == (0, "0 set back to detected\n", "")


STOPS = {
    "cut off": ("pg_terminate_backend(pg_backend_pid()) IS NULL", 1, "Error: cannot reach the database: "),
    "refused": ("1 / 0 = 1", 1, "Error: division by zero"),
}


@pytest.mark.parametrize(("what", "code", "line"), STOPS.values(), ids=STOPS.keys())
def test_a_retry_that_is_cut_short_says_how_many_were_set_back(reactor, database, what, code, line):
    command(
        database,
        FAILED.format(2 * STEP + 5),
        f"""CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN IF NEW.token_id = {2 * STEP + 1} THEN PERFORM {what}; END IF; RETURN NEW; END $$;
            CREATE TRIGGER stop BEFORE UPDATE ON tokens_s0 FOR EACH ROW EXECUTE FUNCTION stop()""",
    )

    told, out, err = reactor("retry", "--failed", "--yes")

    assert (told, out) == (code, f"{2 * STEP:,} set back to detected until then; run it again for the rest\n")
    assert err.startswith(line)
    command(database, "DROP TRIGGER stop ON tokens_s0")
    assert reactor("retry", "--failed", "--yes") == (0, "5 set back to detected\n", "")


def interrupt_during_the_second_step(database):
    """Send SIGINT to this process once the token that ends the second step sleeps."""
    sleeps = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"

    async def main():
        connection = await asyncpg.connect(database)
        await until(lambda: connection.fetchval(sleeps))
        os.kill(os.getpid(), signal.SIGINT)
        await connection.close()

    asyncio.run(main())


def test_a_retry_that_is_interrupted_says_how_many_were_set_back(reactor, database):
    command(
        database,
        FAILED.format(2 * STEP),
        f"""CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN IF NEW.token_id = {2 * STEP} THEN PERFORM pg_sleep(3); END IF; RETURN NEW; END $$;
            CREATE TRIGGER sleep BEFORE UPDATE ON tokens_s0 FOR EACH ROW EXECUTE FUNCTION sleep()""",
    )
    interrupting = threading.Thread(target=interrupt_during_the_second_step, args=[database])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell inherit it ignored
    try:
        interrupting.start()
        told = reactor("retry", "--failed", "--yes")
    finally:
        interrupting.join()
        signal.signal(signal.SIGINT, before)

    assert told[:2] == (130, f"{STEP:,} set back to detected until then; run it again for the rest\n")


def test_a_token_that_did_not_fail_is_not_set_back(reactor):
    (token_id,) = reactor("mint")[1].split()

    code, out, err = reactor("retry", token_id, "999")

    assert (code, out) == (1, "0 set back to detected\n")
    assert err == f"Error: not failed, or not there: {token_id}, 999\n"


@pytest.mark.parametrize("arguments", [("retry",), ("retry", "1", "--failed"), ("mint", "0"), ("show",)])
def test_bad_usage_is_exit_code_2(reactor, arguments):
    code, _, err = reactor(*arguments)

    assert code == 2
    assert "Traceback" not in err


def test_a_bad_sandbox_configuration_is_one_line(reactor):
    code, out, err = reactor("sandbox", "--config", '{"timing": {"run": "long"}}')

    assert (code, out) == (2, "")
    assert re.fullmatch(r"--config: timing\.run: [^\n]+\n", err)


def test_a_prompt_with_a_nul_is_refused(reactor):
    code, _, err = reactor("mint", "--prompt", "a\x00b")

    assert code == 2
    assert "NUL" in err


def test_a_database_without_our_tables_says_reactor_migrate(reactor, server_url, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", server_url)

    code, _, err = reactor("status")

    assert code == 1
    assert len(err.splitlines()) == 1
    assert "run: reactor migrate" in err


def test_a_migration_that_failed_half_way_is_not_taken_for_done(reactor, empty_database, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", empty_database)
    command(empty_database, *host(), NO_INDEX)
    code, _, err = reactor("migrate")
    assert (code, err) == (1, "Error: not now\n")

    told = reactor("status")
    command(empty_database, INDEXES_AGAIN)

    lacks = "tokens_s0 lacks index tokens_s0_generation_fresh"
    assert told == (1, "", f"Error: the database is not completely migrated: {lacks}; run: reactor migrate\n")
    assert reactor("migrate")[0] == reactor("status")[0] == 0


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("UPDATE reactor.alembic_version SET version_num = '0004'", 1),
        ("DELETE FROM reactor.alembic_version", 1),
        ("UPDATE reactor.alembic_version SET version_num = '9999'", 0),  # a newer reactor has migrated
        ("DROP TABLE reactor.alembic_version", 0),  # without a version nothing proves that a migration is missing
    ],
)
def test_only_an_older_revision_is_refused(reactor, database, change, code):
    command(database, change)

    assert reactor("status")[0] == code


def test_a_role_that_may_not_read_the_revision_works(reactor, database, server_url, monkeypatch):
    role = "reactor_cli_worker"
    command(server_url, f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    command(
        database,
        f"GRANT USAGE ON SCHEMA reactor TO {role}; GRANT SELECT ON reactor.intake, tokens_s0 TO {role}",
    )
    parts = urlsplit(database)
    monkeypatch.setenv("DATABASE_URL", parts._replace(netloc=f"{role}:x@{parts.netloc.rpartition('@')[2]}").geturl())

    code, out, err = reactor("status")
    command(database, f"DROP OWNED BY {role}; DROP ROLE {role}")

    assert (code, err) == (0, "")
    assert "today         unknown: this role may not read reactor.attempts" in out


AWAY = {
    "nobody listens": "postgresql://nobody:hidden@127.0.0.1:1/nowhere",
    "no socket": "postgresql://nobody:hidden@/nowhere?host=/no/such/folder",
    "no such host": "postgresql://nobody:hidden@no-such-host.invalid/nowhere",
}


@pytest.mark.parametrize("url", AWAY.values(), ids=AWAY.keys())
def test_a_database_that_is_away_is_the_same_line_in_every_command_without_its_password(reactor, monkeypatch, url):
    monkeypatch.setenv("DATABASE_URL", url)
    commands = "status,status --json,show 1,retry 1,retry --failed,mint,pause,resume,migrate,migrate --down,demo"

    told = {reactor(*arguments.split()) for arguments in commands.split(",")}

    ((code, out, err),) = told
    assert (code, out) == (1, "")
    assert re.fullmatch(r"Error: cannot reach the database: [^\[\n]+\n", err.replace("[redacted]", "*"))
    assert "hidden" not in err


def test_a_database_that_does_not_answer_is_told(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://127.0.0.1:{silent.getsockname()[1]}/x"
        monkeypatch.setenv("DATABASE_URL", url)
        given, soon = DatabaseSettings.load(), ConnectionTimings(connect_within=0.2)

        with pytest.raises(click.ClickException) as of_a_command:
            with_database(given, lambda session: session.fetch("SELECT 1"), timings=soon)
        with pytest.raises(MigrationError) as of_a_migration:
            asyncio.run(revisions.upgrade(url, patience=Patience(connect_within=0.2)))

    told = {str(of_a_command.value), str(of_a_migration.value)}
    assert told == {"cannot reach the database: no answer in time"}


def test_what_the_database_does_not_permit_is_told_in_its_own_words(reactor, database, server_url, monkeypatch):
    role = "reactor_cli_nobody"
    command(server_url, f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    parts = urlsplit(database)
    monkeypatch.setenv("DATABASE_URL", parts._replace(netloc=f"{role}:x@{parts.netloc.rpartition('@')[2]}").geturl())

    assert reactor("show", "1") == (1, "", "Error: permission denied for table tokens_s0\n")

    command(server_url, f"DROP ROLE {role}")


def test_a_plan_says_what_would_be_done_and_changes_nothing(reactor, empty_database, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", empty_database)
    command(empty_database, *host())

    code, out, _ = reactor("migrate", "--plan")
    sql = reactor("migrate", "--sql")
    again = reactor("migrate", "--plan")

    assert code == sql[0] == 0
    assert out == again[1]
    assert out.splitlines()[:2] == ["table   public.tokens_s0", "key     id (uuid)"]
    assert re.search(
        r"(?m)^ +\d+\. add columns image_url, .* \(readers and writers wait for a moment; no row is rew", out
    )
    assert re.search(r"(?m)^ +\d+\. build index tokens_s0_generation_fresh \(built beside running writers", out)
    assert sql[1].splitlines()[0].startswith("-- For psql: each statement is a transaction of its own.")
    assert "CREATE INDEX CONCURRENTLY" in sql[1]
    assert reactor("migrate")[0] == 0
    assert reactor("migrate", "--plan")[1].splitlines()[-1] == "nothing to do"
    assert reactor("migrate", "--plan", "--down")[0] == 2


def test_migrate_is_harmless_again_and_down_removes_what_it_added(reactor):
    assert reactor("migrate") == (0, "tokens_s0: migrated\n", "")
    assert reactor("migrate", "--down") == (0, REMOVED, "")
    assert reactor("migrate", "--down") == (0, "tokens_s0: nothing of ours was there\n", "")
    assert reactor("migrate", "--yes")[0] == 2

    code, _, err = reactor("status")
    assert code == 1
    assert "reactor migrate" in err


def test_pause_and_resume_say_what_they_did(reactor):
    assert reactor("pause", "--reason", "a new prompt") == (0, "paused: a new prompt\n", "")
    assert json.loads(reactor("status", "--json")[1])["intake"]["reason"] == "a new prompt"
    assert reactor("resume") == (0, "resumed; it was paused: a new prompt\n", "")
    assert json.loads(reactor("status", "--json")[1])["intake"]["paused"] is False
    assert reactor("resume") == (0, "it was not paused\n", "")


@pytest.mark.parametrize(
    ("given", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("0.5h", 1800), ("2d", 172_800)]
)
def test_a_pause_lasts_as_long_as_it_says(reactor, given, seconds):
    assert reactor("pause", "--for", given)[1] == f"paused for {seconds:,} s: paused by an operator\n"

    intake = json.loads(reactor("status", "--json")[1])["intake"]
    assert (intake["paused"], intake["opens_on"]) == (True, "time")
    assert seconds - 60 < intake["resumes_in"] <= seconds


@pytest.mark.parametrize(
    "given", ["", "0s", "10", "-5m", "1h 30m", "m", "soon", "400d", "1e9s", "9" * 5000 + "s", "٣m"]
)
def test_a_pause_for_no_duration_is_refused_in_one_line(reactor, given):
    code, out, err = reactor("pause", "--for", given)

    assert (code, out) == (2, "")
    assert "no duration like 90s, 10m, 1h30m or 2d" in err
    assert json.loads(reactor("status", "--json")[1])["intake"]["paused"] is False


def test_status_tells_of_a_lower_limit(reactor, database):
    command(database, "UPDATE reactor.intake SET limit_interval = 10, limited_until = now() + interval '1 minute'")

    assert re.search(r"^gate +open; the account allows 6 creates a minute$", reactor("status")[1], re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "told"),
    [("pause", "paused: paused by an operator"), ("resume", "it was not paused"), ("status", "gate +open")],
)
def test_a_gate_row_that_somebody_removed_is_made_anew(reactor, database, name, told):
    command(database, "DELETE FROM reactor.intake")

    code, out, _ = reactor(name)

    assert code == 0
    assert re.search(f"^{told}$", out, re.MULTILINE)
    assert json.loads(reactor("status", "--json")[1])["intake"]["paused"] is (name == "pause")


@pytest.mark.parametrize("name", ["pause", "resume", "status"])
def test_a_gate_row_that_cannot_be_made_anew_is_one_line(reactor, database, name):
    command(database, NO_GATE)

    code, out, err = reactor(name)

    assert (code, out) == (1, "")
    assert err == "Error: reactor.intake has lost its row, and no worker claims without it; run: reactor migrate\n"


@pytest.mark.parametrize("arguments", [(), ("--reason", " ")])
def test_a_pause_without_a_reason_has_one_all_the_same(reactor, arguments):
    assert reactor("pause", *arguments)[1] == "paused: paused by an operator\n"


def test_a_reason_to_pause_is_stored_without_secrets(reactor):
    reactor("pause", "--reason", "rotating r8_a_secret_token\x00")

    assert json.loads(reactor("status", "--json")[1])["intake"]["reason"] == "rotating [redacted]\ufffd"


@pytest.mark.parametrize("name", ["pause", "resume"])
def test_an_intake_that_is_not_there_says_reactor_migrate(reactor, server_url, monkeypatch, name):
    monkeypatch.setenv("DATABASE_URL", server_url)

    code, _, err = reactor(name)

    assert (code, len(err.splitlines())) == (1, 1)
    assert "run: reactor migrate" in err


@pytest.mark.parametrize(("command_line", "code"), [(["run"], 0), (["migrate"], 143), ([], 143)])
def test_a_signal_that_comes_before_the_imports_ends_the_command(command_line, code):
    """As PID 1 a process ignores a signal for which it has no handler yet."""
    program = """
import os, signal, sys
class Finder:
    def find_spec(name, *_):
        if name == "reactor.cli":
            os.kill(os.getpid(), signal.SIGTERM)
sys.meta_path.insert(0, Finder)
from reactor.__main__ import main
main()
"""
    ended = subprocess.run([sys.executable, "-c", program, *command_line], capture_output=True, check=False)

    assert (ended.returncode, ended.stdout, ended.stderr) == (code, b"", b"")


def test_the_package_runs_as_a_program_too():
    told = subprocess.run([sys.executable, "-m", "reactor", "--version"], capture_output=True, check=True, text=True)

    assert told.stdout == f"reactor, version {version('mint-reactor')}\n"
