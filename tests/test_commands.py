"""Commands about many tokens: status, tokens and retry."""

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import asyncpg
import pytest
from conftest import command
from doubles import until

from reactor.cli.retry import UNASKED

FAIL = """
    INSERT INTO tokens_s0 (status, generation_error)
    SELECT 'failed', CASE WHEN n % 3 = 0 THEN 'NSFW content' ELSE 'no answer after ' || n || ' s' END
    FROM generate_series(1, {}) AS n
"""
HOSTILE = "U&'\\001b]0;owned\\0007 \\202e forged'"


def statuses(reactor):
    return json.loads(reactor("status", "--json")[1])["tokens"]


@contextmanager
def terminal(*arguments):
    """Start a command on a terminal of its own; the body gets the process and the terminal."""
    try:
        ours, its = pty.openpty()
    except OSError as error:
        pytest.skip(f"{error}; in a chroot: mount -t devpts devpts /dev/pts")
    process = subprocess.Popen(
        [sys.executable, "-m", "reactor", *arguments], stdin=its, stdout=its, stderr=its, start_new_session=True
    )
    os.close(its)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(ours, words):
    told = b""
    while words.encode() not in told:
        told += os.read(ours, 4096)
    return told.decode()


def read_all(ours):
    told = b""
    try:
        while more := os.read(ours, 4096):
            told += more
    except OSError:  # on Linux, how a terminal that nobody has open ends
        return told.decode()
    return told.decode()


# tokens


def test_tokens_are_listed_the_newest_first_and_the_failed_ones_grouped_by_cause(reactor, database):
    command(database, FAIL.format(5), "INSERT INTO tokens_s0 (status, image_url) VALUES ('uploading', 'https://x/1')")

    code, out, err = reactor("tokens", "--limit", "2")

    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].split()[:2] == ["6", "uploading"]
    assert lines[0].endswith("https://x/1")
    assert lines[1].endswith("no answer after 5 s")
    assert lines[2:] == [
        "there are more: --after 4",
        "",
        "why tokens failed:",
        "        4  no answer after # s  (see: reactor show 5)",
        "        1  NSFW content  (see: reactor show 3)",
    ]


def test_the_list_goes_on_where_it_ended(reactor, database):
    command(database, FAIL.format(5))

    first = json.loads(reactor("tokens", "--limit", "2", "--json")[1])
    second = json.loads(reactor("tokens", "--limit", "9", "--after", first["next"], "--json")[1])

    assert [token["token_id"] for token in first["tokens"] + second["tokens"]] == [5, 4, 3, 2, 1]
    assert first["causes"][0] == {"cause": "no answer after # s", "tokens": 4, "example": "5"}
    assert (second["next"], "causes" in second) == (None, False)
    assert first["tokens"][0]["minted_at"].startswith("20")


def test_tokens_that_match_are_listed(reactor, database):
    command(database, FAIL.format(5))

    assert [row.split()[0] for row in reactor("tokens", "--matching", "nsfw")[1].splitlines()[:1]] == ["3"]
    assert reactor("tokens", "--status", "ready")[1] == "no token matches\n"
    assert reactor("tokens", "--since", "1h", "--status", "failed")[1].count("\n") > 5


@pytest.mark.parametrize(
    "arguments",
    [("--status", "done"), ("--limit", "0"), ("--since", "soon"), ("--matching", ""), ("--matching", "x" * 1001)],
)
def test_a_filter_that_cannot_be_is_a_usage_error(reactor, arguments):
    code, out, err = reactor("tokens", *arguments)

    assert (code, out) == (2, "")
    assert "Traceback" not in err


def test_a_place_that_is_none_is_one_line(reactor):
    code, out, err = reactor("tokens", "--after", "x")

    assert (code, out) == (1, "")
    assert err == "Error: that is no place in the list: use the `next` of a page\n"


@pytest.mark.parametrize("arguments", [("tokens",), ("retry", "--failed", "--dry-run"), ("status",)])
def test_no_text_of_others_controls_the_terminal(reactor, database, arguments):
    command(
        database,
        f"INSERT INTO tokens_s0 (status, generation_error) VALUES ('failed', {HOSTILE})",
        f"UPDATE reactor.intake SET paused_until = 'infinity', reason = {HOSTILE}",
    )

    _, out, err = reactor(*arguments)

    assert not {"\x1b", "\x07", "\u202e"} & {*out, *err}


# retry


def test_a_dry_run_counts_and_changes_nothing(reactor, database):
    command(database, FAIL.format(5))

    code, out, _ = reactor("retry", "--failed", "--dry-run")
    assert (code, out.splitlines()[0]) == (0, "5 failed tokens would be set back to detected")
    assert "NSFW content" in out
    counted = json.loads(reactor("retry", "--failed", "--matching", "NSFW", "--dry-run", "--json")[1])
    assert (counted["matching"], counted["exact"], len(counted["causes"])) == (1, True, 1)
    assert statuses(reactor)["failed"] == 5


def test_only_what_matches_is_set_back(reactor, database):
    command(database, FAIL.format(6))

    assert reactor("retry", "--failed", "--matching", "nsfw") == (0, "2 set back to detected\n", "")
    assert json.loads(reactor("retry", "--failed", "--since", "1h", "--json")[1]) == {
        "retried": 4, "locked": 0, "complete": True
    }  # fmt: skip
    assert statuses(reactor)["detected"] == 6


def test_more_than_a_hundred_are_not_set_back_unless_somebody_means_it(reactor, database):
    command(database, FAIL.format(UNASKED + 1))

    code, out, err = reactor("retry", "--failed")

    assert (code, out) == (1, "")
    assert err == "Error: 101 failed tokens would be set back: add --yes, or look first with --dry-run\n"
    assert statuses(reactor)["failed"] == UNASKED + 1
    assert reactor("retry", "--failed", "--yes")[0] == 0
    assert statuses(reactor)["detected"] == UNASKED + 1


def test_a_hundred_are_set_back_unasked(reactor, database):
    command(database, FAIL.format(UNASKED))

    assert reactor("retry", "--failed")[0] == 0


@pytest.mark.parametrize(("answer", "failed"), [("n", UNASKED + 1), ("y", 0)])
def test_on_a_terminal_it_asks(reactor, database, answer, failed):
    command(database, FAIL.format(UNASKED + 1))

    with terminal("retry", "--failed") as (process, ours):
        asked = read_until(ours, "[y/N]")
        os.write(ours, f"{answer}\n".encode())
        told = read_all(ours)
        code = process.wait(20)

    assert "Set 101 failed tokens back to detected?" in asked
    assert (code, "101 set back to detected" in told) == ((0, True) if answer == "y" else (130, False))
    assert statuses(reactor)["failed"] == failed


@pytest.mark.parametrize("arguments", [("7", "--dry-run"), ("7", "--matching", "x"), ("7", "--since", "1h")])
def test_a_filter_and_ids_do_not_go_together(reactor, arguments):
    assert reactor("retry", *arguments)[0] == 2


# status


def test_what_workers_hold_is_shown(reactor, database):
    command(
        database,
        "INSERT INTO tokens_s0 (status, generation_worker, generation_seed, generation_seeded_at, generation_epoch)"
        " SELECT 'generating', CASE WHEN n < 8 THEN 77 END, 5, now() - interval '30 seconds', 1"
        " FROM generate_series(1, 8) AS n",
    )

    out = reactor("status")[1]

    assert re.search(r"\n  77 holds 7, the longest for 3\d s: \d+, \d+, \d+, \d+, \d+, …\n", out)
    assert "\n  another program holds 1, " in out
    assert json.loads(reactor("status", "--json")[1])["held"]["77"]["tokens"] == 7


def test_the_sentence_is_the_first_line(reactor, database):
    command(database, "UPDATE reactor.intake SET paused_until = 'infinity', reason = 'migration', opens_on = 'time'")

    out, said = reactor("status")[1], json.loads(reactor("status", "--json")[1])

    assert out.splitlines()[0] == f"{said['sentence']} {said['todo']}"
    assert "The gate is closed until `reactor resume`: migration." in out


@pytest.mark.usefixtures("one_day")
def test_what_was_bought_today_and_the_rate_are_told(reactor, database):
    command(
        database,
        "INSERT INTO tokens_s0 (status, image_url, generation_prediction_id, generation_seed, generation_seeded_at)"
        " VALUES ('uploading', 'https://x', 'p1', 1, now())",
        "INSERT INTO reactor.attempts (tokens_table, key, epoch, outcome, prediction_id, images, cost, bought_at)"
        " SELECT 'public.tokens_s0', coalesce((SELECT id FROM tokens_s0 WHERE n = 1), gen_random_uuid())::text, 1,"
        " CASE WHEN n = 1 THEN 'succeeded' ELSE 'failed' END, 'p' || n, 2 - n, 0.0025 * (2 - n), now()"
        " FROM generate_series(1, 2) AS n",
    )

    out, said = reactor("status")[1], json.loads(reactor("status", "--json")[1])

    assert re.search(r"^today +2 bought, 1 used, 1 wasted \(1 \w+\), cost 0\.0025$", out, re.MULTILINE)
    assert re.search(r"^rate +0\.1 images a minute; 1 failed, 0 repeated, in the last 10 min$", out, re.MULTILINE)
    assert (said["today"]["bought"], said["rate"]["succeeded"]) == (2, 1)


def watch(*arguments):
    return subprocess.Popen([sys.executable, "-m", "reactor", "status", "--watch", *arguments], stdout=subprocess.PIPE)


def test_a_watch_looks_again_until_it_is_interrupted(reactor, database):
    with watch("--json") as process:
        first = json.loads(process.stdout.readline())["tokens"]["detected"]
        reactor("mint", "2")
        while json.loads(process.stdout.readline())["tokens"]["detected"] != 2:  # a look that came before the mint
            pass
        process.send_signal(signal.SIGINT)
        code = process.wait(20)

    assert (first, code) == (0, 0)


def test_a_watch_outlives_a_lost_connection(reactor, database):
    async def terminate():
        connection = await asyncpg.connect(database)
        ended = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'reactor command'"
        )
        await connection.execute("ALTER TABLE tokens_s0 RENAME TO gone")
        await until(lambda: connection.fetchval(ended))
        await connection.execute("ALTER TABLE gone RENAME TO tokens_s0")
        await connection.close()

    with watch() as process:
        assert process.stdout.readline().decode().startswith("No worker runs.")
        asyncio.run(terminate())
        while not process.stdout.readline().decode().startswith("No worker runs."):
            pass
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_on_a_terminal_a_watch_shows_its_looks_in_place(reactor, database):
    with terminal("status", "--watch") as (process, ours):
        told = read_until(ours, "gate")
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(20) == 0

    assert "No worker runs." in told
