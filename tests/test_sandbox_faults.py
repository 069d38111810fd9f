"""Every fault of the vocabulary: what a client sees and whether it bought anything; and the ways to ask for one."""

import json
import re

import anyio
import anyio.lowlevel
import httpx
import pytest
from pydantic.v1 import ValidationError
from replicate.exceptions import ReplicateError
from test_sandbox import CREATE, SCHNELL, ask, buy, buying, look, sdk
from virtual import in_virtual_time

from reactor.sandbox import Fault, FaultError, Sandbox, Timing
from reactor.sandbox.faults import ANSWERS, FATES
from reactor.sandbox.strikes import STRIKES

pytestmark = pytest.mark.anyio

NSFW = "NSFW content detected. Try running it again, or try a different prompt."
# The SDK's result for each fault: a prediction's status, ReplicateError's HTTP status, or another exception.
SEEN = {
    "202": "succeeded",
    **{status: int(status) for status in ("401", "402", "403", "404", "422", "429", "500", "502", "503", "504")},
    "reset": httpx.ReadError,
    "close": httpx.RemoteProtocolError,
    "truncated": httpx.RemoteProtocolError,
    "hang": TimeoutError,
    "latency": "succeeded",
    "slow": "succeeded",
    "malformed": json.JSONDecodeError,
    "html": json.JSONDecodeError,
    "non-object": TypeError,
    "huge": ValidationError,
    "redirect": json.JSONDecodeError,
}
DOES_ITS_WORK = {"202", "latency", "slow", "truncated"}
# The end of the prediction: fields that GET returns at last.
BECOMES = {
    "nsfw": {"status": "failed", "error": NSFW, "metrics": {"predict_time": 0.0, "total_time": 0.0}},
    "failed": {"status": "failed", "error": None},
    "canceled": {"status": "canceled", "logs": None},
    "aborted": {"status": "aborted", "started_at": None},
    "stuck": {"status": "starting"},
    "queue": {"status": "starting"},
    "run": {"status": "processing"},
    "empty": {"status": "succeeded", "output": []},
    "null": {"status": "succeeded", "output": None},
    "short": {"status": "succeeded", "output": []},
    "string": {"status": "succeeded", "output": "http://sandbox/files/ID/out-0.webp"},
    "dict": {"status": "succeeded", "output": {"image": "http://sandbox/files/ID/out-0.webp"}},
    "junk-url": {"status": "succeeded", "output": ["javascript:alert(1)"]},
    "data-removed": {"status": "succeeded", "output": None, "data_removed": True, "input": {}},
    "error-object": {"status": "failed", "error": {"message": "an object"}},
    "null-version": {"status": "succeeded", "version": None},
}


def test_every_word_of_the_vocabulary_does_something_and_is_tested():
    assert set(ANSWERS) == set(STRIKES) == set(SEEN)
    assert set(FATES) == {*BECOMES, "data-uri", "gone", "lag"}


async def seen_by(client, hanging=None):
    """What a client sees of a create. It gives up after 10 s, or as soon as the fault `hanging` has struck."""

    async def give_up():
        while not hanging.hits:
            await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()
        patience.deadline = anyio.current_time()

    async with anyio.create_task_group() as group:
        try:
            with anyio.fail_after(10) as patience:
                if hanging:
                    group.start_soon(give_up)
                return (await client.predictions.async_create(model=SCHNELL, input={"prompt": "a fox"})).status
        except ReplicateError as error:
            return error.status
        except Exception as error:  # noqa: BLE001  (the test compares its type)
            return type(error)
        finally:
            group.cancel_scope.cancel()


@pytest.fixture
async def served():
    """A sandbox that answers without delays, and a client of it."""
    sandbox = Sandbox(Timing.instant())
    async with sandbox.serve() as base_url, sdk(sandbox, base_url) as client:
        yield sandbox, client


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", ANSWERS)
async def test_a_create_is_answered_with_a_fault_before_or_after_it_is_bought(served, kind, after):
    sandbox, client = served
    fault = sandbox.fail(Fault(kind, after=after, seconds=0.02, times=1))

    seen = await seen_by(client, hanging=fault if kind == "hang" else None)

    assert seen == SEEN[kind]
    assert len(sandbox.ledger) == (after or kind in DOES_ITS_WORK)
    assert fault.hits == 1
    assert await seen_by(client) == "succeeded"


@pytest.mark.parametrize("kind", ["reset", "close"])
async def test_a_cut_connection_is_httpx_own_error_in_process_too(kind):
    sandbox = Sandbox()
    sandbox.fail(Fault(kind))

    async with sdk(sandbox) as client:
        assert await seen_by(client) == SEEN[kind]


@pytest.mark.parametrize("kind", BECOMES)
async def test_a_prediction_that_is_bought_meets_its_fate(kind):
    sandbox = Sandbox(Timing.instant())
    sandbox.fail(Fault(kind, seconds=60))

    created = await buy(sandbox)
    body = await look(sandbox)

    assert created.status_code == 201
    expected = json.loads(json.dumps(BECOMES[kind]).replace("ID", body["id"]))
    assert {name: body.get(name) for name in expected} == expected


async def test_fates_add_up():
    sandbox = Sandbox(Timing((0, 0), (9, 9)))

    await buy(sandbox, "a fox [sandbox: run=0; nsfw text=E005; lag=60]")
    body = await look(sandbox)
    listed = (await ask(sandbox, "GET", "/v1/predictions")).json()

    assert body["error"].endswith("Please try again with different inputs. (E005) (uIJ6l3ruRD)")
    assert listed["results"] == []


async def test_what_never_starts_can_be_canceled_or_aborted():
    sandbox = Sandbox()
    await buy(sandbox, "a fox [sandbox: stuck]")
    await ask(sandbox, "POST", f"/v1/predictions/{sandbox.ledger[0].id}/cancel")
    await buy(sandbox, "a fox [sandbox: stuck]", headers={"cancel-after": "5s"})
    sandbox.ledger[1].deadline -= 6

    ends = [await look(sandbox, place) for place in (0, 1)]

    assert [(body["status"], body["started_at"]) for body in ends] == [("canceled", None), ("aborted", None)]


async def test_a_data_uri_is_a_picture():
    sandbox = Sandbox(Timing.instant())
    await buy(sandbox, "a fox [sandbox: data-uri]")

    (output,) = (await look(sandbox))["output"]

    assert output.startswith("data:image/png;base64,iVBOR")


async def test_a_short_list_lacks_a_picture_and_the_log_says_so():
    sandbox = Sandbox(Timing.instant())
    await buy(sandbox, "a fox [sandbox: short]", num_outputs=3)

    body = await look(sandbox)

    assert [url[-10:] for url in body["output"]] == ["out-1.webp", "out-2.webp"]
    assert "Total safe images: 2 out of 3" in body["logs"]
    assert body["metrics"]["image_count"] == 2


async def test_what_is_gone_cannot_be_found_or_canceled():
    sandbox = Sandbox(Timing.instant())
    await buy(sandbox, "a fox [sandbox: gone]")
    here = f"/v1/predictions/{sandbox.ledger[0].id}"

    assert (await ask(sandbox, "GET", here)).status_code == 404
    assert (await ask(sandbox, "POST", f"{here}/cancel")).status_code == 404
    assert (await ask(sandbox, "GET", "/v1/predictions")).json()["results"] == []


async def test_the_listing_lags():
    sandbox = Sandbox(Timing.instant())
    await buy(sandbox, "a fox [sandbox: lag=10]")
    await buy(sandbox, "a hare")
    early = (await ask(sandbox, "GET", "/v1/predictions")).json()["results"]
    for prediction in sandbox.ledger:
        prediction.requested_at -= 11
    late = (await ask(sandbox, "GET", "/v1/predictions")).json()["results"]

    assert [each["input"]["prompt"] for each in early] == ["a hare"]
    assert len(late) == 2


@pytest.mark.parametrize(
    ("fault", "header", "body"),
    [
        ({}, None, {"detail": "Request was throttled. Your rate limit resets in ~30s."}),
        (
            {"retry_after": 2},
            None,
            {"retry_after": 2, "detail": "Request was throttled. Your rate limit resets in ~2s."},
        ),
        ({"retry_after": 2, "placement": "header"}, "2", {"detail": "Request was throttled."}),
        (
            {"retry_after": 2, "placement": "text"},
            None,
            {"detail": "Request was throttled. Your rate limit resets in ~2s."},
        ),
    ],
)
async def test_a_429_names_the_wait_in_one_place_or_none(fault, header, body):
    sandbox = Sandbox()
    sandbox.fail(Fault("429", **fault))

    answer = await buy(sandbox)

    assert (answer.status_code, answer.headers.get("retry-after")) == (429, header)
    assert answer.json() == {"status": 429, **body}


async def test_a_429_can_be_that_of_low_credit():
    sandbox = Sandbox()

    answer = await buy(sandbox, "a fox [sandbox: 429 retry_after=5 low_credit]")

    assert "while you have less than $5.0 in credit. Your rate limit resets in ~5s." in answer.json()["detail"]


@pytest.mark.parametrize(
    ("title", "told"),
    [
        ("credit", "Insufficient credit"),
        ("billing", "Billing required"),
        ("spend", "Monthly spend limit reached"),
        ("free", "Free time limit reached"),
    ],
)
async def test_a_402_says_what_there_is_to_pay(title, told):
    sandbox = Sandbox()
    sandbox.fail(Fault("402", title=title))

    answer = await buy(sandbox)

    assert (answer.status_code, answer.json()["title"]) == (402, told)


async def test_a_503_can_name_a_wait_and_a_list_can_have_any_status():
    sandbox = Sandbox()
    sandbox.fail(Fault("503", retry_after=7, times=1))
    sandbox.fail(Fault("non-object", status=500))

    away, broken = await buy(sandbox), await buy(sandbox)

    assert (away.status_code, away.headers["retry-after"]) == (503, "7")
    assert (broken.status_code, broken.json()) == (500, ["not", "an", "object"])


@pytest.mark.parametrize(
    ("on", "method", "path"),
    [
        ("get", "GET", "/v1/predictions/ID"),
        ("cancel", "POST", "/v1/predictions/ID/cancel"),
        ("list", "GET", "/v1/predictions"),
        ("account", "GET", "/v1/account"),
        ("other", "GET", "/v1/models/stability-ai/sdxl"),
        ("picture", "GET", "/files/ID/out-0.webp"),
        ("any", "GET", "/v1/predictions/ID"),
        ("any", "GET", "/v1/account"),
    ],
)
async def test_a_fault_strikes_where_it_is_told_to(on, method, path):
    sandbox = Sandbox(Timing.instant())
    await buy(sandbox)
    sandbox.fail(Fault("503", on=on))

    struck = await ask(sandbox, method, path.replace("ID", sandbox.ledger[0].id))
    spared = await buy(sandbox)

    assert struck.status_code == 503
    assert spared.status_code == (503 if on == "any" else 201)


async def test_a_cancel_whose_answer_is_lost_has_canceled():
    sandbox = Sandbox(Timing((9, 9), (9, 9)))
    await buy(sandbox)
    sandbox.fail(Fault("502", on="cancel", after=True))

    answer = await ask(sandbox, "POST", f"/v1/predictions/{sandbox.ledger[0].id}/cancel")

    assert answer.status_code == 502
    assert sandbox.ledger[0].status == "canceled"


async def test_a_fault_is_for_the_prompts_that_match():
    sandbox = Sandbox()
    sandbox.fail(Fault("500", match="fox"))

    assert [(await buy(sandbox, prompt)).status_code for prompt in ("a fox", "a hare")] == [500, 201]


async def test_a_fault_strikes_as_often_as_it_is_told_to():
    sandbox = Sandbox()
    fault = sandbox.fail(Fault("500", times=2))

    assert [(await buy(sandbox)).status_code for _ in range(4)] == [500, 500, 201, 201]
    assert fault.hits == 2


async def test_chance_is_the_same_for_the_same_seed():
    runs = []
    for seed in (1, 1, 2):
        sandbox = Sandbox(seed=seed)
        sandbox.fail(Fault("500", probability=0.5))
        runs.append([(await buy(sandbox)).status_code for _ in range(40)])

    assert runs[0] == runs[1] != runs[2]
    assert 8 < runs[0].count(500) < 32


async def test_faults_are_made_and_ended_over_http():
    sandbox = Sandbox()
    made = await ask(sandbox, "POST", "/sandbox/faults", json={"kind": "429", "retry_after": 2, "times": 1})
    refused = await buy(sandbox)
    listed = (await ask(sandbox, "GET", "/sandbox/faults")).json()
    await ask(sandbox, "POST", "/sandbox/faults", json={"kind": "500"})
    await ask(sandbox, "DELETE", "/sandbox/faults")
    bought = await buy(sandbox)

    assert made.status_code == 200
    assert refused.json()["retry_after"] == 2
    assert [(fault["kind"], fault["hits"]) for fault in listed] == [("429", 1)]
    assert bought.status_code == 201


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "flood"},
        {"kind": "429", "on": "mars"},
        {"kind": "429", "placement": "smoke"},
        {"kind": "402", "title": "taxes"},
        {"kind": "nsfw", "on": "get"},
        {"kind": "429", "colour": "red"},
        {"kind": "latency", "seconds": "soon"},
        {"kind": "429", "hits": 3},
        {"on": "get"},
        {},
        [],
    ],
)
async def test_a_fault_that_cannot_be_is_refused(given):
    sandbox = Sandbox()

    answer = await ask(sandbox, "POST", "/sandbox/faults", json=given)

    assert answer.status_code == 422
    assert list(sandbox.faults) == []
    with pytest.raises(FaultError):
        Fault.from_json(given)


async def test_a_prompt_directs_its_own_faults_and_they_count_for_it_alone():
    sandbox = Sandbox(Timing((0, 0), (9, 9)))
    fox, hare = "a fox [sandbox: 503 times=1; run=0; 404 on=get times=1]", "a hare [sandbox: 503 times=1]"

    statuses = [(await buy(sandbox, prompt)).status_code for prompt in (fox, hare, fox, hare)]
    looks = [await look(sandbox, place=0) for _ in range(2)]

    assert statuses == [503, 503, 201, 201]
    assert [body["status"] for body in looks] == [404, "succeeded"]


@pytest.mark.parametrize("words", ["", ";", " "])
async def test_a_directive_without_a_word_is_only_a_prompt(words):
    sandbox = Sandbox()

    assert (await buy(sandbox, f"a fox [sandbox:{words}]")).status_code == 201


@pytest.mark.parametrize(
    "words", ["nonsense", "429 times=often", "500 on=mars", "500 colour=red", "500=x", "503; run=1; nswf"]
)
async def test_a_directive_that_makes_no_sense_is_refused_as_bad_input_is(words):
    sandbox = Sandbox()

    answer = await buy(sandbox, f"a fox [sandbox: {words}]")

    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    body = answer.json()
    assert (body["title"], body["status"]) == ("Input validation failed", 422)
    (line,) = body["detail"].splitlines()
    assert line.startswith(f"- input.prompt: the sandbox does not understand {words.split('; ')[-1]}: ")
    assert sandbox.ledger == []


async def test_a_configuration_makes_the_whole_sandbox():
    sandbox = Sandbox.from_config(
        json.dumps(
            {
                "timing": {"queue": [0, 0], "run": [0, 0]},
                "token": "r8_mine",
                "limits": {"creates": 12},
                "retention": 60,
                "seed": 3,
                "faults": [{"kind": "500", "times": 1}],
            }
        )
    )

    statuses = [(await ask(sandbox, "POST", CREATE, "r8_mine", json=buying())).status_code for _ in range(3)]
    sandbox.ledger[0].requested_at -= 61
    removed = await ask(sandbox, "GET", f"/v1/predictions/{sandbox.ledger[0].id}", "r8_mine")

    assert statuses == [500, 201, 429]
    assert removed.json()["data_removed"]
    assert (await buy(sandbox)).status_code == 401


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("{", "Invalid JSON: "),
        ("[]", "Input should be an object"),
        ('{"colour": 1}', "colour: Extra inputs are not permitted"),
        ('{"faults": [{"kind": "flood"}]}', r"faults\.0: kind is one of 202, "),
        ('{"faults": 3}', "faults: Input should be a valid array"),
        ('{"timing": 3}', "timing: "),
        ('{"timing": {"queue": [0, "long"]}}', r"timing\.queue\.1: Input should be a valid number"),
        ('{"retention": "long", "seed": "x"}', "retention: Input should be a valid number"),
    ],
)
def test_a_configuration_that_cannot_be_is_a_value_error_of_one_line(config, told):
    with pytest.raises(ValueError, match=rf"\A{told}[^\n]*\Z"):
        Sandbox.from_config(config)


async def test_a_broken_sandbox_says_what_follows_and_how_to_heal_it():
    sandbox = Sandbox(Timing((0, 0), (0, 0)))

    said = (await ask(sandbox, "POST", "/sandbox/break")).text
    answers = [(await buy(sandbox)).status_code for _ in range(5)]
    heal = re.search(r"To heal it: curl -X POST http://sandbox(\S+)\n", said)[1]
    healed = (await ask(sandbox, "POST", heal)).text

    assert "the next 3 tokens" in said
    assert "the gate closes" in said
    assert answers == [422, 422, 422, 402, 402]
    assert "within a minute, or at once by Resume" in healed
    assert "reactor retry --failed" in healed
    assert (await buy(sandbox)).status_code == 201


async def test_clearing_the_faults_lets_a_prompt_direct_its_own_again():
    sandbox, prompt = Sandbox(), "a fox [sandbox: 503 times=1]"
    before = [(await buy(sandbox, prompt)).status_code for _ in range(2)]
    await ask(sandbox, "DELETE", "/sandbox/faults")

    assert before == [503, 201]
    assert (await buy(sandbox, prompt)).status_code == 503


@in_virtual_time
@pytest.mark.parametrize(("after", "bought"), [(False, 0), (True, 1)])
async def test_a_late_answer_is_late_before_or_after_the_purchase(after, bought):
    sandbox = Sandbox()
    sandbox.fail(Fault("latency", seconds=60, after=after))

    with anyio.move_on_after(0.05) as late:
        await buy(sandbox)

    assert late.cancelled_caught
    assert len(sandbox.ledger) == bought


@in_virtual_time
async def test_latency_delays_every_answer():
    sandbox = Sandbox(Timing(latency=30))

    with anyio.move_on_after(0.05):
        await buy(sandbox)

    assert [seen.status for seen in sandbox.requests] == [0]
    assert sandbox.ledger == []
