"""The sandbox among hostile neighbours: whatever they send, it goes on serving, and other clients do not notice."""

import base64
import json
from contextlib import asynccontextmanager

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from test_sandbox import CREATE, ask, buy, buying, command, http

from reactor.sandbox import Fault, FaultError, Limits, Sandbox, Timing
from reactor.sandbox.bounds import Bounds
from reactor.sandbox.faults import Faults
from reactor.sandbox.guard import Locked

pytestmark = pytest.mark.anyio

OTHER = "/v1/models/somebody/theirs/predictions"
INSTANT = Timing.instant()
TOKEN = "the sandbox's own tökén"


async def assert_well(sandbox):
    """Assert that listing, pages, ledger and faults still work after what the test sent."""
    for path in ("/v1/predictions", "/v1/account", "/", "/sandbox/ledger", "/sandbox/faults"):
        assert (await ask(sandbox, "GET", path)).status_code == 200, path
    assert (await buy(sandbox)).status_code == 201


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "-1", "1e18", "1e999", "9" * 400])
@pytest.mark.parametrize(
    "directive",
    ["run={}", "queue={}", "lag={}", "nsfw; run={}", "429 retry_after={}", "500 times={}", "500 probability={}",
     "non-object status={}", "latency={}", "slow={}"],
)  # fmt: skip
async def test_a_prompt_directs_with_sensible_numbers_only(directive, number):
    sandbox = Sandbox(INSTANT)

    answer = await buy(sandbox, f"a fox [sandbox: {directive.format(number)}]")

    assert answer.status_code == 422
    assert sandbox.ledger == []
    await assert_well(sandbox)


@pytest.mark.parametrize(
    "fault",
    [{"kind": "run", "seconds": 1e18}, {"kind": "429", "retry_after": -1}, {"kind": "500", "times": -1},
     {"kind": "500", "probability": 1.5}, {"kind": "non-object", "status": 99}, {"kind": "non-object", "status": 1000}],
)  # fmt: skip
async def test_a_fault_has_sensible_numbers_only(fault):
    sandbox = Sandbox(INSTANT)

    assert (await ask(sandbox, "POST", "/sandbox/faults", json=fault)).status_code == 422
    with pytest.raises(FaultError):
        Fault(**fault)


@pytest.mark.parametrize(
    "config",
    [
        '{"timing": {"run": [0, 1e999]}}',
        '{"timing": {"queue": [-1, 0]}}',
        '{"timing": {"latency": 1e18}}',
        '{"timing": {"latency": "nan"}}',
        '{"retention": "inf"}',
        '{"retention": -1}',
        '{"limits": {"creates": -1}}',
        '{"limits": {"others": 1000001}}',
    ],
)
def test_a_configuration_has_sensible_numbers_only(config):
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z"):
        Sandbox.from_config(config)


def test_limits_and_timing_are_sensible_in_process_too():
    with pytest.raises(ValueError, match="limits are 0 to"):
        Limits(creates=-1)
    with pytest.raises(ValueError, match="durations are 0 to"):
        Timing(run=(0.0, float("nan")))


@pytest.mark.parametrize("after", ["9000h", "9" * 90 + "h", "99999999999"])
async def test_a_lifetime_beyond_a_year_buys_nothing(after):
    sandbox = Sandbox(INSTANT)

    assert (await buy(sandbox, headers={"cancel-after": after})).status_code == 400
    await assert_well(sandbox)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/predictions?cursor=before999999999999",
        "/v1/predictions?cursor=after9",
        "/v1/predictions?cursor=before" + "9" * 5000,
        "/v1/predictions?cursor=before²",
    ],
)
async def test_a_query_may_have_any_number(path):
    sandbox = Sandbox(INSTANT)
    await buy(sandbox)

    assert (await ask(sandbox, "GET", path)).status_code == 200


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)
INPUTS = st.dictionaries(
    st.sampled_from(("num_outputs", "output_format", "aspect_ratio", "megapixels", "seed", "prompt")), VALUES
)


@pytest.mark.parametrize(("path", "version"), [(OTHER, None), ("/v1/predictions", "meta/llama-2-70b-chat")])
@hypothesis_settings(max_examples=40)
@given(model_input=INPUTS)
def test_no_input_breaks_what_is_asked_afterwards(path, version, model_input):
    async def main():
        sandbox = Sandbox(INSTANT)
        body = {"input": {"prompt": "a fox", **model_input}} | ({"version": version} if version else {})
        async with http(sandbox) as client:
            assert (await client.post(path, content=json.dumps(body))).status_code in {201, 400, 422}
            for listing in ("/v1/predictions", "/", "/sandbox/ledger"):
                assert (await client.get(listing)).status_code == 200

    anyio.run(main)


@pytest.mark.parametrize("model_input", [{"num_outputs": 2.0}, {"output_format": []}, {"output_format": {}}])
async def test_an_input_of_an_odd_type_makes_one_picture(model_input):
    sandbox = Sandbox(INSTANT)

    answer = await ask(sandbox, "POST", OTHER, json=buying(**model_input))

    assert (answer.status_code, len(answer.json()["output"])) == (201, 1)
    await assert_well(sandbox)


async def test_a_prompt_of_open_directives_is_read_in_one_go():
    """A separate search for the end of each directive would take minutes."""
    sandbox = Sandbox(INSTANT)

    assert (await buy(sandbox, "[sandbox:" * 200_000)).status_code == 201


async def test_a_directive_that_goes_on_and_on_is_refused():
    assert (await buy(Sandbox(INSTANT), f"[sandbox: {'500 times=1;' * 100}]")).status_code == 422


@pytest.mark.parametrize("levels", [240, 250, 255, 300, 1000])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (OTHER, '{"input": {"prompt": "a fox", "a": DEEP}}'),
        (OTHER, '{"input": {"prompt": DEEP}}'),
    ],
)
async def test_what_can_be_read_and_not_be_written_is_refused_before_it_is_entered(path, body, levels):
    sandbox = Sandbox(INSTANT)

    answer = await ask(sandbox, "POST", path, content=body.replace("DEEP", "[" * levels + "]" * levels))

    assert answer.status_code in ({422} if levels > 250 else {201, 422})
    await assert_well(sandbox)
    assert len(sandbox.ledger) == 1 + (answer.status_code == 201 and path == OTHER)


@pytest.mark.parametrize(("method", "path"), [("POST", CREATE), ("POST", OTHER), ("POST", "/sandbox/faults")])
async def test_a_body_without_end_is_refused(method, path):
    sandbox, sent = Sandbox(INSTANT, bounds=Bounds(largest_body=1000)), 0

    async def body():
        nonlocal sent
        while sent < 1_000_000:
            sent += 100
            yield b" " * 100

    answer = await ask(sandbox, method, path, content=body())

    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    await assert_well(sandbox)


async def test_a_token_is_asked_for_before_the_body_is_taken():
    sandbox = Sandbox(INSTANT, token=TOKEN)

    async def body():
        raise AssertionError("it was read")
        yield b""

    assert (await ask(sandbox, "POST", CREATE, "another", content=body())).status_code == 401


async def test_the_newest_predictions_are_kept_and_listed():
    sandbox = Sandbox(INSTANT, bounds=Bounds(predictions=150))
    ids = [(await buy(sandbox, seed=seed)).json()["id"] for seed in range(149)]
    first = (await ask(sandbox, "GET", "/v1/predictions")).json()
    ids += [(await buy(sandbox, seed=seed)).json()["id"] for seed in range(149, 151)]

    second = (await ask(sandbox, "GET", first["next"])).json()
    newest = (await ask(sandbox, "GET", "/v1/predictions")).json()
    statuses = [(await ask(sandbox, "GET", f"/v1/predictions/{each}")).status_code for each in (ids[0], ids[-1])]

    assert [bought.id for bought in sandbox.ledger] == ids[75:]
    assert statuses == [404, 200]
    assert [each["id"] for each in first["results"]] == ids[148:48:-1]
    assert second["results"] == []
    assert {each["id"] for each in newest["results"]} == set(ids[75:])
    await assert_well(sandbox)


async def test_a_page_that_was_begun_goes_on_after_the_oldest_are_forgotten():
    sandbox = Sandbox(INSTANT, bounds=Bounds(predictions=250))
    ids = [(await buy(sandbox, seed=seed)).json()["id"] for seed in range(250)]
    first = (await ask(sandbox, "GET", "/v1/predictions")).json()
    ids.append((await buy(sandbox)).json()["id"])

    second = (await ask(sandbox, "GET", first["next"])).json()

    assert [each["id"] for each in second["results"]] == ids[149:124:-1]


async def test_predictions_with_much_input_are_fewer():
    sandbox = Sandbox(INSTANT, bounds=Bounds(predictions_bytes=100_000))
    for _ in range(20):
        await buy(sandbox, "x" * 30_000)
    few = len(sandbox.ledger)
    await buy(sandbox, "x" * 200_000)

    assert few <= 3
    assert [len(bought.prompt) for bought in sandbox.ledger] == [200_000]


async def test_what_was_asked_is_forgotten_in_time_and_its_answer_noted_all_the_same():
    sandbox = Sandbox(INSTANT, bounds=Bounds(requests=10))
    for _ in range(40):
        await ask(sandbox, "GET", f"/v1/predictions/{'x' * 2000}")

    assert len(sandbox.requests) <= 10
    assert {seen.status for seen in sandbox.requests} == {404}
    assert max(len(seen.path) for seen in sandbox.requests) <= 500


async def test_faults_are_no_more_than_a_thousand():
    faults = Faults()
    for _ in range(1000):
        faults.add(Fault("500"))

    with pytest.raises(FaultError, match="already"):
        faults.add(Fault("500"))


def test_prompts_that_direct_are_forgotten_in_time():
    faults = Faults(bounds=Bounds(directing=10))
    for number in range(50):
        faults.mistakes(f"fox {number} [sandbox: 500]")

    assert faults._directed.cache_info().currsize <= 10


PRIVATE = [
    ("GET", "/"),
    ("GET", "/sandbox/ledger"),
    ("GET", "/sandbox/requests"),
    ("GET", "/sandbox/faults"),
    ("POST", "/sandbox/faults"),
    ("DELETE", "/sandbox/faults"),
    ("GET", "/nothing"),
    ("GET", "/v1"),
]


def basic(password):
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


@asynccontextmanager
async def locked():
    sandbox = Sandbox(INSTANT, token=TOKEN)
    sandbox.fail(Fault("500", on="account"))
    transport = httpx.ASGITransport(app=Locked(sandbox.app, TOKEN))
    async with httpx.AsyncClient(transport=transport, base_url="http://10.1.2.3:8788") as client:
        yield sandbox, client


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer another", basic("another"), "Basic é", "Basic %%%"])
@pytest.mark.parametrize(("method", "path"), PRIVATE)
async def test_where_others_reach_it_nothing_is_shown_or_changed_without_the_token(method, path, header):
    async with locked() as (sandbox, client):
        headers = {} if header is None else {"authorization": header.encode("latin-1")}
        answer = await client.request(method, path, headers=headers, json={"kind": "429"})

    assert answer.status_code == 401
    assert [fault.kind for fault in sandbox.faults] == ["500"]


NO_ROUTE = ["/v1/../sandbox/ledger", "/files/../sandbox/ledger", "/files//sandbox/ledger", "/v1/sandbox/ledger"]
NOT_OPEN = ["//sandbox/ledger", "/./sandbox/ledger", "/sandbox/ledger/", "/sandbox/../v1/predictions", "//", "/v1"]


@pytest.mark.parametrize(("path", "status"), [*((path, 404) for path in NO_ROUTE), *((path, 401) for path in NOT_OPEN)])
async def test_no_path_that_is_sent_as_it_stands_leads_around_the_token(path, status):
    """The path is sent raw, because httpx would normalise it to `/sandbox/ledger`."""
    sandbox, sent = Sandbox(INSTANT, token=TOKEN), []
    await buy(sandbox, "a secret fox", headers={"authorization": f"Bearer {TOKEN}".encode()})
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
    }
    scope |= {"query_string": b"", "headers": [(b"host", b"10.1.2.3")], "http_version": "1.1", "server": None}

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    await Locked(sandbox.app, TOKEN)(scope, receive, send)

    assert sent[0]["status"] == status
    assert b"secret fox" not in b"".join(message.get("body", b"") for message in sent)
    assert len(sandbox.ledger) == 1


@pytest.mark.parametrize("header", [f"Bearer {TOKEN}", f"Token {TOKEN}", basic(TOKEN)])
@pytest.mark.parametrize(("method", "path"), PRIVATE[:6])
async def test_where_others_reach_it_the_token_opens_all(method, path, header):
    async with locked() as (_, client):
        headers = {"authorization": header.encode()}
        answer = await client.request(method, path, headers=headers, json={"kind": "429"})

    assert answer.status_code == 200


async def test_where_others_reach_it_pictures_are_open_as_the_real_ones_are():
    async with locked() as (_, client):
        headers = {"authorization": f"Bearer {TOKEN}".encode()}
        bought = (await client.post(CREATE, json=buying(), headers=headers)).json()
        answer = await client.get(bought["output"][0])

    assert answer.headers["content-type"] == "image/webp"


async def test_a_sandbox_without_a_token_is_not_served_to_others():
    with pytest.raises(ValueError, match="needs a token"):
        async with Sandbox().serve("10.1.2.3"):
            pass


async def test_a_page_of_another_host_reads_and_changes_nothing():
    sandbox = Sandbox(INSTANT)
    async with sandbox.serve() as base_url, httpx.AsyncClient(base_url=base_url) as client:
        answers = [
            await client.request(method, path, headers={"host": "evil.example"}, json={"kind": "500"})
            for method, path in [*PRIVATE[:6], ("GET", "/v1/predictions")]
        ]

    assert {answer.status_code for answer in answers} == {421}
    assert list(sandbox.faults) == []


async def test_no_request_is_redirected_to_the_host_that_it_names():
    answer = await ask(Sandbox(), "GET", "/v1/account/", headers={"host": "evil.example"})

    assert (answer.status_code, "location" in answer.headers) == (404, False)


EVERYWHERE = "0.0.0.0"  # noqa: S104  (with a token)


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [((), {}), (("--config", '{"token": "another"}'), {"SANDBOX_TOKEN": "mine"})],
)
async def test_the_command_serves_others_with_a_token_that_is_given_or_told(arguments, environment):
    with anyio.fail_after(20):
        async with command("sandbox", "--host", EVERYWHERE, "--port", "0", *arguments, **environment) as process:
            lines = (await process.stdout.receive()).decode().splitlines()
            token = lines[1].removeprefix("REPLICATE_API_TOKEN=") if len(lines) > 1 else "mine"
            base_url = lines[0].replace(EVERYWHERE, "127.0.0.1")
            async with httpx.AsyncClient(base_url=base_url) as client:
                paths = ("/v1/account", "/sandbox/ledger")
                without = [
                    (await client.get(path, headers={"authorization": "Bearer x"})).status_code for path in paths
                ]
                headers = {"authorization": f"Bearer {token}"}
                statuses = [(await client.get(path, headers=headers)).status_code for path in paths]

    assert lines[0].startswith("http://0.0.0.0:")
    assert len(lines) == 1 + (not arguments and not environment)
    assert len(token) >= 40 or token == "mine"
    assert (without, statuses) == ([401, 401], [200, 200])
