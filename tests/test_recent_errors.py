"""What the page says of the errors of the last hours."""

import re
from contextlib import aclosing
from dataclasses import replace

import httpx
import pytest
from served import hosted, served

from reactor.database.session import Session
from reactor.database.timings import CONNECTION_TIMINGS
from reactor.operations.history import TOO_LONG
from reactor.operations.pulse import pulse
from reactor.operations.recent_errors import recent_errors

pytestmark = pytest.mark.anyio

ENDED = """
    INSERT INTO reactor.attempts (tokens_table, key, epoch, outcome, error, ended_at)
    SELECT $1, 'k', 1, $2, replace($3, '#', number::text), now() - $4::int * interval '1 s' - number * interval '1 ms'
    FROM generate_series(1, $5::int) AS number
"""


@pytest.fixture
def ended(connection):
    """Write that attempts ended."""

    async def ended(outcome, error, *, ago=10, times=1, table="public.tokens_s0"):
        await connection.execute(ENDED, table, outcome, error, ago, times)

    return ended


async def test_errors_are_grouped_by_cause_and_time(ended, open_session, database, table):
    await ended("retry", "no answer after # s", times=3)
    await ended("failed", "no answer after # s", ago=600, times=2)
    await ended("rejected", "NSFW", ago=3500)
    await ended("failed", "too long ago", ago=3700)
    await ended("succeeded", None, times=5)
    await ended("rescued", None, times=2)
    await ended("rescued", None, table="public.tokens_s1")
    await ended("failed", "of another table", table="public.tokens_s1")

    found = await recent_errors(open_session(database), table, seconds=3600.0, periods=12)

    timeouts, nsfw = found.causes
    assert (timeouts.cause, timeouts.failed, timeouts.back) == ("no answer after # s", 2, 3)
    assert timeouts.periods == (0,) * 9 + (2, 0, 3)
    assert (nsfw.failed, nsfw.refused, nsfw.back) == (0, 1, 0)
    assert (nsfw.cause, nsfw.attempts, nsfw.periods, nsfw.quiet_periods) == ("NSFW", 1, (1,) + (0,) * 11, 11)
    assert (found.died, found.complete) == (2, True)


async def test_rare_texts_are_left_out_and_that_is_said(ended, ask, open_session, database, table):
    await ended("retry", "often", times=3)
    await ended("retry", "rare")

    (row,) = await ask("recent_errors", 300.0, 12, 20_000, 1)
    newest = await ask("recent_errors", 300.0, 12, 3, 500)
    everything = await ask("recent_errors", 300.0, 12, 20_000, 500)

    assert (row["error"], row["back"], row["more"]) == ("often", 3, True)
    assert sum(each["back"] for each in newest) == 3
    assert all(each["more"] for each in newest)
    assert not any(each["more"] for each in everything)


@pytest.mark.parametrize(("query", "heading", "bars"), [("", "hour", 12), ("?range=24h", "day", 24)])
async def test_the_page_says_what_went_back_too(database, ask, ended, query, heading, bars):
    await ask("pause", "a test", None)
    await ended("retry", "<b>no</b> r8_a_secret_that_must_not_be_told", times=2)
    async with served(database) as (client, _):
        page = (await client.get(f"/{query}")).text

    panel = page[page.index('id="errors"') :].partition("</section>")[0]
    assert f"Errors in the last {heading}, by cause" in panel
    assert "&lt;b&gt;no&lt;/b&gt; " in panel
    assert "r8_a_secret" not in page
    assert "2 went back; still in the last" in panel
    told = re.search(r'aria-label="In each [^:]+, the oldest first: ([0-9, ]+)"', panel)[1]
    assert told.split(", ") == ["0"] * (bars - 1) + ["2"]


async def test_a_refused_prompt_is_no_failed_token_and_leads_to_none(database, ask, ended):
    await ended("rejected", "NSFW", times=2)
    async with served(database) as (client, _):
        page = (await client.get("/")).text

    panel = page[page.index('id="errors"') :].partition("</section>")[0]
    assert "2 with the prompt refused; still in the last" in panel
    assert "href" not in panel
    assert "<dt>Failed</dt><dd>0; 2 tried again or given back</dd>" in page


@pytest.mark.parametrize(("died", "said"), [(1, "1 attempt ended"), (3, "3 attempts ended")])
async def test_the_page_says_how_many_attempts_ended_because_a_worker_died(database, ended, died, said):
    await ended("rescued", None, times=died)
    async with served(database) as (client, _):
        page = (await client.get("/")).text

    assert f"{said} because a worker died." in page


async def test_the_page_says_that_there_was_no_error(database, ask):
    async with served(database) as (client, _):
        page = (await client.get("/")).text

    assert "No attempt ended in an error." in page


async def test_the_page_says_that_older_errors_may_be_left_out(database, ask, ended):
    await ended("retry", "no answer", ago=600)
    await ended("succeeded", None, times=20_000, table="public.tokens_s1")
    async with served(database) as (client, _):
        page = (await client.get("/")).text

    assert "No attempt ended in an error, as far as the newest 20,000 entries of the history tell." in page
    assert "Nothing has ended in this time, as far as the newest 20,000 entries of the history tell." in page


@pytest.mark.parametrize("statement", [("recent_errors", 300.0, 12, 20, 500), ("pulse", 60.0, 60, 20)])
async def test_no_more_is_read_of_a_quiet_table_beside_a_busy_one(ask, ended, statement):
    await ended("retry", "older", ago=600)
    await ended("failed", "busy", times=20, table="public.tokens_s1")

    (row,) = await ask(*statement)

    assert (row["period"], row["more"]) == (None, True)


async def test_what_took_too_long_to_sum_up_is_unknown(database, connection, table):
    timings = replace(CONNECTION_TIMINGS, statement_timeout=0.2, lock_timeout=5.0)
    async with aclosing(Session(database, name="test", timings=timings)) as session, connection.transaction():
        await connection.execute("LOCK TABLE reactor.attempts")
        errors = await recent_errors(session, table, seconds=3600.0, periods=12)
        lately = await pulse(session, table, seconds=3600.0)

    assert errors == lately == TOO_LONG


SLOW = """
    ALTER TABLE reactor.attempts RENAME TO slow;
    CREATE VIEW reactor.attempts AS SELECT slow.* FROM reactor.slow WHERE (SELECT pg_sleep(20)) IS NOT NULL
"""


async def test_the_page_is_shown_without_what_took_too_long_to_sum_up(database, connection):
    await connection.execute(SLOW)
    async with hosted(database) as (_, url), httpx.AsyncClient(timeout=20) as client:
        page = await client.get(url)

    assert page.status_code == 200
    assert page.text.count(f"Unknown: {TOO_LONG}.") == 3


async def test_the_page_tells_of_attempts_that_only_went_back(database, ask, ended):
    await ask("pause", "a test", None)
    await ended("retry", "no answer", times=2)
    async with served(database) as (client, _):
        page = (await client.get("/")).text

    assert "Nothing has ended in this time" not in page


async def test_without_a_history_the_page_says_nothing_of_its_errors(database):
    async with served(database, history_days=0) as (client, _):
        page = (await client.get("/")).text

    assert 'id="errors"' not in page
