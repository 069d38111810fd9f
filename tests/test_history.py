"""The history of attempts: what the statements that end an attempt write into it."""

import re
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial

import orjson
import pytest
from anyio import to_thread
from doubles import Barrier, DirectedProvider, running, until
from served import served

from reactor.database.session import Session
from reactor.database.store import Store
from reactor.database.timings import CONNECTION_TIMINGS
from reactor.engine.timings import Timings
from reactor.errors import ContentPolicyError, PermanentError, TransientError
from reactor.operations.history import NOT_KEPT, TOO_LONG, EntryPage, Purchases, of_token, purchases, since, today
from reactor.operations.overview import overview
from reactor.providers import Prediction
from reactor.web.metrics import Metrics

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_day")]

WORKER = 7
MODEL = "black-forest-labs/flux-schnell"
PAGE = "https://replicate.com/p/prediction1"


def history(outcome, **told):
    told = {"outcome": outcome, "claimed_ago": 3.0, "attempt": 1, "censored": False, "model": "a/model", **told}
    return orjson.dumps(told).decode()


@pytest.fixture
def claim(ask, make_token):
    async def claim():
        await make_token()
        (row,) = await ask("claim", 0.0, 1, WORKER, 60.0)
        return row

    return claim


@pytest.fixture
def settle(ask):
    """Settle a claimed token; return the answer."""

    async def settle(
        row, status="uploading", *, outcome="succeeded", prediction_id="p", error=None, due_in=None, **told
    ):
        url = "https://x/1" if status == "uploading" else None
        told = history(outcome, **told) if outcome else None
        given = status, url, error, prediction_id, 0, due_in, False, row["seed"], told
        rows = await ask("settle", [row["id"]], [row["epoch"]], [WORKER], *([value] for value in given))
        return rows[0]["answer"]

    return settle


@pytest.fixture
def entries(connection):
    async def entries():
        return await connection.fetch("SELECT * FROM reactor.attempts ORDER BY id")

    return entries


async def test_a_settled_token_has_an_entry_that_says_when_and_what(connection, claim, settle, entries):
    row = await claim()

    assert await settle(row, bought_ago=2.0, predict_seconds=0.5, images=1, cost="0.003", web_url=PAGE) == "won"

    (entry,) = await entries()
    assert (entry["tokens_table"], entry["key"]) == ("public.tokens_s0", str(row["id"]))
    assert (entry["token_id"], entry["epoch"], entry["worker"]) == (row["token_id"], 1, WORKER)
    assert (entry["attempt"], entry["censored"], entry["outcome"]) == (1, False, "succeeded")
    assert (entry["model"], entry["seed"], entry["prediction_id"]) == ("a/model", row["seed"], "p")
    assert (entry["predict_seconds"], entry["images"], entry["cost"]) == (0.5, 1, Decimal("0.003"))
    assert entry["web_url"] == PAGE
    assert entry["ended_at"] - entry["claimed_at"] == pytest.approx(timedelta(seconds=3), abs=timedelta(seconds=0.1))
    assert entry["ended_at"] - entry["bought_at"] == pytest.approx(timedelta(seconds=2), abs=timedelta(seconds=0.1))
    assert entry["ended_at"] <= await connection.fetchval("SELECT clock_timestamp()")


async def test_a_purchase_of_an_earlier_claim_was_bought_when_its_seed_was_written(claim, settle, entries):
    row = await claim()

    await settle(row)

    (entry,) = await entries()
    assert entry["bought_at"] == row["seeded_at"]


async def test_an_attempt_without_a_purchase_was_bought_at_no_time(claim, settle, entries):
    row = await claim()

    await settle(row, "detected", outcome="released", prediction_id=None, due_in=0.0, error="stopped")

    (entry,) = await entries()
    assert (entry["outcome"], entry["bought_at"], entry["error"]) == ("released", None, "stopped")


async def test_a_repeat_after_an_unknown_answer_adds_no_entry(claim, settle, entries):
    row = await claim()
    await settle(row)

    assert await settle(row) == "already"
    assert len(await entries()) == 1


async def test_without_a_history_nothing_is_written(claim, settle, entries):
    row = await claim()

    assert await settle(row, outcome=None) == "won"
    assert await entries() == []


async def test_what_a_zombie_bought_has_an_entry_and_only_one(connection, claim, settle, entries):
    row = await claim()
    await connection.execute("UPDATE tokens_s0 SET generation_epoch = 9, generation_seed = 5")

    assert await settle(row, images=1) == "lost"
    assert await settle(row, images=1) == "lost"

    (entry,) = await entries()
    assert (entry["outcome"], entry["prediction_id"], entry["seed"]) == ("lost", "p", row["seed"])
    assert (entry["epoch"], entry["images"], entry["bought_at"]) == (1, 1, None)


async def test_a_token_that_is_gone_has_an_entry_for_its_purchase(connection, claim, settle, entries):
    row = await claim()
    await connection.execute("DELETE FROM tokens_s0")

    assert await settle(row) == "lost"
    assert [(entry["outcome"], entry["token_id"]) for entry in await entries()] == [("lost", None)]


async def test_an_outcome_that_was_written_before_is_no_zombies(connection, claim, settle, entries):
    """The answer was lost, and another worker claims the token before the outcome is repeated."""
    row = await claim()
    await settle(row, "detected", outcome="retry", due_in=0.0, error="boom")
    await connection.execute("UPDATE tokens_s0 SET generation_epoch = 2")

    assert await settle(row, "detected", outcome="retry", due_in=0.0, error="boom") == "lost"
    assert [entry["outcome"] for entry in await entries()] == ["retry"]


async def test_a_locked_row_gets_its_entry_once_it_is_settled(connection, connect, ask, claim, settle, entries):
    row = await claim()
    other = await connect()
    transaction = other.transaction()
    await transaction.start()
    await other.execute("UPDATE tokens_s0 SET image_url = 'https://other'")

    assert await settle(row) == "locked"
    assert await entries() == []
    await transaction.rollback()
    assert await settle(row) == "won"
    assert len(await entries()) == 1


async def test_a_rejection_that_is_repeated_has_one_entry(ask, claim, entries):
    row = await claim()
    call = row["id"], row["epoch"], WORKER, 1, "NSFW", "p", history("rejected", images=0), 0
    (intent,), (again,) = await ask("censor", *call), await ask("censor", *call)

    (entry,) = await entries()
    assert (entry["outcome"], entry["seed"], entry["prediction_id"]) == ("rejected", row["seed"], "p")
    assert (entry["bought_at"], entry["error"]) == (row["seeded_at"], "NSFW")
    assert intent == again


@pytest.fixture
def rescue(connection, ask):
    """Let the lease end, and take the token over; `rescues`: times it was taken over before."""

    async def rescue(owner="dead", *, rescues=0, told='{"model": "a/model"}'):
        lease = await connection.fetchval(
            "UPDATE tokens_s0 SET generation_lease_ends_at = now() - interval '1 s', generation_rescues = $1"
            " RETURNING extract(epoch FROM generation_lease_ends_at)::double precision", rescues
        )  # fmt: skip
        (held,) = await connection.fetch("SELECT id, generation_epoch FROM tokens_s0")
        return await ask("rescue", [held[0]], [held[1]], [lease], [owner], 8, 60.0, 5, told)

    return rescue


async def test_a_takeover_ends_the_attempt_of_the_dead_worker(connection, claim, settle, rescue, entries):
    row = await claim()
    await connection.execute("UPDATE tokens_s0 SET generation_prediction_id = 'p'")

    await rescue()

    (entry,) = await entries()
    assert (entry["outcome"], entry["worker"], entry["epoch"], entry["attempt"]) == ("rescued", WORKER, 1, 1)
    assert (entry["prediction_id"], entry["seed"], entry["images"]) == ("p", row["seed"], None)
    assert (entry["error"], entry["model"], entry["claimed_at"]) == ("its worker died", "a/model", None)
    assert await settle(row) == "lost"
    assert [entry["outcome"] for entry in await entries()] == ["rescued", "lost"]


async def test_a_zombie_that_bought_nothing_adds_nothing_to_the_takeover(claim, settle, rescue, entries):
    row = await claim()
    await rescue()

    assert await settle(row, "detected", outcome="retry", prediction_id=None, due_in=0.0) == "lost"
    assert [entry["outcome"] for entry in await entries()] == ["rescued"]


async def test_a_token_that_kills_its_workers_fails_in_the_history_too(claim, rescue, entries):
    await claim()

    await rescue(rescues=5)

    (entry,) = await entries()
    assert (entry["outcome"], entry["error_type"]) == ("failed", "PermanentError")
    assert (entry["error"], entry["epoch"]) == ("worker died 5 times", 1)


@pytest.mark.parametrize("owner", ["own", "foreign"])
async def test_a_token_that_no_attempt_had_has_none_that_ended(claim, rescue, entries, owner):
    await claim()

    assert await rescue(owner)
    assert await entries() == []


async def test_a_takeover_writes_nothing_without_a_history(claim, rescue, entries):
    await claim()

    assert await rescue(told=None)
    assert await entries() == []


# By a worker.


async def test_a_rejected_purchase_and_the_one_after_it_are_two(database, make_token, connection, entries):
    provider = DirectedProvider()
    provider.script["wait"] = [ContentPolicyError("NSFW content detected")]
    async with running(database, provider, price_per_image="0.003") as (_, log):
        await make_token()
        await log.wait("token.generation.succeeded")

    rejected, used = await entries()
    seed = await connection.fetchval("SELECT generation_seed FROM tokens_s0")
    assert (rejected["outcome"], rejected["attempt"], rejected["censored"]) == ("rejected", 1, False)
    assert (rejected["prediction_id"], rejected["error_type"]) == ("prediction1", "ContentPolicyError")
    assert (rejected["images"], rejected["cost"], rejected["error"]) == (0, 0, "NSFW content detected")
    assert (used["outcome"], used["attempt"], used["censored"]) == ("succeeded", 2, True)
    assert (used["prediction_id"], used["images"], used["cost"]) == ("prediction2", 1, Decimal("0.003"))
    assert used["seed"] == seed != rejected["seed"]
    assert used["claimed_at"] <= used["bought_at"] <= used["ended_at"]
    assert (used["model"], used["error_type"], used["error"]) == (MODEL, None, None)


async def test_each_attempt_of_a_token_is_told(database, make_token, entries):
    provider = DirectedProvider()
    provider.script["create"] = [TransientError("try later", retry_after=0.0)]
    provider.script["wait"] = [TransientError("it broke", retry_after=0.0), PermanentError("no such style")]
    async with running(database, provider) as (_, log):
        await make_token()
        await log.wait("token.generation.failed")

    told = [(row["outcome"], row["attempt"], row["error_type"], row["prediction_id"]) for row in await entries()]
    assert told == [
        ("retry", 1, "TransientError", None),
        ("retry", 2, "TransientError", "prediction1"),
        ("failed", 3, "PermanentError", "prediction2"),
    ]


async def test_what_the_provider_says_of_a_prediction_is_kept(database, make_token, entries):
    provider = DirectedProvider()
    ended = Prediction("prediction1", image_url="https://x/1", predict_seconds=0.56, images=2, web_url=PAGE)
    provider.script["wait"] = [lambda _: ended_as(ended)]
    async with running(database, provider) as (_, log):
        await make_token()
        await log.wait("token.generation.succeeded")

    (entry,) = await entries()
    assert (entry["predict_seconds"], entry["images"], entry["web_url"], entry["cost"]) == (0.56, 2, PAGE, None)


async def ended_as(prediction):
    return prediction


async def test_a_text_is_redacted_as_in_the_row(database, make_token, connection, entries):
    provider = DirectedProvider()
    provider.script["wait"] = [PermanentError("the key r8_a_secret_that_must_not_be_told is odd\x00\u202e")]
    async with running(database, provider) as (_, log):
        await make_token()
        await log.wait("token.generation.failed")

    (entry,) = await entries()
    assert "secret" not in entry["error"]
    assert entry["error"] == await connection.fetchval("SELECT generation_error FROM tokens_s0")


async def test_history_days_of_0_keeps_none(database, make_token, entries):
    async with running(database, DirectedProvider(), history_days=0) as (_, log):
        await make_token()
        await log.wait("token.generation.succeeded")

    assert await entries() == []


async def test_a_stop_releases_and_tells(database, make_token, entries):
    provider = DirectedProvider()
    async with running(database, provider) as (worker, log):
        provider.script["wait"] = [lambda _: log.wait("never")]
        await make_token()
        await log.wait("token.generation.started")
        worker.stop_now()
        await log.wait("token.generation.released")

    (entry,) = await entries()
    assert (entry["outcome"], entry["prediction_id"], entry["images"]) == ("released", "prediction1", None)


async def test_what_a_zombie_bought_is_told_if_its_renewals_find_the_loss(database, make_token, connection, entries):
    provider, generating = DirectedProvider(), Barrier()
    provider.script["wait"] = [generating]
    async with running(database, provider, lease_seconds=1) as (_, log):
        await make_token()
        await generating.entered()
        await connection.execute("UPDATE tokens_s0 SET generation_epoch = generation_epoch + 1")
        await log.wait("token.lease_lost")
        await until(entries)

    (entry,) = await entries()
    assert (entry["outcome"], entry["prediction_id"], entry["epoch"]) == ("lost", "prediction1", 1)


# Pruning.

OLD = """
    INSERT INTO reactor.attempts (tokens_table, key, epoch, outcome, ended_at)
    SELECT 'public.tokens_s0', number::text, 1, 'succeeded', now() - number * interval '1 hour'
    FROM generate_series(1, 100) AS number
"""


async def test_pruning_removes_the_oldest_and_keeps_what_is_younger(connection, ask, entries):
    await connection.execute(OLD)

    (first,) = await ask("prune_history", 2, 30)
    (second,) = await ask("prune_history", 2, 30)
    (third,) = await ask("prune_history", 2, 30)

    assert [first["pruned"], second["pruned"], third["pruned"]] == [30, 23, 0]
    assert {int(entry["key"]) for entry in await entries()} == {*range(1, 48)}


async def test_a_worker_prunes_step_by_step_until_nothing_old_is_left(database, connection):
    await connection.execute(OLD)
    steps = []

    class Counted(Store):
        async def prune_history(self, days, rows):
            steps.append(await super().prune_history(days, min(rows, 20)))
            return rows if steps[-1] == 20 else 0  # a step that was full

    async def the_last_is_answered():
        return steps and steps[-1] < 20

    async with running(database, DirectedProvider(), history_days=1, store=Counted, timings=Timings(prune_pause=0.01)):
        await until(the_last_is_answered)

    assert steps == [20, 20, 20, 17]
    assert await connection.fetchval("SELECT count(*) FROM reactor.attempts") == 23


async def test_without_a_history_what_is_there_stays(database, connection):
    await connection.execute(OLD)
    async with running(database, DirectedProvider(), history_days=0, timings=Timings(prune_every=0.01)):
        pass

    assert await connection.fetchval("SELECT count(*) FROM reactor.attempts") == 100


# Reading.

ENTRIES = [
    # prediction, outcome, images, error
    ("used", "succeeded", 1, None),
    ("resumed", "rescued", None, "its worker died"),
    ("resumed", "lost", 1, None),
    ("resumed", "succeeded", 1, None),
    ("rejected", "rejected", 0, "NSFW"),
    ("slow", "retry", 0, "Timed out after 300 s, still processing"),
    ("slower", "retry", 0, "Prediction was canceled at its deadline"),
    ("broken", "retry", 0, "it broke"),
    ("last", "failed", 0, "it broke after 3 attempts"),
    ("refused", "failed", 1, "The database refused the result"),
    ("zombie", "lost", 1, None),
    ("gone", "succeeded", 1, None),
    ("gone", "expired", None, "nobody took it"),
    ("under way", "released", None, None),
    ("cut off", "retry", None, "Timed out after 300 s, still processing"),
    (None, "retry", None, "no answer"),
]


@pytest.fixture
async def session(database):
    session = Session(database, name="test")
    yield session
    await session.aclose()


async def write(connection, entries, *, ago="0 s", table="public.tokens_s0"):
    await connection.executemany(
        "INSERT INTO reactor.attempts (tokens_table, key, epoch, outcome, prediction_id, images, cost, error, ended_at)"
        f" VALUES ('{table}', 'k', 1, $2, $1, $3::integer, 0.25 * $3, $4, clock_timestamp() - interval '{ago}')",
        entries,
    )


async def test_each_purchase_is_counted_once_by_what_became_of_it(connection, session):
    await write(connection, ENTRIES)

    found = await purchases(session, seconds=3600)

    assert dict(found.counts) == {
        "used": 2, "rejected": 1, "timed_out": 2, "failed": 3, "lost": 1, "expired": 1, "open": 2
    }  # fmt: skip
    assert (found.bought, found.used, found.wasted, found.cost) == (12, 2, 8, Decimal("1.25"))


async def test_a_days_sums_begin_at_midnight_utc(connection, session, reactor):
    since_midnight = "SELECT extract(epoch FROM clock_timestamp() - date_trunc('day', clock_timestamp(), 'UTC'))"
    seconds = float(await connection.fetchval(since_midnight))
    await write(connection, [("yesterday", "succeeded", 1, None)], ago=f"{seconds + 60} s")
    await write(connection, [("today", "succeeded", 1, None)])

    assert dict((await purchases(session)).counts) == {"used": 1}
    assert dict((await purchases(session, seconds=seconds + 120)).counts) == {"used": 2}


async def test_a_purchase_counts_on_the_day_when_it_was_bought_and_on_no_other(connection, session):
    """Also if it ended, or its image expired, on the next."""
    await write(
        connection, [("late", "succeeded", 1, None), ("gone", "expired", 1, None), ("new", "succeeded", 1, None)]
    )
    await write(connection, [("resumed", "released", None, None), ("resumed", "succeeded", 1, None)])
    await connection.execute(
        "UPDATE reactor.attempts SET bought_at = date_trunc('day', now(), 'UTC') - interval '1 s'"
        " WHERE prediction_id IN ('late', 'gone') OR outcome = 'released'"
    )

    assert dict((await purchases(session)).counts) == {"used": 1}
    assert dict((await purchases(session, seconds=2 * 86400)).counts) == {"used": 3, "expired": 1}


async def test_status_tells_what_was_bought_today(connection, reactor):
    await write(connection, ENTRIES)

    _, plain, _ = await to_thread.run_sync(reactor, "status")
    _, told, _ = await to_thread.run_sync(reactor, "status", "--json")

    words = "12 bought, 2 used, 8 wasted (1 rejected, 3 failed, 2 timed out, 1 lost, 1 expired), cost 1.25"
    assert words in plain
    today = orjson.loads(told)["today"]
    assert (today["bought"], today["used"], today["wasted"], today["cost"]) == (12, 2, 8, 1.25)


async def test_without_a_history_nobody_knows_what_was_bought_today(database, connection, reactor, monkeypatch):
    await write(connection, ENTRIES)
    async with served(database, history_days=0) as (client, _):
        page, api = (await client.get("/")).text, (await client.get("/api/status")).json()
    monkeypatch.setenv("HISTORY_DAYS", "0")
    plain = (await to_thread.run_sync(reactor, "status"))[1]
    said = orjson.loads((await to_thread.run_sync(reactor, "status", "--json"))[1])

    assert "Unknown: no history is kept." in page
    assert re.search(r"^today +unknown: no history is kept$", plain, re.MULTILINE)
    assert (api["today"], api["today_unknown"]) == (said["today"], said["today_unknown"]) == (None, NOT_KEPT)


async def test_sums_that_take_too_long_are_unknown_and_the_rest_of_the_status_is_told(database, connection, table):
    timings = replace(CONNECTION_TIMINGS, lock_timeout=5.0)
    async with aclosing(Session(database, name="test", timings=timings)) as session:
        await session.fetch("SET statement_timeout = '0.2s'")
        async with connection.transaction():
            await connection.execute("LOCK TABLE reactor.attempts")
            spent = await today(session)
        await session.fetch("RESET statement_timeout")
        state = await overview(session, table, bought=partial(today, session))

    assert spent == TOO_LONG
    assert (state.today, state.today_unknown) == (Purchases(), None)


async def test_history_and_metrics_count_the_same_purchases(database, session, make_token, connection):
    provider, generating = DirectedProvider(), Barrier()
    late = TransientError("Timed out after 300 s, still processing", retry_after=0.0)
    broken = TransientError("it broke", retry_after=0.0)
    provider.script["wait"] = [ContentPolicyError("NSFW"), late, broken, None, PermanentError("no"), None]
    metrics = Metrics(price_per_image=Decimal("0.25"))
    async with running(database, provider, price_per_image="0.25", max_attempts=9) as (_, log):
        for outcome in ("succeeded", "failed", "succeeded"):
            await make_token()
            await log.wait(f"token.generation.{outcome}", times=len(log.of(f"token.generation.{outcome}")) + 1)
        provider.script["wait"] = [generating]
        await make_token()
        await generating.entered()
        await connection.execute("UPDATE tokens_s0 SET generation_epoch = 9 WHERE status = 'generating'")
        generating.open()
        await log.wait("token.lease_lost")
    for told in log.events:
        metrics(told["event"], {name: value for name, value in told.items() if name != "event"})

    found = await purchases(session)
    assert dict(found.counts) == {"rejected": 1, "timed_out": 1, "failed": 2, "used": 2, "lost": 1}
    assert found.bought == len(provider.asked("create"))
    assert found.cost == Decimal("0.75")
    counted = metrics.render({}).decode()
    for became, count in found.counts.items():
        assert f'reactor_purchases_total{{outcome="{became}"}} {count}.0' in counted
    assert "reactor_purchase_cost_total 0.75" in counted


async def test_without_a_price_there_is_no_cost(connection, session):
    await connection.execute(
        "INSERT INTO reactor.attempts (tokens_table, key, epoch, outcome, prediction_id, images)"
        " VALUES ('public.tokens_s0', '1', 1, 'succeeded', 'p', 1)"
    )

    assert (await purchases(session)).as_json["cost"] is None


async def test_a_tokens_story_is_its_own_newest_first(connection, session, table, claim, settle):
    row = await claim()
    await settle(row, images=1, cost="0.003")
    await connection.execute(
        "INSERT INTO reactor.attempts (tokens_table, key, epoch, outcome) SELECT place, key, 2, 'lost'"
        " FROM reactor.attempts, unnest(ARRAY[tokens_table, 'public.tokens_s1']) AS place"
    )
    await write(connection, ENTRIES)

    newest, oldest = await of_token(session, table, row["id"])

    assert (newest.outcome, oldest.outcome) == ("lost", "succeeded")
    assert (oldest.token_id, newest.token_id) == (row["token_id"], str(row["id"]))
    assert oldest.as_json["cost"] == 0.003
    assert oldest.as_json["ended_at"] == oldest.ended_at.isoformat()
    assert await of_token(session, table, row["id"], before=newest.id) == [oldest]
    assert await of_token(session, table, row["id"], rows=1) == [newest]


async def test_the_tables_history_can_be_read_in_parts(connection, session, table):
    await write(connection, ENTRIES, ago="2 hours")
    await write(connection, ENTRIES)
    await write(connection, ENTRIES, table="public.tokens_s1")

    newest = (await since(session, table, seconds=3600, outcomes=["lost", "expired"])).entries
    first = (await since(session, table, rows=20)).entries
    second = (await since(session, table, rows=20, before=first[-1].id)).entries

    assert [entry.prediction_id for entry in newest] == ["gone", "zombie", "resumed"]
    assert (len(first), len(second)) == (20, 12)
    assert [entry.id for entry in (*first, *second)] == sorted((entry.id for entry in (*first, *second)), reverse=True)


@pytest.mark.parametrize("look", [1, 5, 10_000])
async def test_pages_of_the_history_neither_repeat_nor_skip_what_ended_at_once_or_was_written_late(
    connection, session, table, look
):
    """In the order of their ends, though an entry of a later end may have the smaller id."""
    await connection.execute(
        "INSERT INTO reactor.attempts (id, tokens_table, key, epoch, outcome, ended_at) OVERRIDING SYSTEM VALUE"
        " SELECT 100 - n, 'public.tokens_s0', 'k', 1, CASE WHEN n % 3 = 0 THEN 'lost' ELSE 'retry' END,"
        " now() + (n / 12) * interval '1 s' FROM generate_series(1, 30) AS n"
    )
    in_order = "SELECT id FROM reactor.attempts WHERE outcome = 'lost' ORDER BY ended_at DESC, id DESC"

    part = partial(since, session, table, outcomes=["lost"], rows=3, look=look)
    page = await part()
    found = page.entries
    while page.next is not None:
        page = await part(before=page.next)
        found += page.entries

    assert [entry.id for entry in found] == [row["id"] for row in await connection.fetch(in_order)]
    assert await since(session, table, before=10**9) == EntryPage([], None)


async def test_a_search_in_the_history_ends_in_time_and_says_where_to_go_on(connection, session, table):
    await connection.execute(
        "INSERT INTO reactor.attempts (tokens_table, key, epoch, outcome, ended_at)"
        " SELECT 'public.tokens_s0', 'k', 1, 'retry', now() - n * interval '1 s' FROM generate_series(1, 30) AS n"
    )
    rare = partial(since, session, table, outcomes=["lost"], rows=3)

    cut = await rare(look=10, within=0.0)
    rest = await rare(look=10, before=cut.next)

    assert (cut.entries, rest) == ([], EntryPage([], None))
    assert cut.next is not None


async def test_what_a_terminal_could_obey_is_not_read_from_the_history(connection, session, table):
    await write(connection, [("p", "failed", 0, "\x1b[2J\u202ehidden")])

    (entry,) = (await since(session, table)).entries

    assert "\x1b" not in entry.error
    assert "\u202e" not in entry.error
