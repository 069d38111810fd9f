import itertools
import re
from pathlib import Path

import anyio
import pytest
from hosts import SHAPES, make_host, name_of
from strangers import stranger

from reactor.database.discovery import find
from reactor.migrations import revisions

pytestmark = pytest.mark.anyio

QUERIES = Path(__file__).parents[1] / "reactor" / "database" / "queries"
NAMES = sorted(file.stem for file in QUERIES.glob("*.sql"))
# The statements that can be restricted: each restriction, and the types of its parameters.
RESTRICTED = {
    "claim": {(): [], ("fresh",): ["uuid"], ("retries",): ["uuid"], ("fresh", "retries"): ["uuid", "uuid"]},
    "look": {(): [], ("fresh",): ["uuid"], ("retries",): ["uuid"], ("fresh", "retries"): ["uuid", "uuid"]},
}
TYPES = {"float8": "double precision", "int4": "integer", "int8": "bigint", "bool": "boolean"}


def split(name):
    """The header's lines, without their dashes, and the statement."""
    lines = (QUERIES / f"{name}.sql").read_text(encoding="utf-8").splitlines()
    header = list(itertools.takewhile(lambda line: line.startswith("--"), lines))
    return [line.removeprefix("--").strip() for line in header], "\n".join(lines[len(header) :])


def declared(header):
    """The parameters that a header declares: number → type."""
    found = [re.fullmatch(r"\$(\d+) +\w+ +(double precision(?:\[\])?|[a-z]+(?:\[\])?)( .*)?", line) for line in header]
    return {int(parameter[1]): parameter[2] for parameter in found if parameter}


def told(type_):
    """A parameter's type, spelled as in headers."""
    name = type_.name.removesuffix("[]")
    return TYPES.get(name, name) + ("[]" if type_.kind == "array" else "")


@pytest.mark.parametrize("name", NAMES)
def test_a_query_opens_with_what_it_does_takes_returns_and_leans_on(name):
    header, statement = split(name)

    assert header[0].endswith((".", ";", ",", ":"))
    assert len([line for line in header if re.match(r"\$\d+ +\w+ ", line)]) == len(declared(header))
    assert any(line.startswith("Returns ") for line in header)
    assert "{table}" not in statement or any(line.startswith("Leans on ") for line in header)
    assert not re.search(r"(?m)(SELECT|RETURNING|,)\s*(\w+\.)?\*", statement)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
async def test_every_query_can_be_prepared_and_takes_what_its_header_says(empty_database, connect_to, shape):
    await make_host(empty_database, **shape)
    await revisions.upgrade(empty_database, table=name_of(shape))
    connection = await connect_to(empty_database)
    table = await find(connection.fetch, name_of(shape))
    for name in NAMES:
        if name == "mint_prompts":  # of a table that holds its prompts: see test_adoption.py
            continue
        header, _statement = split(name)
        restrictions = [({"after": kinds}, types) for kinds, types in RESTRICTED.get(name, {(): []}).items()]
        restrictions += [({"among": True}, ["uuid[]"])] * (name == "claim")
        for restriction, types in restrictions:
            text = table.query(name, **restriction)
            parameters = (await connection.prepare(text)).get_parameters()
            expected = {place: kind.replace("key", table.key_type) for place, kind in declared(header).items()}
            expected |= dict(enumerate(types, len(expected) + 1))
            assert {number: told(type_) for number, type_ in enumerate(parameters, 1)} == expected, name
            assert set(map(int, re.findall(r"\$(\d+)", re.sub("--.*", "", text)))) == set(expected), name


async def test_minted_tokens_come_in_the_order_of_their_prompts(connection, ask):
    prompts = [f"prompt {number % 7}" for number in range(50)]

    ids = [row["token_id"] for row in await ask("mint", prompts)]

    rows = await connection.fetch(
        "SELECT prompt_text, wallet_address, status FROM tokens_s0 JOIN authors ON authors.id = author_id"
        " WHERE token_id = ANY ($1) ORDER BY array_position($1, token_id)",
        ids,
    )
    assert [row["prompt_text"] for row in rows] == prompts
    assert {row["status"] for row in rows} == {"detected"}
    assert all(re.fullmatch("0x[0-9a-f]{40}", row["wallet_address"]) for row in rows)
    assert len({row["wallet_address"] for row in rows}) == 50


async def test_minting_nothing_mints_nothing(ask):
    assert await ask("mint", []) == []


async def test_show_tells_all_but_the_prompt(ask, make_token):
    token_id = await make_token(prompt="a secret", status="failed", generation_error="no", generation_attempts=2)

    (row,) = await ask("show", f"{token_id}")

    assert (row["token_id"], row["status"], row["error"], row["attempts"]) == (f"{token_id}", "failed", "no", 2)
    assert row["prompt_characters"] == 8
    assert "a secret" not in map(str, row.values())
    assert await ask("show", f"{token_id + 1}") == []


async def test_retry_sets_back_what_failed_and_nothing_else(ask, make_token, token_row):
    first, second, third = [await make_token(status="failed", generation_error="x") for _ in range(3)]
    done = await make_token(status="uploading", image_url="https://x")

    named = await ask("retry", [f"{first}", f"{done}", "1000000"])
    again = await ask("retry", [f"{first}"])
    (rest,) = await ask("retry_failed", None, 10, None, None)

    assert ([row["token_id"] for row in named], again) == ([f"{first}"], [])
    assert (rest["retried"], rest["locked"], rest["next"]) == (2, 0, None)
    assert [(await token_row(each))["status"] for each in (second, third)] == ["detected", "detected"]
    assert (await token_row(done))["status"] == "uploading"
    assert (await token_row(first))["generation_due_at"] is None


async def test_all_that_failed_are_set_back_a_step_at_a_time_and_each_once(ask, make_token):
    for number in range(11):
        await make_token(status="failed" if number % 3 else "ready", generation_error="x")
    steps, begin = [], None

    while not steps or begin is not None:
        (step,) = await ask("retry_failed", begin, 3, None, None)
        steps.append(step)
        begin = step["next"]

    assert [step["next"] for step in steps] == ["6", "11", None]
    assert sum(step["retried"] for step in steps) == 7
    assert (await ask("retry_failed", None, 20, None, None))[0]["retried"] == 0


@pytest.mark.parametrize("rows", [0, 1])
async def test_the_last_step_ends_where_the_table_ends(ask, make_token, rows):
    for _ in range(rows):
        await make_token(status="failed", generation_error="x")

    assert dict((await ask("retry_failed", None, 1, None, None))[0]) == {"retried": rows, "locked": 0, "next": None}


async def test_a_failed_token_that_is_locked_holds_up_no_other(ask, make_token, connect, token_row):
    locked, free = [await make_token(status="failed", generation_error="x") for _ in range(2)]
    other = await connect()
    async with other.transaction():
        await other.execute("SELECT FROM tokens_s0 WHERE token_id = $1 FOR UPDATE", locked)
        (step,) = await ask("retry_failed", None, 10, None, None)

    assert dict(step) == {"retried": 1, "locked": 1, "next": None}
    assert [(await token_row(each))["status"] for each in (locked, free)] == ["failed", "detected"]


async def test_retry_forgets_an_old_due_time(connection, ask, make_token, token_row):
    later = await connection.fetchval("SELECT now() + interval '1 hour'")
    token_id = await make_token(status="failed", generation_due_at=later)

    await ask("retry_failed", None, 10, None, None)

    assert (await token_row(token_id))["generation_due_at"] is None


@pytest.mark.parametrize(
    ("columns", "unfinished"),
    [
        ({"status": "detected"}, True),
        ({"status": "generating"}, True),
        ({"status": "failed"}, False),
        ({"status": "ready"}, False),
        ({"status": "uploading", "image_url": "x"}, False),
    ],
)
async def test_unfinished_is_what_is_on_its_way(ask, make_token, columns, unfinished):
    await make_token(**columns)

    ((answer,),) = await ask("unfinished")

    assert answer is unfinished


async def test_a_token_that_waits_for_its_retry_is_unfinished(connection, ask, make_token):
    await make_token(generation_due_at=await connection.fetchval("SELECT now() + interval '1 hour'"))

    ((answer,),) = await ask("unfinished")

    assert answer is True


async def test_tokens_are_counted_by_status(ask, make_token):
    for status in ("detected", "failed", "failed"):
        await make_token(status=status)

    assert dict(await ask("count_statuses")) == {"detected": 1, "failed": 2}


async def test_statuses_that_somebody_made_up_are_counted_as_one(connection, ask, make_token):
    await connection.execute("ALTER TABLE tokens_s0 DROP CONSTRAINT tokens_s0_status_check")
    await make_token(status="FAILED")
    await connection.execute(
        "INSERT INTO tokens_s0 (status) SELECT repeat('failed', made / 2) FROM generate_series(3, 200) AS made"
    )

    assert [tuple(row) for row in await ask("count_statuses")] == [("other", 197), ("failed", 1 + 1)]


@pytest.mark.parametrize(
    ("connected", "counted"),
    [([], (0, 0)), (["hears"], (1, 1)), (["claims"], (1, 0)), (["hears", "claims", "claims", "other"], (2, 1))],
)
async def test_workers_are_counted_by_their_connections(ask, connect, connected, counted):
    for name in connected:
        client = await connect()
        await client.execute(f"SET application_name = '{name}'")
        if name == "hears":
            await client.execute("SELECT pg_advisory_lock(pg_backend_pid())")

    (row,) = await ask("count_workers", "hears", "claims")

    assert tuple(row) == counted


async def test_a_listener_that_holds_no_lock_is_not_counted_as_hearing(ask, connect):
    await (await connect()).execute("SET application_name = 'hears'")

    assert tuple((await ask("count_workers", "hears", "claims"))[0]) == (1, 0)


async def test_sessions_that_only_call_themselves_ours_are_not_counted(ask, connect_to, database):
    async with stranger(database) as url:
        for name in ("hears", "claims"):
            client = await connect_to(url)
            await client.execute(f"SET application_name = '{name}'; SELECT pg_advisory_lock(pg_backend_pid())")
        (row,) = await ask("count_workers", "hears", "claims")

    assert tuple(row) == (0, 0)


async def test_a_liveness_lock_is_one_workers(ask, connect, table):
    other = await connect()

    (taken,) = await ask("liveness", 2**63 - 1, table.relation)
    (refused,) = await ask("liveness", 2**63 - 1, table.relation, on=other)

    assert (tuple(taken), tuple(refused)) == ((True, None), (False, None))


async def test_a_channel_is_rung(connection, ask, connect):
    heard = anyio.Event()
    await connection.add_listener("a channel", lambda *_: heard.set())

    await ask("ring", "a channel", on=await connect())

    with anyio.fail_after(5):
        await heard.wait()


# The gate.


async def test_an_open_gate_is_told(ask):
    ((paused, reason, resumes_in, *_),) = await ask("gate_state")

    assert (paused, reason, resumes_in) == (False, None, None)


async def test_a_closed_gate_is_told_with_its_reason_and_rest(ask):
    ((was_open, _),) = await ask("pause_gate", 30.0, "429", False, "create")

    ((paused, reason, resumes_in, *_),) = await ask("gate_state")

    assert was_open is True
    assert (paused, reason, resumes_in) == (True, "429", pytest.approx(30, abs=1))


async def test_a_half_open_gate_is_told_as_closed(connection, ask):
    await connection.execute("UPDATE reactor.intake SET paused_until = now() - interval '1 second', reason = 'x'")

    ((paused, reason, resumes_in, *_),) = await ask("gate_state")

    assert (paused, reason, resumes_in) == (True, "x", 0)


async def test_a_gate_closed_without_end_has_no_rest(ask):
    await ask("pause", "operator", None)

    ((paused, reason, resumes_in, *_),) = await ask("gate_state")

    assert (paused, reason, resumes_in) == (True, "operator", None)


async def test_the_gate_is_never_closed_for_less_than_it_is(ask):
    await ask("pause_gate", 60.0, "long", False, "create")

    shorter = await ask("pause_gate", 10.0, "short", False, "create")
    ((_, reason, *_),) = await ask("gate_state")
    ((was_open, _),) = await ask("pause_gate", 120.0, "longer", False, "create")

    assert (shorter, reason, was_open) == ([], "long", False)


@pytest.mark.parametrize(("seconds", "kept"), [(0.2, 1), (30.0, 30), (300.0, 60)])
async def test_a_pause_is_kept_between_one_second_and_a_minute_for_probes(connection, ask, seconds, kept):
    await ask("pause_gate", seconds, "x", False, "create")

    assert await connection.fetchval("SELECT pause_seconds FROM reactor.intake") == kept


async def test_of_several_that_close_the_gate_at_once_one_finds_it_open(connection, ask, connect, until_blocked):
    clients, answers = [await connect() for _ in range(3)], []

    async def pause(client, seconds):
        answers.extend(await ask("pause_gate", seconds, "429", False, "create", on=client))

    async with anyio.create_task_group() as group, connection.transaction():
        await connection.execute("SELECT FROM reactor.intake FOR UPDATE")
        for number, client in enumerate(clients, 1):
            group.start_soon(pause, client, 10.0 * number)
            await until_blocked(client)

    assert [row["was_open"] for row in answers].count(True) == 1


async def test_opening_tells_why_it_was_closed_and_only_once(ask):
    await ask("pause_gate", 30.0, "429", False, "create")

    opened, again = await ask("open_gate", "create", None, "wake"), await ask("open_gate", "create", None, "wake")

    assert ([row["reason"] for row in opened], again) == (["429"], [])


async def test_a_gate_closed_for_a_refused_token_opens_only_for_a_check_of_that(ask):
    await ask("refuse_gate", "mark", "refused", 20.0)

    others = [await ask("open_gate", learnt, "refused", "wake") for learnt in ("create", "image")]
    another = await ask("open_gate", "check", "something else", "wake")
    its_own = await ask("open_gate", "check", "refused", "wake")

    assert (others, another) == ([[], []], [])
    assert [row["reason"] for row in its_own] == ["refused"]


@pytest.mark.parametrize(
    ("before", "seconds", "opens_on", "then"),
    [
        ("image", 30.0, "create", "image"),  # if only an image may open the gate, no accepted create does
        ("create", 30.0, "image", "image"),
        ("create", 30.0, "create", "create"),
    ],
)
async def test_a_pause_that_is_prolonged_opens_on_the_stricter_of_two(ask, before, seconds, opens_on, then):
    await ask("pause_gate", 5.0, "at first", False, before)
    await ask("pause_gate", seconds, "later", False, opens_on)

    assert (await ask("gate_state"))[0]["opens_on"] == then


async def test_an_operators_pause_for_a_while_is_nobody_elses(connection, ask):
    await ask("pause", "by hand", 60.0)

    longer = [await ask("pause_gate", 300.0, "429", False, "create"), await ask("refuse_gate", "mark", "401", 20.0)]
    opened = [await ask("open_gate", learnt, "by hand", "wake") for learnt in ("create", "image", "check")]
    await ask("half_open_gate", "wake")

    ((paused, reason, resumes_in, opens_on, *_),) = await ask("gate_state")
    assert (longer, opened) == ([[], []], [[], [], []])
    assert (paused, reason, 0 < resumes_in <= 60, opens_on) == (True, "by hand", True, "time")


async def test_an_operators_pause_whose_time_is_over_is_open_to_other_reasons(connection, ask):
    await ask("pause", "by hand", 5.0)
    await connection.execute("UPDATE reactor.intake SET paused_until = now()")

    ((was_open, _),) = await ask("pause_gate", 30.0, "429", False, "create")

    assert was_open
    assert await ask("resume", "wake") != []
    assert await ask("resume", "wake") == []


@pytest.mark.parametrize("limit", [1.0, 10.0, 60.0])
async def test_a_lower_limit_is_told_as_creates_a_minute_and_is_news_once(connection, ask, limit):
    first, again = [(await ask("limit_gate", limit))[0]["news"] for _ in range(2)]
    told = (await ask("gate_state"))[0]["limit_per_minute"]
    await connection.execute("UPDATE reactor.intake SET limited_until = now() - interval '1 second'")
    over = (await ask("gate_state"))[0]["limit_per_minute"]
    later = (await ask("limit_gate", limit))[0]["news"]
    slower = (await ask("limit_gate", limit + 1))[0]["news"]

    assert (first, again, later, slower) == (True, False, True, True)
    assert (told, over) == (60 / limit, None)


async def test_resume_lifts_a_lower_limit_too(ask):
    await ask("pause_gate", 30.0, "429", False, "create")
    await ask("limit_gate", 10.0)

    await ask("resume", "wake")

    assert tuple((await ask("gate_state"))[0]) == (False, None, None, None, None, None, None, False)


GAUGES = ("queue_depth", "oldest_seconds", "uploading_oldest_seconds", "notify_queue_usage", "paused", "bought_today")


async def test_gauges_of_an_empty_table_are_zero(ask):
    (row,) = await ask("gauges", "public.tokens_s0")

    assert tuple(row.keys()) == GAUGES
    assert tuple(row.values()) == (0, 0, 0, 0, False, 0)


async def test_gauges_tell_what_waits_and_how_long(ask, connection, make_token):
    ago = await connection.fetchrow("SELECT now() - interval '90 s' AS mint, now() - interval '50 min' AS bought")
    await make_token(mint_timestamp=ago["mint"])
    await make_token()
    await make_token(generation_due_at=ago["bought"], mint_timestamp=ago["mint"])
    await make_token(status="generating", mint_timestamp=ago["bought"])
    await make_token(status="uploading", image_url="https://x", generation_seeded_at=ago["bought"])
    await make_token(status="uploading", image_url="https://x")
    await make_token(status="ready", generation_seeded_at=ago["bought"] - (ago["mint"] - ago["bought"]))
    await ask("pause", "maintenance", None)

    (row,) = await ask("gauges", "public.tokens_s0")

    assert (row["queue_depth"], row["paused"]) == (3, True)
    assert row["oldest_seconds"] == pytest.approx(3000, abs=30)
    assert row["uploading_oldest_seconds"] == pytest.approx(3000, abs=30)


@pytest.mark.parametrize("never", ["-infinity", "infinity"])
async def test_a_time_without_an_end_is_no_age(ask, connection, never):
    await connection.execute(
        f"""
        INSERT INTO tokens_s0 (status, mint_timestamp, generation_due_at, generation_seeded_at, image_url) VALUES
          ('detected', '{never}', NULL, NULL, NULL), ('detected', now() - interval '90 s', NULL, NULL, NULL),
          ('detected', now(), '{never}', NULL, NULL),
          ('uploading', now(), NULL, '{never}', 'x'), ('uploading', now(), NULL, now() - interval '90 s', 'x')
        """
    )

    (row,) = await ask("gauges", "public.tokens_s0")

    assert row["oldest_seconds"] == pytest.approx(90, abs=30)
    assert row["uploading_oldest_seconds"] == pytest.approx(90, abs=30)


async def test_a_fresh_token_is_as_old_as_its_mint_and_a_retry_that_is_not_due_is_not_old(ask, connection, make_token):
    at = await connection.fetchrow("SELECT now() - interval '90 s' AS mint, now() + interval '1 h' AS due")
    await make_token(generation_due_at=at["due"])
    ((_, alone, *_),) = await ask("gauges", "public.tokens_s0")
    await make_token(mint_timestamp=at["mint"])
    ((depth, oldest, *_),) = await ask("gauges", "public.tokens_s0")

    assert (alone, depth) == (0, 2)
    assert oldest == pytest.approx(90, abs=30)
