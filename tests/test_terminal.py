"""No printed or logged text controls a terminal, although foreign texts may be full of control characters."""

import ast
import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import anyio
import click
import httpx
import pytest
from conftest import command
from doubles import SECRET, Log, settings
from wire import quick_tls  # noqa: F401  (a fixture)

import reactor as package
from reactor.cli import commands
from reactor.cli.output import complain
from reactor.demo.screen import line, summary
from reactor.demo.stories import Stories
from reactor.engine.health import Health
from reactor.engine.worker import Worker
from reactor.logs import StructuredLog
from reactor.providers.replicate import ReplicateProvider
from reactor.sandbox import Fault, Sandbox, Timing
from reactor.telemetry import Telemetry
from reactor.text.redaction import Redactor
from reactor.web import Keys, Refusals, Site, application
from reactor.web.metrics import Metrics

HOSTILE = "a\x1b]0;owned\x07\x1b[2J\x9b31m\u202eb\u2066c\u2028\u200bd\U000e0041\rforged\nforged  line"
UNFIT = {"Cc", "Cf", "Cs", "Zl", "Zp"}
STAY = "\n\u200c\u200d"


def obeyed(told):
    """The characters that a terminal obeys, or that hide or reorder other characters."""
    return {each for each in told if unicodedata.category(each) in UNFIT and each not in STAY}


def forged(told):
    """The lines that a hostile text would forge."""
    return [each for each in told.splitlines() if each.startswith("forged")]


# Commands


AS_SQL = "U&'" + "".join(f"\\+{ord(each):06x}" for each in HOSTILE) + "'"
FILL = f"""
ALTER TABLE tokens_s0 ALTER author_id DROP NOT NULL;
INSERT INTO authors DEFAULT VALUES;
INSERT INTO tokens_s0 (author_id) SELECT id FROM authors, generate_series(1, 2);
DO $fill$
DECLARE place record;
BEGIN
  FOR place IN SELECT conrelid::regclass AS name, conname FROM pg_constraint
    WHERE contype = 'c' AND connamespace IN ('public'::regnamespace, 'reactor'::regnamespace)
  LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', place.name, place.conname); END LOOP;
  FOR place IN
    SELECT format('%I.%I', table_schema, table_name) AS name, column_name AS column,
      coalesce(character_maximum_length, 500) AS room
    FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
    WHERE table_schema IN ('public', 'reactor') AND table_type = 'BASE TABLE' AND table_name <> 'alembic_version'
      AND data_type IN ('text', 'character varying')
  LOOP
    EXECUTE format('UPDATE %s SET %I = left($1, $2)', place.name, place.column) USING {AS_SQL}, place.room;
  END LOOP;
END $fill$;
UPDATE tokens_s0 SET status = 'failed' WHERE token_id = 1;
UPDATE reactor.intake SET paused_until = 'infinity';
"""


@pytest.fixture
def hostile(reactor, database, monkeypatch):
    """Run a command on a database in which every text is hostile."""
    command(database, FILL)
    monkeypatch.setenv("REPLICATE_API_TOKEN", SECRET)
    monkeypatch.setenv("FALLBACK_CENSORED_PROMPT", "a calm sea")
    monkeypatch.setenv("REPLICATE_BASE_URL", "http://127.0.0.1:1")  # for doctor, which asks the provider
    return reactor


COMMANDS = {
    "run": [],
    "migrate": [["--plan"], ["--sql"], [], ["--down"]],
    "demo": [[], ["--tokens", HOSTILE]],
    "sandbox": [["--config", HOSTILE], ["--port", HOSTILE], ["--host", HOSTILE]],
    "mint": [[], ["--prompt", HOSTILE], [HOSTILE]],
    "status": [[], ["--json"], [f"--{HOSTILE}"]],
    "tokens": [[], ["--json"], ["--matching", HOSTILE], ["--after", HOSTILE], ["--status", HOSTILE]],
    "show": [["1"], ["2"], [HOSTILE]],
    "retry": [
        ["--failed", "--dry-run"],
        ["1"],
        ["--failed"],
        [HOSTILE],
        ["--failed", "--matching", HOSTILE],
        ["--expired"],
    ],
    "pause": [["--reason", HOSTILE], ["--for", HOSTILE]],
    "resume": [[]],
    "doctor": [[], ["--json"], [f"--{HOSTILE}"]],
    "audit": [[], ["--since", HOSTILE]],
}


def test_every_command_is_among_those_that_are_tried():
    assert set(COMMANDS) == set(commands.commands)


@pytest.mark.parametrize("name", [name for name in COMMANDS if COMMANDS[name]])
def test_no_command_prints_what_a_terminal_obeys(hostile, name):
    for arguments in COMMANDS[name]:
        _, out, err = hostile(name, *arguments)

        assert out + err
        assert obeyed(out + err) == set(), arguments
        assert forged(out + err) == [], arguments


def test_a_reason_is_shown_as_it_is_but_for_what_a_terminal_obeys(hostile):
    assert "gate        paused: a\ufffd]0;owned\ufffd\ufffd[2J" in hostile("status")[1]
    assert "owned" in json.loads(hostile("status", "--json")[1])["intake"]["reason"]
    assert "it was paused: a\ufffd]0;owned" in hostile("resume")[1]


@pytest.mark.parametrize("name", ["MAX_ATTEMPTS", "DATABASE_URL", "DATABASE_URL_FILE", "TOKENS_TABLE", "HTTP_HOST"])
def test_no_complaint_about_a_setting_prints_what_a_terminal_obeys(hostile, monkeypatch, name):
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv(name, HOSTILE)

    code, out, err = hostile("run")

    assert (code, out) == (2, "")
    assert obeyed(err) == set()
    assert forged(err) == []


@pytest.mark.parametrize("arguments", [["status"], ["migrate"]])
def test_no_name_in_the_database_is_printed_as_it_is(hostile, database, arguments):
    for home in (f"{place}{HOSTILE[:20]}" for place in ("one", "two")):
        table = f'"{home}".tokens_s0'
        command(database, f'CREATE SCHEMA "{home}"', f"CREATE TABLE {table} (LIKE public.tokens_s0)")
        command(database, f"COMMENT ON TABLE {table} IS 'made by reactor'")

    code, out, err = hostile(*arguments)

    assert (code, out) == (1, "")
    assert "one" in err
    assert obeyed(err) == set()


def test_a_mistake_of_the_users_is_repeated_without_what_a_terminal_obeys(capsys):
    complain(click.UsageError(HOSTILE))

    told = capsys.readouterr().err
    assert obeyed(told) == set()
    assert told.startswith("Error: a\ufffd]0;owned")


CRASH = """
import logging, sys
from reactor import __main__, cli
def crash():
    logging.getLogger("asyncio").error("lost: %s", sys.argv[1])
    raise RuntimeError(sys.argv[1])
cli.main = crash
__main__.main()
"""


def test_a_crash_and_what_a_library_logs_are_printed_without_what_a_terminal_obeys():
    ended = subprocess.run([sys.executable, "-c", CRASH, HOSTILE], capture_output=True, check=False)

    told = ended.stderr.decode()
    assert (ended.returncode, ended.stdout) == (1, b"")
    assert "lost: a\ufffd]0" in told
    assert "RuntimeError: a\ufffd]0" in told
    assert obeyed(told) == set()


PRINTERS = {
    "cli/output.py": "all commands print through it",
    "demo/screen.py": "rich's terminal; what is foreign in it was made fit by stories.py",
    "sandbox/app.py": "its base URL, at which it serves",
}


def prints(node):
    """Whether a call prints."""
    match node:
        case ast.Call(func=ast.Name(id="print")):
            return True
        case ast.Call(func=ast.Attribute(attr="echo" | "secho" | "echo_via_pager")):
            return True
        case ast.Call(func=ast.Attribute(attr="print", value=ast.Attribute(attr="_console"))):
            return True
        case ast.Call(func=ast.Attribute(attr="write", value=ast.Attribute(attr="stdout" | "stderr"))):
            return True
        case _:
            return False


def test_nothing_is_printed_around_the_one_place():
    root = Path(package.__file__).parent
    places = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if prints(node)
    }

    assert places == set(PRINTERS)


# The worker, the demo and the port


@pytest.mark.anyio
@pytest.mark.parametrize("style", ["json", "console"])
async def test_no_line_of_a_worker_has_what_a_terminal_obeys(
    database, connection, make_token, token_row, capsys, style
):
    prompts = [f"{place} {HOSTILE}" for place in range(5)]
    sandbox, seen, given = Sandbox(Timing.instant(), token=SECRET), Log(), settings(database, breaker_threshold=0)
    for place, kind in enumerate(("failed", "junk-url", "error-object", "nsfw")):
        sandbox.fail(Fault(kind, match=prompts[place], text=HOSTILE))
    redact = Redactor(given.secrets())
    failed = await make_token(prompt=prompts[0], generation_attempts=2)
    for prompt in prompts[1:]:
        await make_token(prompt=prompt)
    async with sandbox.serve() as url, anyio.create_task_group() as group:
        provider = ReplicateProvider(SECRET, base_url=url)
        worker = Worker(given, provider, Telemetry(StructuredLog(redact, level="DEBUG", style=style), seen), redact)
        group.start_soon(worker.run)
        await seen.wait("token.generation.succeeded")
        await seen.wait("token.generation.exhausted")
        await connection.execute("UPDATE reactor.intake SET paused_until = 'infinity', reason = $1", HOSTILE)
        worker.stop_now()
        await provider.aclose()

    stored = (await token_row(failed))["generation_error"]
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert obeyed(stored) == set()
    assert obeyed(out) == set()
    assert all(json.loads(each) for each in lines if style == "json")
    assert forged(out) == []


def test_the_demo_shows_nothing_that_a_terminal_obeys():
    stories = Stories(1, lambda: None, Redactor())
    stories.begin([1], ["a fox"])
    stories("token.generation.failed", {"token_id": 1, "error_message": HOSTILE})
    stories("worker.error", {"error_message": HOSTILE})

    told = [line(stories.ended[0]), *summary(stories, cut_short=False)]

    assert "owned" in told[0]
    assert "owned" in told[-1]
    assert all(each.isprintable() for each in told)


@pytest.mark.anyio
async def test_no_answer_of_the_port_has_what_a_terminal_obeys(database, connection, open_session):
    await connection.execute("UPDATE reactor.intake SET paused_until = 'infinity', reason = $1", HOSTILE)
    health, refusals = Health(open_session(database), "tokens_s0", slots=1), Refusals(Telemetry())
    site = Site(settings(database), Telemetry(), health)
    app = application(site, health, Metrics(), refusals, keys=Keys(SECRET, None), host="10.1.2.3")

    headers = {"authorization": f"Bearer {SECRET}"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x", headers=headers) as client:
        answers = [(await client.get(path)).text for path in ("/readyz", "/metrics")]
    await site.aclose()

    assert "owned" in json.loads(answers[0])["intake"]["reason"]
    assert obeyed("".join(map(str, json.loads(answers[0]).values()))) == set()
    assert obeyed(answers[1]) == set()
