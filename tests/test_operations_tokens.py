"""Tokens by a filter: listed page by page, counted, grouped by cause and retried."""

import threading
from dataclasses import asdict

import pytest

from reactor.database.discovery import discover
from reactor.migrations import revisions
from reactor.operations.causes import UNKNOWN, cause_of
from reactor.operations.tokens import (
    COUNTED,
    Count,
    FilterError,
    Step,
    TokenFilter,
    count_matching,
    failures_by_cause,
    list_tokens,
    retry_matching,
    retry_tokens,
)

pytestmark = pytest.mark.anyio

FILL = """
    INSERT INTO tokens_s0 (status, image_url, generation_error, mint_timestamp, generation_seeded_at)
    SELECT
      CASE WHEN number % {every} = 0 THEN 'failed' ELSE 'ready' END, 'https://x',
      CASE WHEN number % {every} = 0 THEN 'model failed after ' || number || ' s' END,
      now() - interval '1 day', now() - make_interval(mins => number)
    FROM generate_series(1, {rows}) AS number
"""


@pytest.fixture
async def asked(connection, database, open_session):
    """A session and the tokens table, for the functions of operations."""
    session = open_session(database)
    return session, await discover(session, "tokens_s0")


async def ids(asked, *given, **limits):
    return [token.token_id for token in (await list_tokens(*asked, TokenFilter(*given), **limits)).tokens]


async def pages(asked, wanted, **limits):
    """The ids of every page."""
    found, after = [], None
    while True:
        page = await list_tokens(*asked, wanted, after=after, **limits)
        found.append([token.token_id for token in page.tokens])
        after = page.next
        if after is None:
            return found


async def test_tokens_are_listed_the_newest_first_page_by_page(asked, connection):
    await connection.execute(FILL.format(rows=10, every=3))

    assert await pages(asked, TokenFilter(), limit=4) == [[10, 9, 8, 7], [6, 5, 4, 3], [2, 1]]
    assert await pages(asked, TokenFilter("failed"), limit=2) == [[9, 6], [3]]
    assert await pages(asked, TokenFilter("revealed"), limit=2) == [[]]


async def test_a_page_goes_on_behind_the_last_one_though_tokens_come_and_go(asked, connection):
    await connection.execute(FILL.format(rows=10, every=1))
    first = await list_tokens(*asked, TokenFilter("failed"), limit=3)
    await connection.execute("DELETE FROM tokens_s0 WHERE token_id = 7")
    await connection.execute(FILL.format(rows=5, every=1))

    second = await list_tokens(*asked, TokenFilter("failed"), after=first.next, limit=3)

    assert [token.token_id for token in second.tokens] == [6, 5, 4]


async def test_a_look_that_finds_too_little_goes_on_and_no_token_is_left_out(asked, connection):
    await connection.execute(FILL.format(rows=60, every=20))

    assert await ids(asked, "ready", limit=100, look=7) == [n for n in range(60, 0, -1) if n % 20]
    assert await pages(asked, TokenFilter("failed"), limit=9, look=2, within=0.0) == [[60, 40], [20]]
    assert await pages(asked, TokenFilter(None, "model"), limit=9, look=2, within=0.0) == [
        [number] if number % 20 == 0 else [] for number in range(60, 0, -2)
    ]


@pytest.mark.parametrize("status", ["detected", "generating", "uploading", "failed", "ready", "revealed"])
async def test_tokens_of_every_status_are_found(asked, make_token, status):
    columns = {"image_url": "https://x", "generation_error": "no"}
    if status == "generating":
        columns |= {"generation_worker": 7, "generation_seed": 1}
    token_id = await make_token(status=status, **columns)
    other = await make_token(status="ready" if status != "ready" else "failed", generation_error="x")

    assert await ids(asked, status) == [token_id]
    assert await ids(asked) == [other, token_id]
    assert await count_matching(*asked, TokenFilter(status)) == Count(1, exact=True)


async def test_a_retry_that_waits_is_detected_too(asked, make_token, connection):
    later = await connection.fetchval("SELECT now() + interval '1 hour'")
    token_id = await make_token(generation_due_at=later)

    (token,) = (await list_tokens(*asked, TokenFilter("detected"))).tokens

    assert (token.token_id, token.due_at) == (token_id, later)


@pytest.mark.parametrize(
    ("matching", "found"),
    [
        ("NSFW", [1]), ("nsfw", [1]), ("100% of", [2]), ("%", [2]), ("_", []), ("\\", [3]), ("'", [3]), ("2", [2]),
        ("\x00", []), ("no such", []),
    ],
)  # fmt: skip
async def test_a_text_to_match_is_a_part_of_the_error_or_the_number_and_no_pattern(asked, make_token, matching, found):
    for error in ("NSFW content", "took 100% of the time", "it's a \\"):
        await make_token(status="failed", generation_error=error)

    assert await ids(asked, "failed", matching) == found
    assert await count_matching(*asked, TokenFilter("failed", matching)) == Count(len(found), exact=True)


async def test_a_token_is_found_by_its_key(asked, make_token, connection):
    await make_token()
    token_id = await make_token()
    key = await connection.fetchval("SELECT id FROM tokens_s0 WHERE token_id = $1", token_id)

    assert await ids(asked, None, str(key)) == [token_id]


async def test_since_counts_from_the_mint_or_from_the_last_intent_to_buy(asked, connection):
    await connection.execute(FILL.format(rows=100, every=10))

    assert await ids(asked, "failed", None, 3600.0) == [50, 40, 30, 20, 10]
    assert await ids(asked, None, None, 90000.0, limit=1) == [100]


@pytest.mark.parametrize(
    "given", [("done",), (None, ""), (None, "x" * 1001), (None, None, 0.0), (None, None, float("nan"))]
)
def test_a_filter_that_cannot_be_is_refused(given):
    with pytest.raises(FilterError):
        TokenFilter(*given)


async def test_a_place_that_is_none_is_refused(asked):
    with pytest.raises(FilterError, match="no place"):
        await list_tokens(*asked, TokenFilter(), after="x")


async def test_what_is_listed_is_cut_and_safe_to_show(asked, connection, make_token):
    await connection.execute("ALTER TABLE tokens_s0 DROP CONSTRAINT tokens_s0_generation_error_check")
    token_id = 2**53 + 1
    await make_token(token_id=token_id, status="failed", generation_error="\x1b[31m\n" + "x" * 5000)

    (token,) = (await list_tokens(*asked, TokenFilter("failed"))).tokens

    assert token.token_id == str(token_id)
    assert token.error.startswith("\ufffd[31m x")
    assert len(token.error) <= 1000
    assert asdict(token)["status"] == "failed"


async def test_tokens_are_counted_exactly_up_to_ten_thousand(asked, connection):
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(FILL.format(rows=COUNTED, every=1))

    assert await count_matching(*asked, TokenFilter("failed")) == Count(COUNTED, exact=True)
    await connection.execute(FILL.format(rows=2 * COUNTED, every=1))
    assert await count_matching(*asked, TokenFilter("failed")) == Count(2 * COUNTED, exact=False)
    assert await count_matching(*asked, TokenFilter("failed"), within=0.0) == Count(COUNTED, exact=False)
    assert (await count_matching(*asked, TokenFilter("ready"))) == Count(0, exact=True)


CAUSES = {
    "timed out after 31.4 s": "timed out after # s",
    "prediction 8hq2vx5r9drme0cp1xa8fhqzb8 failed": "prediction … failed",
    "no token 3f2b8a52-8f0e-4e21-9a39-7f5ad1d2b1aa at https://replicate.delivery/x/1.png": "no token … at …",
    "NSFW content detected": "NSFW content detected",
    "": UNKNOWN,
    "error-without-any-digit": "error-without-any-digit",
}


@pytest.mark.parametrize(("error", "cause"), CAUSES.items())
def test_a_cause_is_an_error_without_what_differs(error, cause):
    assert cause_of(error) == cause


async def test_failures_are_grouped_by_cause(asked, connection, make_token):
    await connection.execute(FILL.format(rows=30, every=3))
    token_id = await make_token(status="failed", generation_error="NSFW content detected")

    found = await failures_by_cause(*asked)

    assert [(each.cause, each.tokens) for each in found.causes] == [
        ("model failed after # s", 10), ("NSFW content detected", 1)
    ]  # fmt: skip
    assert found.causes[1].example == str(token_id)
    assert found.complete
    assert not (await failures_by_cause(*asked, look=5)).complete
    assert not (await failures_by_cause(*asked, texts=1)).complete


async def test_failures_are_grouped_beside_the_event_loop(asked):
    threads = set()

    class Row(dict):
        def __getitem__(self, name):
            threads.add(threading.get_ident())
            return super().__getitem__(name)

    class Rows:
        async def fetch(self, *_):
            return [Row(error="boom", tokens=1, token_id="1", more=False)]

    found = await failures_by_cause(Rows(), asked[1])

    assert [each.cause for each in found.causes] == ["boom"]
    assert threads
    assert threading.get_ident() not in threads


async def test_only_what_matches_is_retried_a_step_at_a_time(asked, connection):
    await connection.execute(FILL.format(rows=40, every=2))
    await connection.execute(
        "UPDATE tokens_s0 SET generation_error = 'NSFW' WHERE token_id <= 10 AND status = 'failed'"
    )

    steps = [step async for step in retry_matching(*asked, TokenFilter("failed", "nsfw"), step=3)]

    assert (len(steps), sum(step.retried for step in steps)) == (7, 5)
    assert await connection.fetchval("SELECT count(*) FROM tokens_s0 WHERE status = 'failed'") == 15
    assert await ids(asked, "detected") == [10, 8, 6, 4, 2]
    assert [step async for step in retry_matching(*asked)] == [Step(15, 0)]


async def test_ids_that_no_column_can_hold_spoil_no_other(asked, make_token):
    token_id = await make_token(status="failed", generation_error="x")

    assert await retry_tokens(*asked, ["x", f"{token_id}", "10" * 30]) == {f"{token_id}"}
    assert await retry_tokens(*asked, ["x"]) == set()


# Other tables.


async def test_a_table_whose_numbers_repeat_is_listed_by_its_key(empty_database, connect_to, open_session):
    connection = await connect_to(empty_database)
    await connection.execute(
        "CREATE TABLE tokens_s0 (key text PRIMARY KEY, token_id bigint, status text DEFAULT 'detected', prompt text);"
        "INSERT INTO tokens_s0 VALUES ('a', 1), ('b', 1), ('c', NULL), ('d', 2)"
    )
    await revisions.upgrade(empty_database)
    session = open_session(empty_database)
    asked = session, await discover(session, "tokens_s0")

    assert await pages(asked, TokenFilter(), limit=3) == [[2, "c", 1], [1]]
    assert await ids(asked, None, "b") == [1]
