"""`reactor audit` against a real listing, a real worker and a real database, with what a test plants."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anyio
import httpx
import pytest
from conftest import command
from doubles import SECRET, running, until
from roles import KINDS, drop_roles, make_roles
from wire import Wire, http, quick_tls  # noqa: F401  (a fixture)

from reactor.database.discovery import discover
from reactor.errors import TransientError, UnauthorizedError
from reactor.migrations import revisions
from reactor.operations.audit_reads import audit
from reactor.operations.expired import retry_expired
from reactor.providers.limits import Limits
from reactor.providers.replicate import ReplicateProvider
from reactor.providers.walk import Inputs, walk
from reactor.sandbox import Fault, Sandbox, Timing
from reactor.sandbox.predictions import Prediction

pytestmark = pytest.mark.anyio

QUICK = Limits(first_poll=0.02, reads_per_second=1000.0)
INPUTS = Inputs("seed", {})
MODEL = "black-forest-labs/flux-schnell"
TAKEN = """
    UPDATE tokens_s0 SET status = 'failed', generation_error = 'x', generation_epoch = 9, generation_seed = 5,
      generation_worker = NULL, generation_lease_ends_at = NULL
"""
LONG_AGO = "UPDATE reactor.attempts SET ended_at = now() - interval '2 hours', bought_at = now() - interval '2 hours'"
ANOTHER = """
    INSERT INTO reactor.attempts (tokens_table, key, epoch, outcome, ended_at)
    VALUES ('x', 'x', 1, 'retry', now() - interval '1 day')
"""
REJECTED, FAILED = "a fox [sandbox: nsfw]", "a fox [sandbox: failed text=(E1001)]"


class Stage:
    """A sandbox, a worker and what an audit finds between them."""

    def __init__(self, sandbox, base_url, provider, asked, log):
        self.sandbox, self.base_url, self._provider, self._asked, self.log = sandbox, base_url, provider, asked, log

    async def audit(self, *, since=86400.0, **given):
        session, table = self._asked
        return await audit(session, table, self._provider, INPUTS, since, **given)

    async def kinds(self, **given):
        """The kind of each prediction, by its place in the ledger."""
        found = {each.prediction_id: each.kind for each in (await self.audit(**given)).judged}
        ledger = [found.pop(each.id, None) for each in self.sandbox.ledger]
        assert found == {}
        return ledger

    async def has_bought(self):
        return bool(self.sandbox.ledger)

    async def buy(self, **given):
        """Buy as another program would; return the prediction."""
        url = f"{self.base_url}/v1/models/{MODEL}/predictions"
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {SECRET}"}) as client:
            answer = await client.post(url, json={"input": {"prompt": "a hare", **given}})
        assert answer.status_code == 201
        return self.sandbox.ledger[-1]


@pytest.fixture
async def opened(connection, database, open_session):
    """Open a stage."""
    session = open_session(database)
    asked = session, await discover(session, "tokens_s0")

    @asynccontextmanager
    async def opened(**given):
        sandbox = Sandbox(Timing.instant(), token=SECRET)
        async with sandbox.serve() as base_url:
            provider = ReplicateProvider(SECRET, base_url=base_url, limits=QUICK)
            try:
                async with running(database, provider, **given) as (_, log):
                    yield Stage(sandbox, base_url, provider, asked, log)
            finally:
                await provider.aclose()

    return opened


async def test_what_a_fleet_does_is_in_order_or_has_its_reason(opened, make_token):
    async with opened(price_per_image="0.003", breaker_threshold=0) as stage:
        for prompt in ("a fox", REJECTED, FAILED):
            await make_token(prompt=prompt)
        await stage.log.wait("token.generation.succeeded", times=2)
        await stage.log.wait("token.generation.failed")
        found = await stage.audit()

    assert found.ok
    assert found.counts["used"] == 2
    assert found.counts["unused"] == len(stage.sandbox.ledger) - 2
    reasons = sorted(each.why.partition(":")[0] for each in found.judged if each.kind == "unused")
    assert reasons == ["its prompt was rejected", "its token failed"]
    assert found.cost("used") == Decimal("0.006")
    assert {each.status for each in found.judged} == {"succeeded", "failed"}
    assert all(each.web_url.endswith(each.prediction_id) for each in found.judged)


async def test_a_purchase_under_way_is_in_order(opened, make_token):
    async with opened() as stage:
        await make_token(prompt="a fox [sandbox: run=30]")
        await stage.log.wait("token.generation.started")
        await until(stage.has_bought)

        assert await stage.kinds() == ["in_flight"]


async def test_a_planted_second_purchase_for_a_seed_is_found(opened, make_token, token_row):
    async with opened() as stage:
        await make_token()
        await stage.log.wait("token.generation.succeeded")
        await stage.buy(seed=(await token_row(1))["generation_seed"])

        assert await stage.kinds() == ["used", "bought_twice"]
        assert not (await stage.audit()).ok


async def test_a_purchase_for_no_token_is_found_and_one_of_another_program_is_not_ours(opened, make_token):
    async with opened() as stage:
        await make_token()
        await stage.log.wait("token.generation.succeeded")
        await stage.buy(seed=7)
        await stage.buy()
        await stage.buy(seed=8, num_outputs=2)

        assert await stage.kinds() == ["used", "without_token", "not_ours", "not_ours"]


async def test_a_used_prediction_that_the_provider_denies_is_found(opened, make_token):
    async with opened() as stage:
        await make_token()
        await stage.log.wait("token.generation.succeeded")
        stage.sandbox.ledger[0].gone = True

        assert await stage.kinds() == ["denied"]


async def test_a_used_prediction_that_the_listing_lacks_is_asked_for(opened, make_token):
    async with opened() as stage:
        await make_token()
        await stage.log.wait("token.generation.succeeded")
        stage.sandbox.ledger[0].unlisted = 1000.0

        assert await stage.kinds() == ["used"]


async def test_a_used_prediction_that_the_provider_no_longer_keeps_is_unknown(opened, make_token, connection):
    async with opened() as stage:
        await make_token()
        await stage.log.wait("token.generation.succeeded")
        stage.sandbox.ledger[0].gone = True
        for table, column in (("tokens_s0", "generation_seeded_at"), ("reactor.attempts", "bought_at")):
            await connection.execute(f"UPDATE {table} SET {column} = now() - interval '2 hours'")
        found = await stage.audit()

    assert [each.kind for each in found.judged] == ["unknown"]
    assert found.ok


async def test_a_purchase_whose_input_was_removed_is_known_by_its_id_alone(opened, make_token):
    async with opened() as stage:
        await make_token()
        await stage.log.wait("token.generation.succeeded")
        await stage.buy(seed=7)
        for each in stage.sandbox.ledger:
            each.retention = 0.0

        assert await stage.kinds() == ["used", "unknown"]


async def test_an_expired_image_and_the_one_made_again_are_explained(opened, make_token, connection, database):
    async with opened() as stage:
        await make_token()
        await stage.log.wait("token.generation.succeeded")
        stage.sandbox.ledger[0].requested_at -= 7200.0
        await connection.execute("UPDATE tokens_s0 SET generation_seeded_at = now() - interval '2 hours'")
        await connection.execute(LONG_AGO)
        assert [step.retried async for step in retry_expired(*stage._asked)] == [1]
        await stage.log.wait("token.generation.succeeded", times=2)
        found = await stage.audit()

    assert [each.kind for each in sorted(found.judged, key=lambda each: each.created_at)] == ["unused", "used"]
    assert found.ok


async def test_a_zombies_purchase_is_explained(opened, make_token, connection):
    async with opened(lease_seconds=60) as stage:
        await make_token(prompt="a fox [sandbox: run=60]")
        await until(stage.has_bought)
        await connection.execute(TAKEN)
        stage.sandbox.ledger[0].run = 0.0
        await stage.log.wait("token.lease_lost")
        await until(lambda: connection.fetchval("SELECT count(*) = 1 FROM reactor.attempts"))
        found = await stage.audit()

    (judged,) = found.judged
    assert (judged.kind, judged.why) == ("unused", "its worker had lost the token by then")


async def test_a_create_that_nobody_saw_answered_is_under_way_until_the_next_claim_finds_it(opened, make_token):
    async with opened() as stage:
        stage.sandbox.fail(Fault("reset", after=True, times=1))
        stage.sandbox.fail(Fault("500", on="list", times=1))
        await make_token()
        await stage.log.wait("token.generation.succeeded")

        assert await stage.kinds() == ["used"]


async def test_a_token_whose_seed_is_older_than_the_audit_explains_its_purchase(opened, make_token, connection):
    async with opened(history_days=0) as stage:
        await make_token()
        await stage.log.wait("token.generation.succeeded")
        await connection.execute("UPDATE tokens_s0 SET generation_seeded_at = now() - interval '30 days'")
        await connection.execute(ANOTHER)

        assert await stage.kinds() == ["used"]


async def test_the_tokens_of_every_table_count(opened, make_token, connection, database):
    await revisions.upgrade(database, table="tokens_s1")
    async with opened() as stage:
        await make_token()
        await stage.log.wait("token.generation.succeeded")
        bought = await stage.buy(seed=7)
        await connection.execute(
            "INSERT INTO tokens_s1 (status, image_url, generation_seed, generation_seeded_at, generation_prediction_id)"
            " VALUES ('uploading', 'https://x', 7, now(), $1)",
            bought.id,
        )

        assert await stage.kinds() == ["used", "used"]


async def test_an_audit_of_many_steps_misses_nothing(opened, make_token, connection):
    async with opened() as stage:
        for _ in range(10):
            await make_token()
        await stage.log.wait("token.generation.succeeded", times=10)
        await connection.execute("UPDATE reactor.attempts SET ended_at = '2999-01-01' WHERE id % 2 = 0")
        whole, stepwise = await stage.audit(), await stage.audit(step=3)
        await connection.execute("UPDATE tokens_s0 SET generation_prediction_id = NULL, generation_seed = NULL")
        by_history = await stage.audit(step=3)

    assert whole.counts == stepwise.counts == by_history.counts
    assert whole.counts["used"] == 10


async def test_only_the_time_of_the_audit_is_judged(opened, make_token):
    async with opened() as stage:
        await make_token()
        await stage.log.wait("token.generation.succeeded")
        (await stage.buy(seed=7)).requested_at -= 3600.0

        assert await stage.kinds(since=1800.0) == ["used", None]


@pytest.fixture(scope="module")
def names(server_url):
    names = {kind: f"reactor_test_audit_{kind}" for kind in KINDS}
    yield names
    anyio.run(drop_roles, server_url, names.values())


async def test_a_reader_may_audit_and_what_is_hidden_from_it_is_unknown(
    opened, make_token, connection, database, names, open_session
):
    urls = await make_roles(database, names)
    async with opened() as stage:
        await make_token()
        await stage.log.wait("token.generation.succeeded")
        await stage.buy(seed=7)
        session = open_session(urls["reader"])
        stage._asked = session, await discover(session, "tokens_s0")
        assert await stage.kinds() == ["used", "without_token"]
        await connection.execute("ALTER TABLE tokens_s0 ENABLE ROW LEVEL SECURITY")

        assert await stage.kinds() == ["used", "unknown"]


# The walk.


@pytest.fixture
async def provider_of():
    """A provider at a base URL."""
    made = []

    def provider_of(base_url):
        made.append(ReplicateProvider(SECRET, base_url=base_url, limits=QUICK))
        return made[-1]

    yield provider_of
    for provider in made:
        await provider.aclose()


async def test_a_walk_reads_all_pages_back_to_its_time_and_no_further(provider_of, connection):
    sandbox = Sandbox(Timing.instant(), token=SECRET)
    now = await connection.fetchval("SELECT now()")
    async with sandbox.serve() as base_url:
        sandbox.ledger += [Prediction(MODEL, "hidden", {}, 0.0, 0.0, 3600.0) for _ in range(250)]
        for each in sandbox.ledger[:30]:
            each.requested_at -= 7200.0
        sandbox.fail(Fault("500", on="list", times=2))
        sandbox.fail(Fault("truncated", on="list", times=1))
        sandbox.fail(Fault("429", on="list", times=1, retry_after=0.01))
        found = await walk(provider_of(base_url), now - timedelta(hours=1), INPUTS)

    assert [each.id for each in found] == [each.id for each in reversed(sandbox.ledger[30:])]
    assert len([seen for seen in sandbox.requests if seen.method == "GET" and seen.status == 200]) == 3 + 1  # truncated


def entry(name, now, ago, **given):
    return {"id": name, "status": "succeeded", "created_at": (now - ago).isoformat(), "input": {}, **given}


async def test_a_server_that_cannot_begin_at_a_time_is_walked_from_its_newest(provider_of, connection):
    now = await connection.fetchval("SELECT now()")
    refused = http({"detail": "no such parameter"}, status=400)
    first = http({"results": [entry("p1", now, timedelta(0))], "next": "?cursor=1"})
    last = http({"results": [entry("p2", now, timedelta(hours=3)), {"id": "../x"}, "junk"], "next": "?cursor=2"})
    wire = Wire(refused, first, last)
    async with wire.serve() as base_url:
        found = await walk(provider_of(base_url), now - timedelta(hours=1), INPUTS)

    assert [each.id for each in found] == ["p1"]
    assert [head.split()[1] for head, _ in wire.requests][1:] == ["/v1/predictions", "/v1/predictions?cursor=1"]


async def test_a_listing_that_cannot_be_read_is_no_audit(provider_of, connection):
    now = await connection.fetchval("SELECT now()")
    sandbox = Sandbox(Timing.instant(), token=SECRET)
    async with sandbox.serve() as base_url:
        sandbox.fail(Fault("500", on="list"))
        with pytest.raises(TransientError):
            await walk(provider_of(base_url), now, INPUTS, tries=2)
        sandbox.faults.clear()
        sandbox.fail(Fault("401", on="list"))
        with pytest.raises(UnauthorizedError):
            await walk(provider_of(base_url), now, INPUTS)


async def test_a_provider_that_cannot_be_reached_is_given_up_soon(provider_of, connection, free_tcp_port):
    now = await connection.fetchval("SELECT now()")

    with anyio.fail_after(5), pytest.raises(TransientError):
        await walk(provider_of(f"http://127.0.0.1:{free_tcp_port}"), now, INPUTS)


# The command.


@pytest.fixture
def environment(monkeypatch):
    def environment(base_url):
        given = {
            "REPLICATE_API_TOKEN": SECRET,
            "REPLICATE_BASE_URL": base_url,
            "FALLBACK_CENSORED_PROMPT": "a calm sea",
        }
        for name, value in given.items():
            monkeypatch.setenv(name, value)

    return environment


def test_the_command_needs_a_workers_settings(reactor, monkeypatch):
    for name in ("REPLICATE_API_TOKEN", "FALLBACK_CENSORED_PROMPT"):
        monkeypatch.delenv(name, raising=False)

    code, out, err = reactor("audit")

    assert (code, out) == (2, "")
    assert "REPLICATE_API_TOKEN: is required" in err


@pytest.fixture
def listing(environment):
    """A listing on a thread of its own, because commands have their own event loop."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = server.answer(self.path)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    environment(f"http://127.0.0.1:{server.server_port}")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(server.serve_forever)
        yield server
        server.shutdown()
        server.server_close()


USED = """
    INSERT INTO reactor.attempts (tokens_table, key, token_id, epoch, attempt, outcome, seed, prediction_id, bought_at,
      ended_at, error, cost, images)
    VALUES
      ('public.tokens_s0', 'k', 1, 1, 1, 'succeeded', 5, 'used', now(), now(), NULL, 0.003, 1),
      ('public.tokens_s0', 'l', 2, 1, 1, 'failed', 6, 'failed', now(), now(), U&'bad \\001b]0;x\\0007', 0, 0),
      ('public.tokens_s0', 'm', 3, 1, 1, 'failed', NULL, NULL, NULL, now() - interval '1 hour', 'old', NULL, NULL)
"""


def shown(name, seed):
    return {
        "id": name, "status": "succeeded", "created_at": datetime.now(tz=UTC).isoformat(),
        "input": {"prompt": "a fox", "seed": seed},
    }  # fmt: skip


def test_the_command_explains_all(reactor, database, listing):
    command(database, USED)
    page = {"results": [shown("used", 5), shown("failed", 6)], "next": None}
    listing.answer = lambda _path: (200, page)

    code, out, err = reactor("audit", "--since", "2h")

    assert (code, err) == (0, "")
    assert out.startswith("All 2 predictions since ")
    assert "its token failed" in out
    assert "\x1b" not in out
    told = json.loads(reactor("audit", "--json")[1])
    assert (told["ok"], told["counts"]["used"], told["counts"]["unused"]) == (True, 1, 1)
    assert told["cost"] == {"used": "0.003", "wasted": "0"}
    (named,) = told["predictions"]
    assert (named["prediction_id"], named["kind"], named["token_id"], named["explained"]) == (
        "failed",
        "unused",
        "2",
        True,
    )


def test_the_command_names_what_is_unexplained_and_exits_with_1(reactor, database, listing):
    command(database, USED)
    page = {"results": [shown("used", 5), shown("failed", 6), shown("twice", 5), shown("orphan", 7)], "next": None}
    listing.answer = lambda _path: (200, page)

    code, out, _ = reactor("audit")

    assert code == 1
    assert out.startswith("2 of 4 predictions since ")
    assert "prediction twice, token 1 (see: reactor show 1): with its seed, prediction used was bought too" in out
    assert "prediction orphan: " in out
    told = json.loads(reactor("audit", "--json")[1])
    assert {each["prediction_id"] for each in told["predictions"] if not each["explained"]} == {"twice", "orphan"}


def test_the_command_counts_what_is_unknown_apart(reactor, database, listing):
    command(database, USED)
    forgotten = {**shown("forgotten", 9), "input": {}, "data_removed": True}
    pages = [[shown("used", 5), forgotten], [shown("used", 5), forgotten, shown("orphan", 7)]]
    told = []
    for page in pages:
        listing.answer = lambda _path, page=page: (200, {"results": page, "next": None})
        told.append((reactor("audit"), json.loads(reactor("audit", "--json")[1])))

    ((code, out, _), found), ((bad_code, bad_out, _), _) = told
    assert (code, bad_code) == (0, 1)
    assert re.match(r"1 of 2 predictions since .* are explained, 1 unknown\.\n", out)
    assert re.match(r"1 of 3 predictions since .* are unexplained, 1 unknown\.\n", bad_out)
    assert found["ok"]
    assert [(each["kind"], each["explained"]) for each in found["predictions"]] == [("unknown", None)]


def test_the_command_says_in_a_line_that_the_listing_cannot_be_read(reactor, listing):
    listing.answer = lambda _path: (401, {"detail": "no"})

    code, out, err = reactor("audit")

    assert (code, out) == (1, "")
    assert err.startswith("Error: the provider's listing cannot be read: Invalid API token")
