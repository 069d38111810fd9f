"""The sandbox as its clients see it, mostly through the SDK."""

import os
import signal
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx
import pytest
from replicate.client import Client
from replicate.exceptions import ReplicateError
from starlette.applications import Starlette
from starlette.routing import Mount

from reactor.sandbox import Limits, Sandbox, Timing

pytestmark = pytest.mark.anyio

SCHNELL = "black-forest-labs/flux-schnell"
RECORDED = "7762fd07cf82c948538e41f63f77d685e02b063e37e496e96eefd46c929f9bdc"
REACTOR = Path(sys.executable).with_name("reactor")
CREATE = f"/v1/models/{SCHNELL}/predictions"
WAITING, RUNNING = Timing((99, 99), (99, 99)), Timing((0, 0), (99, 99))


@asynccontextmanager
async def sdk(sandbox, base_url=None, who="x", **options):
    """The SDK's client for the sandbox, in process or at its URL. It repeats no request."""
    transport = None if base_url else httpx.ASGITransport(app=sandbox.app)
    client = Client(who, base_url=base_url or "http://sandbox", transport=transport, **options)
    client._async_client._transport.max_attempts = 1
    try:
        yield client
    finally:
        await client._async_client.aclose()


@asynccontextmanager
async def http(sandbox, who="x", app=None):
    """A client that returns status, headers and body unchanged."""
    headers = {"authorization": f"Bearer {who}"} if who else {}
    transport = httpx.ASGITransport(app=app or sandbox.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://sandbox", headers=headers) as client:
        yield client


async def ask(sandbox, method, path, who="x", **given):
    async with http(sandbox, who) as client:
        return await client.request(method, path, **given)


def buying(prompt="a fox", **model_input):
    return {"input": {"prompt": prompt, **model_input}}


async def buy(sandbox, prompt="a fox", headers=None, **model_input):
    return await ask(sandbox, "POST", CREATE, json=buying(prompt, **model_input), headers=headers)


async def look(sandbox, place=-1):
    return (await ask(sandbox, "GET", f"/v1/predictions/{sandbox.ledger[place].id}")).json()


@pytest.mark.parametrize(
    ("target", "model", "version"),
    [
        ({"model": SCHNELL}, SCHNELL, "hidden"),
        ({"version": RECORDED}, "stability-ai/sdxl", RECORDED),
        ({"version": f"somebody/theirs:{'a' * 64}"}, "somebody/theirs", "a" * 64),
        ({"version": SCHNELL}, SCHNELL, "hidden"),
        ({"model": "meta/llama-2-70b-chat"}, "replicate/lifeboat-70b", "hidden"),
    ],
)
async def test_a_create_buys_what_it_names(target, model, version):
    sandbox = Sandbox(WAITING)

    async with sdk(sandbox) as client:
        prediction = await client.predictions.async_create(**target, input={"prompt": "a fox", "seed": 7})

    assert (prediction.status, prediction.model, prediction.version) == ("starting", model, version)
    (bought,) = sandbox.ledger
    assert (bought.id, bought.prompt, bought.seed) == (prediction.id, "a fox", 7)


async def test_a_prediction_starts_then_runs_then_succeeds():
    sandbox = Sandbox(Timing((10, 10), (10, 10)))
    starting = (await buy(sandbox, seed=7)).json()
    sandbox.ledger[0].requested_at -= 15
    running = await look(sandbox)
    sandbox.ledger[0].requested_at -= 15
    ended = await look(sandbox)

    assert [body["status"] for body in (starting, running, ended)] == ["starting", "processing", "succeeded"]
    assert not {"output", "started_at", "completed_at", "metrics"} & set(starting)
    assert "started_at" in running
    assert running["output"] is None
    assert ended["output"] == [f"http://sandbox/files/{ended['id']}/out-0.webp"]
    assert ended["metrics"] == {"predict_time": 10.0, "total_time": 20.0, "image_count": 1}
    assert "Using seed: 7" in ended["logs"]


async def test_own_host_and_prefix_are_in_every_url():
    sandbox = Sandbox(Timing.instant())
    mounted = Starlette(routes=[Mount("/tenant/a", app=sandbox.app)])

    async with http(sandbox, app=mounted) as client:
        body = (await client.post(f"/tenant/a{CREATE}", json=buying())).json()

    assert all(url.startswith("http://sandbox/tenant/a/") for url in [*body["urls"].values(), *body["output"]])


async def test_a_canceled_prediction_stays_canceled():
    sandbox = Sandbox(RUNNING)

    async with sdk(sandbox) as client:
        prediction = await client.predictions.async_create(model=SCHNELL, input={"prompt": "a fox"})
        await prediction.async_cancel()
        again = await client.predictions.async_cancel(prediction.id)

    assert (prediction.status, again.status) == ("canceled", "canceled")
    assert prediction.logs is None


async def test_cancel_leaves_a_terminal_prediction_as_it_is():
    sandbox = Sandbox(Timing.instant())

    async with sdk(sandbox) as client:
        prediction = await client.predictions.async_create(model=SCHNELL, input={"prompt": "a fox"})
        await prediction.async_cancel()

    assert prediction.status == "succeeded"


@pytest.mark.parametrize(("timing", "status", "billed"), [(WAITING, "aborted", False), (RUNNING, "canceled", True)])
@pytest.mark.parametrize("after", ["30s", "30", "0m30s", " 0h0m30s "])
async def test_a_deadline_aborts_what_has_not_started_and_cancels_what_runs(timing, status, billed, after):
    sandbox = Sandbox(timing)
    created = (await buy(sandbox, headers={"cancel-after": after})).json()
    sandbox.ledger[0].requested_at -= 29
    sandbox.ledger[0].deadline -= 29
    before = await look(sandbox)
    sandbox.ledger[0].requested_at -= 2
    sandbox.ledger[0].deadline -= 2
    ended = await look(sandbox)

    assert "deadline" in created
    assert before["status"] in {"starting", "processing"}
    assert (ended["status"], sandbox.ledger[0].billed) == (status, billed)


@pytest.mark.parametrize(
    "after", ["4s", "4", "0", "0m", "5000ms", "5.5s", "1m 5s", "5s1m", "-5s", "soon", "", "s", "9" * 999]
)
async def test_a_lifetime_that_is_too_short_or_none_buys_nothing(after):
    sandbox = Sandbox()

    answer = await buy(sandbox, headers={"cancel-after": after})

    assert (answer.status_code, answer.json()["detail"][:12]) == (400, "Cancel-After")
    assert sandbox.ledger == []


@pytest.mark.parametrize(("after", "seconds"), [("5", 5), ("5s", 5), ("2m", 120), ("1h30m45s", 5445), ("1h5", 3605)])
async def test_a_lifetime_is_counted_from_the_creation(after, seconds):
    sandbox = Sandbox()

    await buy(sandbox, headers={"cancel-after": after})

    assert sandbox.ledger[0].deadline - sandbox.ledger[0].requested_at == pytest.approx(seconds)


async def test_data_is_removed_an_hour_after_the_end():
    sandbox = Sandbox(Timing.instant())
    await buy(sandbox, seed=7)
    sandbox.ledger[0].requested_at -= 3590
    kept = await look(sandbox)
    sandbox.ledger[0].requested_at -= 20
    removed = await look(sandbox)

    assert (kept["data_removed"], kept["input"]["seed"]) == (False, 7)
    assert (removed["data_removed"], removed["input"], removed["output"]) == (True, {}, None)
    picture = f"/files/{sandbox.ledger[0].id}/out-0.webp"
    assert (await ask(sandbox, "GET", picture)).status_code == 404


async def test_the_listing_is_newest_first_and_misses_nothing():
    sandbox = Sandbox(WAITING)
    async with http(sandbox) as client:
        for seed in range(205):
            await client.post(CREATE, json=buying(seed=seed))

    async with sdk(sandbox) as client:
        first = await client.predictions.async_list()
        await buy(sandbox, seed=999)
        second = await client.predictions.async_list(first.next)
        third = await client.predictions.async_list(second.next)

    seeds = [each.input["seed"] for page in (first, second, third) for each in page.results]
    assert seeds == list(reversed(range(205)))
    assert [len(page.results) for page in (first, second, third)] == [100, 100, 5]
    assert third.next is None


@pytest.mark.parametrize(
    ("body", "kind", "detail"),
    [
        ({"input": {}}, "required", "- input: prompt is required\n"),
        ({}, "required", "- input is required\n"),
        ({"input": 3}, "invalid_type", "- input: Invalid type. Expected: object, given: integer\n"),
        (buying(3), "invalid_type", "- input.prompt: Invalid type. Expected: string, given: integer\n"),
        (buying(num_outputs=5), "number_lte", "- input.num_outputs: Must be less than or equal to 4\n"),
        (buying(num_outputs=0), "number_gte", "- input.num_outputs: Must be greater than or equal to 1\n"),
        (
            buying(num_outputs=True),
            "invalid_type",
            "- input.num_outputs: Invalid type. Expected: integer, given: boolean\n",
        ),
    ],
)
async def test_input_that_the_model_does_not_take_is_refused(body, kind, detail):
    sandbox = Sandbox()

    answer = await ask(sandbox, "POST", CREATE, json=body)

    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["title"] == "Input validation failed"
    assert [field["type"] for field in answer.json()["invalid_fields"]] == [kind]
    assert answer.json()["detail"] == detail
    assert sandbox.ledger == []


async def test_every_fault_of_an_input_is_told_at_once():
    answer = await ask(Sandbox(), "POST", "/v1/predictions", json={})

    assert answer.json()["detail"] == "- version is required\n- input is required\n"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/models/somebody/missing/predictions", buying(), 404),
        ("/v1/predictions", {**buying(), "version": "0" * 64}, 422),
        ("/v1/predictions", {**buying(), "version": "no version"}, 422),
        ("/v1/nothing", {}, 404),
        ("/v1/account", {}, 405),
    ],
)
async def test_what_is_not_there_is_refused_as_a_problem(path, body, status):
    sandbox = Sandbox()

    answer = await ask(sandbox, "POST", path, json=body)

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["status"] == status
    assert sandbox.ledger == []


@pytest.mark.parametrize("content", ["{", "[]", ""])
async def test_a_body_that_is_no_object_is_refused(content):
    answer = await ask(Sandbox(), "POST", CREATE, content=content)

    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("configured", "header", "accepted"),
    [
        (None, "Bearer r8_any", True),
        (None, "Token r8_any", True),
        (None, "Bearer invalid", False),
        (None, "Basic r8_any", False),
        (None, "Bearer ", False),
        (None, "", False),
        ("r8_mine", "Bearer r8_mine", True),
        ("r8_mine", "Bearer r8_any", False),
    ],
)
async def test_a_token_is_asked_for(configured, header, accepted):
    sandbox = Sandbox(token=configured)

    answer = await ask(sandbox, "POST", CREATE, None, json=buying(), headers={"authorization": header})

    assert answer.status_code == (201 if accepted else 401)
    assert len(sandbox.ledger) == accepted
    if not accepted:
        assert answer.json()["detail"] == "You did not pass a valid authentication token"


async def test_creates_are_limited_apart_from_all_the_rest():
    sandbox = Sandbox(limits=Limits(creates=12))

    answers = [await buy(sandbox) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [201, 201, 429]
    refused = {"status": 429, "retry_after": 5, "detail": "Request was throttled. Your rate limit resets in ~5s."}
    assert answers[2].json() == refused
    assert (await ask(sandbox, "GET", "/v1/predictions")).status_code == 200
    assert len(sandbox.ledger) == 2


async def test_low_credit_allows_one_create_in_ten_seconds():
    sandbox = Sandbox(limits=Limits(low_credit=True))

    async with sdk(sandbox) as client:
        await client.predictions.async_create(model=SCHNELL, input={"prompt": "a fox"})
        with pytest.raises(ReplicateError) as refused:
            await client.predictions.async_create(model=SCHNELL, input={"prompt": "a fox"})

    assert refused.value.status == 429
    assert "reduced to 6 requests per minute with a burst of 1 requests while you have less" in refused.value.detail
    assert refused.value.detail.endswith("resets in ~10s.")


async def test_a_model_and_its_version_are_told():
    async with sdk(Sandbox()) as client:
        model = await client.models.async_get("stability-ai/sdxl")
        version = await model.versions.async_get(RECORDED)
        with pytest.raises(ReplicateError) as refused:
            await client.models.async_get("somebody/unknown")

    assert model.id == "stability-ai/sdxl"
    assert model.latest_version.id == version.id == RECORDED
    assert refused.value.status == 404


async def test_the_account_is_told():
    async with sdk(Sandbox()) as client:
        account = await client.accounts.async_current()

    assert account.username == "sandbox"


async def test_the_books_show_requests_and_purchases():
    sandbox = Sandbox(Timing.instant())
    await buy(sandbox, seed=7)
    await ask(sandbox, "GET", "/v1/predictions/nothing")

    requests = (await ask(sandbox, "GET", "/sandbox/requests")).json()
    ledger = (await ask(sandbox, "GET", "/sandbox/ledger")).json()

    told = [(seen["method"], seen["path"], seen["status"]) for seen in requests]
    assert told == [("POST", CREATE, 201), ("GET", "/v1/predictions/nothing", 404)]
    assert requests[0]["monotonic"] < requests[1]["monotonic"]
    assert [(bought["prompt"], bought["seed"], bought["status"]) for bought in ledger] == [("a fox", 7, "succeeded")]


async def test_a_taken_port_is_an_os_error():
    async with Sandbox().serve() as base_url:
        port = httpx.URL(base_url).port
        with pytest.raises(OSError, match="in use"):
            async with Sandbox().serve(port=port):
                pass


async def test_it_ends_at_once_whoever_waits_for_an_answer():
    sandbox = Sandbox(WAITING)
    errors = []

    async def create(base_url, prompt):
        async with sdk(sandbox, base_url) as client:
            with pytest.raises(httpx.TransportError) as raised:
                await client.models.predictions.async_create(SCHNELL, input={"prompt": prompt})
            errors.append(raised.type)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group, sandbox.serve() as base_url:
            for prompt in ("a fox [sandbox: hang]", "a fox [sandbox: latency=60]"):
                group.start_soon(create, base_url, prompt)
            while len(sandbox.requests) < 2:
                await anyio.lowlevel.checkpoint()
            began = anyio.current_time()

    assert len(errors) == 2
    assert anyio.current_time() - began < 3


@asynccontextmanager
async def command(*arguments, **environment):
    """`reactor …` as a process with its own settings."""
    process = await anyio.open_process([REACTOR, *arguments], env={"PATH": os.environ["PATH"], **environment})
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.aclose()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_command_prints_its_url_and_ends_with_a_signal(number):
    with anyio.fail_after(20):
        async with command("sandbox", "--port", "0") as process:
            base_url = (await process.stdout.receive()).decode().splitlines()[0]
            async with httpx.AsyncClient(base_url=base_url) as client:
                answer = await client.get("/v1/account", headers={"authorization": "Bearer x"})
            process.send_signal(number)
            code = await process.wait()
            said = b"".join([chunk async for chunk in process.stderr])

    assert answer.json()["username"] == "sandbox"
    assert (code, said) == (0, b"")


async def test_the_command_says_that_its_port_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken, anyio.fail_after(20):
        async with command("sandbox", "--port", str(taken.getsockname()[1])) as process:
            code = await process.wait()
            said = b"".join([chunk async for chunk in process.stderr]).decode()

    assert code == 1
    assert said.count("\n") == 1
    assert "in use" in said


async def test_a_client_that_leaves_before_it_has_asked_is_no_error(caplog):
    sandbox = Sandbox()
    async with sandbox.serve() as base_url, httpx.AsyncClient(base_url=base_url) as another:
        url = httpx.URL(base_url)
        async with await anyio.connect_tcp(url.host, url.port) as client:
            head = f"POST {CREATE} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer x\r\ncontent-length: 9\r\n\r\n"
            await client.send(head.encode())
            with anyio.fail_after(5):
                while not sandbox.requests:
                    await anyio.lowlevel.checkpoint()
        await another.get("/v1/account", headers={"authorization": "Bearer x"})

    assert not caplog.records
    assert not sandbox.ledger


async def test_the_listing_can_begin_at_a_time():
    sandbox = Sandbox(Timing.instant())
    for _ in range(105):
        await buy(sandbox)
    sandbox.ledger[0].requested_at = sandbox.ledger[1].requested_at = 1e9

    first = (await ask(sandbox, "GET", "/v1/predictions?created_after=2020-01-01T00:00:00Z")).json()
    second = (await ask(sandbox, "GET", first["next"].removeprefix("http://sandbox"))).json()

    assert [each["id"] for each in first["results"] + second["results"]] == [
        each.id for each in reversed(sandbox.ledger[2:])
    ]
    assert "created_after=2020-01-01T00%3A00%3A00Z" in first["next"]
    assert second["next"] is None
    assert (await ask(sandbox, "GET", "/v1/predictions?created_after=soon")).status_code == 400
