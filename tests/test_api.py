"""The HTTP API: what it answers, and whom it refuses."""

import asyncio
import json
import time
import uuid
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import anyio
import asyncpg
import httpx
import pytest
from doubles import Log, settings, until
from roles import KINDS, drop_roles, make_roles
from served import READ_TOKEN, TOKEN, hosted, served
from strangers import stranger

from reactor.sandbox import Sandbox, Timing
from reactor.telemetry import Telemetry
from reactor.web import Site, mounted
from reactor.web.changes import DEBOUNCE, NAME
from reactor.web.keys import SIGNED_IN_FOR, Keys
from reactor.web.openapi import ENDPOINTS, document

pytestmark = pytest.mark.anyio

AWAY = "postgresql://nobody:hidden_password@127.0.0.1:1/nowhere"
EVERY = [(endpoint.method, endpoint.path.replace("{token_id}", "1")) for endpoint in ENDPOINTS]


@pytest.fixture
async def paused(ask):
    """No worker claims, so that tokens stay as a test made them."""
    await ask("pause", "a test", None)


async def test_the_status_says_what_the_page_says(database, paused, make_token):
    await make_token(status="failed", generation_error="boom")
    async with served(database) as (client, log):
        await log.wait("listener.connected")
        body = (await client.get("/api/status")).json()

    assert body["tokens"]["failed"] == 1
    assert (body["level"], body["sentence"]) == ("warning", "The gate is closed until `reactor resume`: a test.")
    assert body["intake"]["paused"] is True
    assert body["worker"]["slots"] == {"in_use": 0, "of": 10}
    assert body["estimated"] == []


async def test_tokens_come_in_pages_that_lose_none(database, paused, make_token):
    made = [await make_token() for _ in range(7)]
    async with served(database) as (client, _):
        found, after = [], {}
        while True:
            page = (await client.get("/api/tokens", params={"limit": 3, **after})).json()
            found += [token["token_id"] for token in page["tokens"]]
            if page["next"] is None:
                break
            after = {"after": page["next"]}

    assert found == sorted(made, reverse=True)


async def test_tokens_are_found_by_status_text_and_time(database, paused, make_token):
    boom = await make_token(status="failed", generation_error="Boom 42")
    await make_token(status="failed", generation_error="other")
    await make_token()
    async with served(database) as (client, _):
        page = (await client.get("/api/tokens?status=failed&matching=bOOm&since=1h")).json()

    assert [(token["token_id"], token["error"]) for token in page["tokens"]] == [(boom, "Boom 42")]


async def test_a_time_is_written_in_one_way(database, paused, make_token):
    await make_token(generation_due_at=datetime(2100, 1, 1, tzinfo=UTC))
    async with served(database) as (client, _):
        listed = (await client.get("/api/tokens")).json()["tokens"][0]
        told = (await client.get("/api/tokens/1")).json()

    assert [(listed[name], listed[name][-6:]) for name in ("minted_at", "due_at")] == [
        (told[name], "+00:00") for name in ("minted_at", "due_at")
    ]


async def test_a_number_beyond_javascripts_is_a_text(database, paused, make_token):
    await make_token(token_id=2**53 + 1)
    async with served(database) as (client, _):
        page = (await client.get("/api/tokens")).json()
        one = (await client.get(f"/api/tokens/{2**53 + 1}")).json()

    assert page["tokens"][0]["token_id"] == one["token_id"] == str(2**53 + 1)


BAD_FILTERS = [
    "status=lost", "since=soon", "since=-1h", "limit=0", "limit=201", "limit=x", "limit=٣", "after=no-uuid",
    "statuses=failed", "matching=%00", f"matching={'x' * 1001}", f"after={'x' * 2001}",
]  # fmt: skip


async def test_a_bad_filter_is_refused_in_one_line(database):
    async with served(database) as (client, log):
        for query in BAD_FILTERS:
            response = await client.get(f"/api/tokens?{query}")

            assert response.status_code == 400, query
            assert "\n" not in response.json()["error"], query
            assert not log.errors(), query


async def test_an_unknown_token_is_404(database):
    async with served(database) as (client, log):
        for token_id in ("7", "no-number", "9" * 100, "%00", "x" * 500, "-1", "1;DROP"):
            response = await client.get(f"/api/tokens/{token_id}")

            assert (response.status_code, response.json()) == (404, {"error": "there is no such token"}), token_id
            assert not log.errors(), token_id


async def test_a_retry_by_ids_says_which_were_not_failed(database, paused, make_token, token_row):
    failed, waiting = await make_token(status="failed", generation_error="no"), await make_token()
    async with served(database) as (client, log):
        response = await client.post("/api/tokens/retry", json={"token_ids": [failed, waiting, "no-number", 2**60]})

    assert response.json() == {"retried": [str(failed)], "not_failed": [str(waiting), "no-number", str(2**60)]}
    assert (await token_row(failed))["status"] == "detected"
    (acted,) = log.of("http.acted")
    assert (acted["action"], acted["who"], acted["token_ids"]) == ("retry", "anybody from 127.0.0.1", [str(failed)])


async def test_a_number_may_be_written_with_a_fraction_of_zero_as_in_json(database, paused, make_token):
    failed = await make_token(status="failed", generation_error="no")
    async with served(database) as (client, _):
        done = await client.post("/api/tokens/retry", json={"token_ids": [float(failed)]})
        rounded = await client.post("/api/tokens/retry", json={"token_ids": [float(2**53)]})

    assert done.json() == {"retried": [str(failed)], "not_failed": []}
    assert rounded.status_code == 400


async def test_an_empty_filter_of_attempts_is_none(database, paused, make_token):
    async with served(database) as (client, _):
        empty = await client.get("/api/attempts?token_id=&outcome=failed&since=1h&after=")
        both = await client.get("/api/attempts?token_id=1&outcome=failed")

    assert (empty.status_code, empty.json()) == (200, {"attempts": [], "next": None})
    assert (both.status_code, both.json()) == (400, {"error": "token_id goes with no other filter"})


async def test_a_dry_run_counts_and_changes_nothing_and_the_retry_sets_back_what_it_counted(
    database, paused, make_token, connection
):
    for number in range(5):
        await make_token(status="failed", generation_error=f"boom {number}")
    await make_token(status="failed", generation_error="other")
    wanted = {"status": "failed", "matching": "boom"}
    failed = "SELECT count(*) FROM tokens_s0 WHERE status = 'failed'"
    async with served(database) as (client, _):
        dry = (await client.post("/api/tokens/retry", json=wanted | {"dry_run": True})).json()
        assert await connection.fetchval(failed) == 6
        done = (await client.post("/api/tokens/retry", json=wanted)).json()

    assert (dry["matching"], dry["exact"]) == (5, True)
    assert [(cause["cause"], cause["tokens"]) for cause in dry["causes"]] == [("boom #", 5)]
    assert done == {"retried": 5, "locked": 0, "done": True}
    assert await connection.fetchval(failed) == 1


async def test_a_dry_run_of_ids_counts_and_changes_nothing(database, paused, make_token, token_row):
    failed, waiting = await make_token(status="failed", generation_error="boom 1"), await make_token()
    asked = {"token_ids": [failed, waiting, "no-number", 2**60], "dry_run": True}
    async with served(database) as (client, log):
        dry = (await client.post("/api/tokens/retry", json=asked)).json()

    causes = [{"cause": "boom #", "tokens": 1, "example": str(failed)}]
    assert dry == {"dry_run": True, "matching": 1, "exact": True, "causes": causes}
    assert (await token_row(failed))["status"] == "failed"
    assert not log.of("http.acted")


@pytest.mark.parametrize(
    ("wanted", "matching"),
    [({"matching": "boom"}, 2), ({"since": "1h"}, 3), ({"matching": "boom", "status": ""}, 2), ({}, 3)],
)
async def test_a_retry_without_a_status_means_what_failed(database, paused, make_token, connection, wanted, matching):
    for error in ("boom 1", "boom 2", "other"):
        await make_token(status="failed", generation_error=error)
    await make_token(generation_error="boom, and to be tried again")
    async with served(database) as (client, _):
        dry = (await client.post("/api/tokens/retry", json=wanted | {"dry_run": True})).json()
        assert dry["matching"] == matching
        if wanted:
            done = (await client.post("/api/tokens/retry", json=wanted)).json()
            assert done == {"retried": matching, "locked": 0, "done": True}


UNCLEAR = [
    "{}", '{"dry_run": false}', '{"matching": ""}', '{"token_ids": ["1"], "dry_run": 1}',
    "[]", "nonsense", '{"status": "detected"}', '{"status": "failed", "dry_run": "yes"}',
    '{"status": "failed", "mathing": "typo"}', '{"token_ids": []}', '{"token_ids": "1"}', '{"token_ids": [true]}',
    '{"token_ids": [null]}', '{"token_ids": ["\\u0000"]}', '{"token_ids": [""]}',
    '{"status": "failed", "since": 5}', json.dumps({"token_ids": list(range(1001))}),
    '{"token_ids": [1], "status": "failed"}', '{"matching": ["a"]}',
]  # fmt: skip


async def test_a_retry_that_does_not_say_what_it_means_retries_nothing(database, paused, make_token, token_row):
    token_id = await make_token(status="failed", generation_error="no")
    async with served(database) as (client, log):
        for body in UNCLEAR:
            given = {"content": body, "headers": {"content-type": "application/json"}}
            response = await client.post("/api/tokens/retry", **given)

            assert (response.status_code, list(response.json())) == (400, ["error"]), body
            assert (await token_row(token_id))["status"] == "failed", body
            assert not log.of("http.acted") + log.errors(), body


NO_TEXTS = [
    ("/api/pause", {"for": 600}, 'for must be a text, like "10m"'),
    ("/api/pause", {"reason": ["a"]}, "reason must be a text"),
    ("/api/tokens/retry", {"since": 600}, 'since must be a text, like "10m"'),
    ("/api/tokens/retry", {"status": True}, 'status must be a text, like "failed"'),
    ("/api/tokens/retry", {"matching": "\0"}, "matching is no text that PostgreSQL can hold"),
    ("/api/pause", {"reason": "x" * 1001}, "a reason has at most 1,000 characters"),
]


async def test_what_is_no_text_is_refused_in_its_own_words(database):
    async with served(database) as (client, log):
        for path, body, said in NO_TEXTS:
            response = await client.post(path, json=body)

            assert (response.status_code, response.json()) == (400, {"error": said}), (path, body)
            assert not log.of("http.acted"), (path, body)


async def test_a_pause_stops_the_fleet_and_a_resume_wakes_it(database, make_token):
    async with Sandbox(Timing.instant()).serve() as base_url, served(database, base_url) as (client, log):
        await log.wait("listener.connected")
        body = {"for": "10m", "reason": "  r8_a_secret_that_must_not_be_told\x1b[2J "}
        paused = (await client.post("/api/pause", json=body)).json()
        token_id = await make_token()
        state = (await client.get("/api/status")).json()
        resumed = [(await client.post("/api/resume", json={})).json() for _ in range(2)]
        await log.wait("token.generation.succeeded", token_id=token_id)

    assert paused == {"paused": True, "reason": "[redacted]\ufffd[2J"}
    assert 590 < state["intake"]["resumes_in"] <= 600
    assert resumed == [{"resumed": opened, "stays_closed_until": None} for opened in (True, False)]
    assert [acted["action"] for acted in log.of("http.acted")] == ["pause", "resume", "resume"]


@pytest.mark.parametrize(("action", "paused"), [("pause", True), ("resume", False)])
async def test_an_action_makes_a_gate_row_that_somebody_removed_anew(database, connection, action, paused):
    async with served(database) as (client, log):
        await log.wait("listener.connected")
        await connection.execute("DELETE FROM reactor.intake")
        response = await client.post(f"/api/{action}", json={})
        closed = await connection.fetch("SELECT paused_until IS NOT NULL AS paused FROM reactor.intake")

    assert response.status_code == 200
    assert [row["paused"] for row in closed] == [paused]


@pytest.mark.parametrize(("method", "path"), [*EVERY, ("GET", "/"), ("GET", "/retry"), ("GET", "/events")])
async def test_nothing_is_told_or_done_without_a_token(database, method, path):
    async with served(database, http_token=TOKEN) as (client, log):
        refused = [
            await client.request(method, path, headers=headers)
            for headers in ({}, {"authorization": f"Bearer {TOKEN}x"}, {"cookie": f"reactor_session={TOKEN}"})
        ]

    assert [each.status_code for each in refused] == [401] * 3
    assert [as_promised(each, path) for each in refused] == [True] * 3
    assert [each.headers["www-authenticate"] for each in refused] == ["Bearer"] * 3
    assert not log.of("http.acted")


async def test_the_read_token_looks_and_does_not_act(database):
    headers = {"authorization": f"Bearer {READ_TOKEN}", "content-type": "application/json"}
    async with served(database, http_token=TOKEN, http_read_token=READ_TOKEN) as (client, log):
        for method, path in EVERY:
            response = await client.request(method, path, headers=headers)

            wanted = 403 if method == "POST" else 404 if path.endswith("/1") else 200
            assert response.status_code == wanted, path
            assert response.status_code == 200 or as_promised(response, path), path
            assert not log.of("http.acted"), path


WEBSITES = [
    ({}, 200),
    ({"sec-fetch-site": "same-origin"}, 200),
    ({"sec-fetch-site": "cross-site"}, 403),
    ({"sec-fetch-site": "same-site"}, 403),
    ({"sec-fetch-site": "none"}, 403),
    ({"sec-fetch-site": "cross-site", "origin": "http://HOST"}, 403),
    ({"origin": "http://HOST"}, 200),
    ({"origin": "http://evil.example"}, 403),
    ({"origin": "http://127.0.0.1:1"}, 403),
    ({"origin": "null"}, 403),
    ({"origin": ""}, 403),
    ({"origin": "http://[bad"}, 403),
    ({"origin": "http://evil.example@HOST"}, 403),
]


async def test_another_website_cannot_act_in_the_name_of_who_looks_at_it(database):
    acted = 0
    async with served(database) as (client, log):
        for headers, status in WEBSITES:
            named = {name: value.replace("HOST", client.base_url.netloc.decode()) for name, value in headers.items()}
            api = await client.post("/api/resume", headers=named)
            page = await client.post("/resume", headers=named)

            assert (api.status_code, page.status_code) == (status, 303 if status == 200 else 403), headers
            assert status == 200 or as_promised(api, "/api/resume"), headers
            assert status == 200 or as_promised(page, "/resume"), headers
            acted += 2 if status == 200 else 0
            assert len(log.of("http.acted")) == acted, headers


async def test_a_host_of_others_is_refused_as_the_document_says(database):
    async with served(database) as (client, _):
        for path in ("/api/status", "/"):
            refused = await client.get(path, headers={"host": "evil.example"})
            assert refused.status_code == 421
            assert as_promised(refused, path)


def as_promised(response, path):
    """Whether a refusal has the form that its path promises, and its status is in the document."""
    if not path.startswith("/api/"):
        return response.headers["content-type"].startswith("text/")
    every = [each["responses"] for paths in document("")["paths"].values() for each in paths.values()]
    assert all(str(response.status_code) in each for each in every)
    return list(response.json()) == ["error"] and bool(response.json()["error"])


async def test_a_form_cannot_call_the_api(database):
    async with served(database) as (client, log):
        response = await client.post("/api/pause", content="{}", headers={"content-type": "text/plain"})

    assert response.status_code == 415
    assert not log.of("http.acted")


@pytest.mark.parametrize("path", ["/api/tokens/retry", "/api/pause", "/retry", "/pause", "/tokens/1/retry"])
async def test_a_body_that_is_too_large_is_refused_before_it_has_arrived(database, path):
    kind = "application/json" if path.startswith("/api") else "application/x-www-form-urlencoded"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 999999999\r\n\r\n"
    async with served(database) as (client, _), await anyio.connect_tcp("127.0.0.1", client.base_url.port) as raw:
        await raw.send(head.encode() + b"x" * 300_000)
        with anyio.fail_after(4):
            answer = await raw.receive()

    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("path", ["/api/status", "/api/tokens", "/api/tokens/1", "/", "/tokens/1", "/retry"])
async def test_without_a_database_each_says_so_in_a_sentence(path):
    async with served(AWAY) as (client, log):
        response = await client.get(path)

    assert response.status_code == 503
    assert "annot reach the database" in response.text
    assert "hidden_password" not in response.text + log.text


async def test_a_table_that_is_gone_is_said_with_the_command(database, connection):
    async with served(database) as (client, log):
        await log.wait("listener.connected")
        await connection.execute("DROP TABLE tokens_s0")
        await until(lambda: is_away(client))
        response = await client.get("/api/status")

    assert response.json()["error"]


@pytest.fixture(scope="module")
def names(server_url):
    given = {kind: f"tests_{kind}_{uuid.uuid4().hex[:12]}" for kind in KINDS}
    yield given
    anyio.run(drop_roles, server_url, [given[kind] for kind in ("migrator", "worker", "reader", "owner")])


async def test_a_role_that_may_only_read_gets_a_sentence_where_it_would_write(names, database, make_token):
    reader = (await make_roles(database, names))["reader"]
    await make_token(status="failed", generation_error="no")
    log = Log()
    async with client_of(reader, log) as client:
        told = await client.get("/api/status")
        refused = [
            await client.post("/api/tokens/retry", json={"token_ids": [1]}),
            await client.post("/api/tokens/retry", json={"status": "failed"}),
            await client.post("/api/pause", json={}),
            await client.post("/api/resume", json={}),
            await client.post("/pause"),
        ]

    assert (told.status_code, told.json()["tokens"]["failed"]) == (200, 1)
    assert [each.status_code for each in refused] == [403] * 5
    assert all("may not do that: permission denied" in each.text for each in refused)


@pytest.mark.parametrize("path", ["/api/status", "/api/tokens", "/api/tokens/1", "/", "/retry"])
async def test_a_role_without_any_right_gets_a_sentence(database, path):
    async with stranger(database) as url, client_of(url, Log()) as client:
        response = await client.get(path)

    assert response.status_code in {403, 503}
    assert "Traceback" not in response.text


@asynccontextmanager
async def client_of(url, log):
    """A client of the page as a host application mounts it, without a worker."""
    site = Site(settings(url), Telemetry(log))
    transport = httpx.ASGITransport(app=mounted(site))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            yield client
    finally:
        await site.aclose()


async def test_a_slow_statement_ends_with_a_sentence(database, connection, make_token):
    await make_token()
    blocker = await asyncpg.connect(database)
    async with served(database) as (client, log):
        await log.wait("listener.connected")
        await client.get("/api/status")
        transaction = blocker.transaction()
        await transaction.start()
        await blocker.execute("LOCK TABLE tokens_s0 IN ACCESS EXCLUSIVE MODE")
        with anyio.fail_after(15):
            response = await client.get("/api/tokens")
        await transaction.rollback()
        await blocker.close()

    assert response.status_code == 503
    assert response.json()["error"]


async def test_readers_are_told_that_something_changed(database, make_token, ask):
    async with Sandbox(Timing.instant()).serve() as base_url, served(database, base_url) as (client, log):
        await log.wait("listener.connected")
        async with client.stream("GET", "/events") as events:
            lines = events.aiter_lines()
            assert events.headers["content-type"].startswith("text/event-stream")
            await changed(lines)  # that the stream has begun
            await make_token()
            await changed(lines)
            await ask("pause", "a test", None)
            await changed(lines)


async def test_readers_are_told_once_of_many_changes_and_hear_nothing_of_what_changed(database, paused, make_token):
    async with served(database) as (client, log):
        await log.wait("listener.connected")
        async with client.stream("GET", "/events") as events:
            lines = events.aiter_lines()
            await changed(lines)
            began = time.monotonic()
            for _ in range(30):
                await make_token(prompt="a secret prompt")
            took, told = time.monotonic() - began, []
            with anyio.move_on_after(2):
                while True:
                    told.append(await anext(lines))

    assert 1 <= told.count("event: changed") <= 4 + took / DEBOUNCE
    assert set(told) <= {"event: changed", "data:", "data: ", "", ": still here"}


async def test_readers_are_few_and_one_connection_listens_for_all(database, connection, paused):
    listening = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'reactor page events'"
    async with served(database) as (client, log):
        await log.wait("listener.connected")
        async with anyio.create_task_group() as group:
            begun, all_read = 0, anyio.Event()

            async def read():
                nonlocal begun
                async with client.stream("GET", "/events") as events:
                    lines = events.aiter_lines()  # kept, because the stream ends with it
                    await changed(lines)
                    begun += 1
                    if begun == 24:
                        all_read.set()
                    await anyio.sleep_forever()

            for _ in range(24):
                group.start_soon(read)
            with anyio.fail_after(20):
                await all_read.wait()
            assert await connection.fetchval(listening) == 1
            with anyio.fail_after(5):
                refusal = await client.get("/events")
            group.cancel_scope.cancel()
        await until(lambda: gone(connection, listening))

    assert (refusal.status_code, refusal.headers["retry-after"]) == (503, "10")


async def test_a_reader_does_not_keep_the_host_from_shutting_down(database):
    async with httpx.AsyncClient() as client:
        with anyio.fail_after(15):
            async with hosted(database, lasts=2.0) as (server, url), client.stream("GET", f"{url}/events") as events:
                lines = events.aiter_lines()
                assert await anext(lines) == "retry: 1000"
                server.should_exit = True
                told = [line async for line in lines]

    assert told[-3:] == ["event: ends", "data:", ""]


async def test_a_stream_that_begins_when_all_have_ended_listens_for_nobody(database):
    site = Site(settings(database), Telemetry(Log()))
    stream = site.changes.stream()
    await site.aclose()

    told = [event async for event in stream]

    assert told == []
    assert not any(task.get_name() == NAME for task in asyncio.all_tasks())


async def test_one_connection_listens_for_a_reader_that_comes_back(database, connection):
    listening = "SELECT array_agg(pid) FROM pg_stat_activity WHERE application_name = 'reactor page events'"
    pids = []
    async with hosted(database, lasts=1.0, lingers=60.0) as (_, url), httpx.AsyncClient() as client:
        for _ in range(2):
            async with client.stream("GET", f"{url}/events") as events:
                lines = events.aiter_lines()
                await anext(lines)
                await until(lambda: connection.fetchval(listening))
                pids.append(await connection.fetchval(listening))
                assert "event: ends" in [line async for line in lines]

    assert pids[0] == pids[1]
    await until(lambda: gone(connection, listening.replace("array_agg(pid)", "count(*)")))


async def is_away(client):
    return (await client.get("/api/status")).status_code == 503


async def gone(connection, listening):
    return await connection.fetchval(listening) == 0


async def changed(lines):
    with anyio.fail_after(10):
        async for line in lines:
            if line == "event: changed":
                return


async def test_the_document_names_every_route_below_the_path_it_is_served_at(database):
    async with served(database) as (client, _):
        told = (await client.get("/api/openapi.json")).json()

    assert told == json.loads(json.dumps(document("")))
    assert {(method.upper(), path) for path, each in told["paths"].items() for method in each} == {
        (endpoint.method, endpoint.path) for endpoint in ENDPOINTS
    }


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_no_other_method_does_anything(database, method):
    paths = [path for _, path in EVERY] + ["/", "/retry", "/events", "/livez", "/metrics", "/sign-in"]
    async with served(database) as (client, log):
        answers = [await client.request(method, path) for path in paths]

    assert {each.status_code for each in answers} == {405}
    assert {allowed(each) for each in answers} <= {"GET, HEAD", "POST", "GET, HEAD, POST"}
    assert {path: allowed(each) for path, each in zip(paths, answers, strict=True)}["/api/pause"] == "POST"
    assert not log.of("http.acted")


def allowed(response):
    return ", ".join(sorted(response.headers["allow"].split(", ")))


def test_a_cookie_holds_no_token_ends_by_time_and_with_its_token():
    now = [1000.0]
    keys = Keys(TOKEN, READ_TOKEN, clock=lambda: now[0])
    act, read = keys.cookie_for("act"), keys.cookie_for("read")

    assert (keys.access_of_cookie(act), keys.access_of_cookie(read)) == ("act", "read")
    assert Keys(TOKEN, None, clock=lambda: now[0]).access_of_cookie(act) == "act"
    assert Keys("another", READ_TOKEN, clock=lambda: now[0]).access_of_cookie(act) is None
    assert keys.access_of_cookie(read.replace("read", "act", 1)) is None
    assert keys.access_of_cookie(act.replace("act.", "act.9", 1)) is None
    assert TOKEN not in act
    now[0] += SIGNED_IN_FOR
    assert keys.access_of_cookie(act) is None


@pytest.mark.parametrize(
    "cookie", ["", ".", "act", "act.1.x", "act.٣.x.y", "." * 300, "act.-1.x.y", "act.1e9.x.y", "x" * 10_000]
)
def test_an_odd_cookie_is_nobodys(cookie):
    assert Keys(TOKEN, READ_TOKEN).access_of_cookie(cookie) is None
