"""The programs as users run them: `reactor run` and `reactor sandbox` as processes, mints by plain SQL."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import anyio
import httpx
import ports
import pytest

pytestmark = pytest.mark.anyio
TOKEN = "r8_end_to_end_secret"


def reactor(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **environment):
    """Start the command with only the environment variables that it needs."""
    needed = {"PATH", "HOME", "LANG", "SSL_CERT_FILE", "PYTHONPATH"}  # the last if a copy is tested: make mutants
    kept = {name: value for name, value in os.environ.items() if name in needed}
    return subprocess.Popen(
        [Path(sys.executable).with_name("reactor"), *arguments],
        env=kept | environment,
        stdout=stdout,
        stderr=stderr,
        text=True,
        cwd="/",
    )


@pytest.fixture(scope="module")
def sandbox():
    """The base URL of a sandbox process that takes one API token."""
    config = {"token": TOKEN, "timing": {"queue": [0, 0.05], "run": [0, 0.05]}}
    process = reactor("sandbox", "--port", "0", "--config", json.dumps(config))
    yield process.stdout.readline().strip()
    process.terminate()
    process.communicate(timeout=10)


@pytest.fixture
def free_port():
    with ports.kept() as number:
        yield number


@contextmanager
def worker(database, base_url, *options, stdout=subprocess.PIPE, **environment):
    """A worker that listens; killed at the end, unless it ended before."""
    process = reactor(
        "run",
        *options,
        stdout=stdout,
        **{
            "DATABASE_URL": database,
            "REPLICATE_API_TOKEN": TOKEN,
            "REPLICATE_BASE_URL": base_url,
            "FALLBACK_CENSORED_PROMPT": "a calm sea",
            "POLL_INTERVAL_SECONDS": "60",
            "HTTP_PORT": "0",
            **environment,
        },
    )
    try:
        yield process, Lines(process)
    finally:
        process.kill()
        process.communicate()


def complete(*arguments, **environment):
    """Run a command to its end."""
    process = reactor(*arguments, **environment)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")


class Lines:
    """A process's log, read as far as a test waits."""

    def __init__(self, process):
        self._process = process
        self.read = []

    def until(self, event, times=1):
        while sum(line["event"] == event for line in self.read) < times:
            line = self._process.stdout.readline()
            assert line, self._process.stderr.read()
            self.read.append(json.loads(line))
        return self.of(event)[times - 1]

    def of(self, event):
        return [line for line in self.read if line["event"] == event]


def stop(process, lines):
    process.send_signal(signal.SIGTERM)
    lines.until("worker.stopped")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")


async def test_a_worker_does_what_its_users_see(
    database, sandbox, free_port, connection, connect, make_token, token_row
):
    heard, next_stage = [], await connect()
    await next_stage.add_listener("public_tokens_s0_status", lambda *event: heard.append(json.loads(event[-1])))
    with worker(database, sandbox, WORKER_BATCH_SIZE="30", HTTP_PORT=str(free_port)) as (process, lines):
        lines.until("listener.connected")
        await a_mint_by_plain_sql_becomes_an_image_that_can_be_fetched(lines, connection)
        await it_serves(free_port)
        await next_stage.fetchval("SELECT 1")
        assert heard == [{"status": "uploading", "token_ids": [1]}]
        failing = await make_token(prompt="a fox [sandbox: 503]")
        await a_rejected_prompt_gets_the_fallback_image(lines, make_token, token_row)
        await a_hundred_in_one_statement_are_all_generated(lines, connection)
        lines.until("token.generation.exhausted")
        stop(process, lines)

    told = json.dumps(lines.read)
    assert not lines.of("tokens.claimed")
    assert [word for word in ("private", "unspeakable", TOKEN) if word in told] == []
    assert len(lines.of("token.censored")) == 1
    assert {line["token_id"] for line in lines.of("token.generation.retry")} == {failing}
    assert [round(line["retry_in_seconds"]) for line in lines.of("token.generation.retry")] == [1, 2]
    row = await token_row(failing)
    assert (row["status"], row["generation_attempts"]) == ("failed", 3)
    assert row["generation_error"] == "Replicate answered 503 Service Unavailable after 3 attempts"


async def a_mint_by_plain_sql_becomes_an_image_that_can_be_fetched(lines, connection):
    await connection.execute(
        "INSERT INTO authors (wallet_address, prompt_text) VALUES ('0xabc', 'a private lighthouse');"
        "INSERT INTO tokens_s0 (author_id) SELECT id FROM authors"
    )
    succeeded = lines.until("token.generation.succeeded")
    row = await connection.fetchrow("SELECT * FROM tokens_s0")
    assert (row["status"], row["generation_attempts"], row["generation_error"]) == ("uploading", 0, None)
    assert row["image_url"] == succeeded["image_url"]
    async with httpx.AsyncClient() as client:
        picture = await client.get(row["image_url"])
    assert (picture.headers["content-type"], picture.content[:4]) == ("image/webp", b"RIFF")
    (started,) = lines.of("token.generation.started")
    assert {"timestamp", "level", "event", "token_id", "attempt", "max_attempts"} <= started.keys()
    assert started["token_id"] == succeeded["token_id"] == row["token_id"]


async def it_serves(port):
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        metrics = (await client.get("/metrics")).text
        assert (await client.get("/readyz")).status_code == 200
    assert 'image_generation_total{outcome="succeeded"} 1.0' in metrics.splitlines()
    assert TOKEN not in metrics


async def a_rejected_prompt_gets_the_fallback_image(lines, make_token, token_row):
    token_id = await make_token(prompt="an unspeakable word [sandbox: nsfw]")
    lines.until("token.generation.succeeded", times=2)
    row = await token_row(token_id)
    assert (row["status"], row["generation_censored"], row["generation_attempts"]) == ("uploading", True, 1)
    assert row["generation_error"] is None


async def a_hundred_in_one_statement_are_all_generated(lines, connection):
    author = await connection.fetchval("INSERT INTO authors (prompt_text) VALUES ('a fox') RETURNING id")
    await connection.execute("INSERT INTO tokens_s0 (author_id) SELECT $1 FROM generate_series(1, 100)", author)
    lines.until("token.generation.succeeded", times=102)
    pictures = "SELECT count(DISTINCT image_url) FROM tokens_s0 WHERE status = 'uploading' AND author_id = $1"
    assert await connection.fetchval(pictures, author) == 100


async def test_a_bad_api_token_fails_the_token_at_once(database, sandbox, make_token, token_row):
    with worker(database, sandbox, REPLICATE_API_TOKEN="r8_wrong_token") as (process, lines):
        lines.until("listener.connected")
        token_id = await make_token()
        lines.until("token.generation.failed")
        stop(process, lines)

    row = await token_row(token_id)
    assert (row["status"], row["generation_attempts"]) == ("failed", 0)
    assert "Invalid API token" in row["generation_error"]
    assert "r8_wrong_token" not in row["generation_error"] + json.dumps(lines.read)


async def test_sigterm_hands_back_what_the_grace_does_not_finish(database, sandbox, make_token, token_row):
    with worker(database, sandbox, SHUTDOWN_GRACE_SECONDS="0.2") as (process, lines):
        lines.until("listener.connected")
        token_id = await make_token(prompt="a slow fox [sandbox: run=60]")
        lines.until("token.generation.started")
        stop(process, lines)

    row = await token_row(token_id)
    assert (row["status"], row["generation_attempts"]) == ("detected", 0)
    assert row["generation_due_at"] is not None


async def test_a_second_signal_hands_back_at_once(database, sandbox, make_token, token_row):
    with worker(database, sandbox, SHUTDOWN_GRACE_SECONDS="60") as (process, lines):
        lines.until("listener.connected")
        token_id = await make_token(prompt="a slow fox [sandbox: run=60]")
        lines.until("token.generation.started")
        process.send_signal(signal.SIGINT)
        stop(process, lines)

    assert (await token_row(token_id))["status"] == "detected"


@pytest.fixture
def full_disk():
    with Path("/dev/full").open("w") as file:
        yield file


async def test_a_log_that_cannot_be_written_stops_no_generation(database, sandbox, make_token, token_row, full_disk):
    token_id = await make_token()
    process = reactor(
        "run",
        "--drain",
        stdout=full_disk,
        DATABASE_URL=database,
        REPLICATE_API_TOKEN=TOKEN,
        REPLICATE_BASE_URL=sandbox,
        FALLBACK_CENSORED_PROMPT="a calm sea",
    )
    _, err = process.communicate(timeout=30)

    assert "Traceback" not in err
    assert (await token_row(token_id))["status"] == "uploading"


@contextmanager
def broken_pipe():
    """The write end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as file:
        yield file


async def test_a_worker_whose_log_nobody_reads_goes_on_and_stops_cleanly(database, sandbox, connection, make_token):
    told = anyio.Event()
    await connection.add_listener("public_tokens_s0_status", lambda *_: told.set())
    with broken_pipe() as pipe, worker(database, sandbox, stdout=pipe) as (process, _):
        token_id = await make_token()
        with anyio.fail_after(20):
            await told.wait()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)

    assert (process.returncode, err) == (0, "")
    assert await connection.fetchval("SELECT status FROM tokens_s0 WHERE token_id = $1", token_id) == "uploading"


@pytest.mark.parametrize("arguments", ["status", "status --json", "mint 3", "--help", "--version", "migrate"])
async def test_a_command_whose_output_nobody_reads_ends_quietly(database, arguments):
    with broken_pipe() as pipe:
        process = reactor(*arguments.split(), stdout=pipe, DATABASE_URL=database)
        _, err = process.communicate(timeout=20)

    assert (process.returncode, err) == (141, "")


async def test_an_error_that_nobody_reads_ends_quietly_too():
    with broken_pipe() as pipe:
        process = reactor("explode", stdout=pipe, stderr=pipe)
        process.communicate(timeout=20)

    assert process.returncode == 141


async def test_output_that_a_full_disk_does_not_take_is_one_line(database, full_disk):
    process = reactor("status", stdout=full_disk, DATABASE_URL=database)
    _, err = process.communicate(timeout=20)

    assert (process.returncode, err) == (1, "Error: cannot write the output: No space left on device\n")


@pytest.mark.parametrize("arguments", ["status", "--help", "mint"])
def test_a_command_without_a_standard_output_does_its_work(database, arguments):
    shell = ["sh", "-c", 'exec "$0" "$@" >&-', Path(sys.executable).with_name("reactor"), *arguments.split()]
    result = subprocess.run(shell, env={**os.environ, "DATABASE_URL": database}, stderr=subprocess.PIPE, check=False)

    assert (result.returncode, result.stderr) == (0, b"")


async def test_a_sandbox_whose_url_nobody_reads_serves_until_it_is_stopped(free_port):
    with broken_pipe() as pipe:
        process = reactor("sandbox", "--port", f"{free_port}", stdout=pipe)
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(retries=8)) as client:
            page = await client.get(f"http://127.0.0.1:{free_port}/")
        process.terminate()
        _, err = process.communicate(timeout=20)

    assert (page.status_code, process.returncode, err) == (200, 0, "")


async def test_drain_ends_by_itself(database, sandbox, make_token, connection):
    for _ in range(12):
        await make_token()
    process = reactor(
        "run",
        "--drain",
        DATABASE_URL=database,
        REPLICATE_API_TOKEN=TOKEN,
        REPLICATE_BASE_URL=sandbox,
        FALLBACK_CENSORED_PROMPT="a calm sea",
        HTTP_PORT="0",
    )
    process.communicate(timeout=30)

    assert process.returncode == 0
    assert await connection.fetchval("SELECT count(*) FROM tokens_s0 WHERE status = 'uploading'") == 12


async def test_drains_of_a_paused_intake_say_so_and_wait_for_resume_or_sigterm(database, sandbox, make_token):
    await make_token()
    complete("pause", "--reason", "maintenance", DATABASE_URL=database)
    with worker(database, sandbox, "--drain") as (process, lines), worker(database, sandbox, "--drain") as other:
        assert lines.until("intake.paused")["reason"] == "maintenance"
        assert other[1].until("intake.paused")["reason"] == "maintenance"
        stop(*other)
        complete("resume", DATABASE_URL=database)
        lines.until("worker.stopped")
        out, err = process.communicate(timeout=10)

    assert (process.returncode, out, err) == (0, "", "")
    assert lines.of("token.generation.succeeded")
    assert len(other[1].of("intake.paused")) == 1


async def test_a_database_that_is_away_is_waited_for_alive_over_http_and_sigterm_ends_the_wait(sandbox, free_port):
    with worker("postgresql://nobody@127.0.0.1:1/nowhere", sandbox, HTTP_PORT=str(free_port)) as (process, lines):
        told = lines.until("worker.error")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{free_port}") as client:
            statuses = [(await client.get(path)).status_code for path in ("/livez", "/readyz")]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=10)

    assert statuses == [200, 503]
    assert "refused" in told["error_message"] or "Connect" in told["error_message"]
    assert (process.returncode, out, err) == (0, "", "")


async def test_an_open_port_without_a_token_is_refused_with_exit_code_2(database, sandbox):
    with worker(database, sandbox, HTTP_HOST="0.0.0.0", HTTP_PORT="8787") as (process, _):  # noqa: S104  (refused)
        out, err = process.communicate(timeout=20)

    assert (process.returncode, out) == (2, "")
    assert err == "HTTP_TOKEN: is required where HTTP_HOST is not a loopback address\n"


async def test_a_database_without_our_tables_ends_the_worker_with_a_line(empty_database, sandbox):
    with worker(empty_database, sandbox) as (process, _):
        out, err = process.communicate(timeout=20)

    assert (process.returncode, out) == (1, "")
    assert err == "Error: the database has no table tokens_s0; run: reactor migrate\n"


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_signal_while_no_worker_runs_yet_or_any_more_is_no_failure(when):
    runs = {"before": "os.kill(os.getpid(), signal.SIGTERM)", "after": "signal.signal(signal.SIGTERM, signal.SIG_DFL)"}
    code = f"""
import os, signal, sys
import reactor.cli
run = sys.modules["reactor.cli.run"]
run.run_async = lambda _: {runs[when]}
run.run.callback(drain=False)
os.kill(os.getpid(), signal.SIGTERM)
"""
    settings = {
        "DATABASE_URL": "postgresql://localhost/x",
        "REPLICATE_API_TOKEN": TOKEN,
        "FALLBACK_CENSORED_PROMPT": "a calm sea",
    }
    ended = subprocess.run([sys.executable, "-c", code], env=os.environ | settings, cwd="/", check=False)

    assert ended.returncode == 0
