import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from doubles import ended
from wire import Wire, http, quick_tls  # noqa: F401  (a fixture)

from reactor.errors import (
    AccountError,
    AmbiguousCreateError,
    ContentPolicyError,
    PermanentError,
    RateLimitedError,
    TransientError,
    UnauthorizedError,
)
from reactor.providers import Prediction, outputs
from reactor.providers.limits import Limits
from reactor.providers.replicate import ReplicateProvider
from reactor.sandbox import Fault, Sandbox, Timing
from reactor.sandbox.server import serving
from reactor.text.echoes import Echoes

pytestmark = pytest.mark.anyio

DATA_URI = "The output is a data URI, and only a URL can be kept"
TOKEN = "r8_a_secret_that_must_not_be_told"


@pytest.fixture
async def sandbox():
    return Sandbox(Timing.instant(), token=TOKEN)


@pytest.fixture
async def base_url(sandbox):
    async with sandbox.serve() as url:
        yield url


@asynccontextmanager
async def providing(base_url, **limits):
    provider = ReplicateProvider(TOKEN, base_url=base_url, limits=Limits(first_poll=0.01, **limits))
    yield provider
    await provider.aclose()


@pytest.fixture
async def provider(base_url):
    async with providing(base_url) as provider:
        yield provider


async def failing(call):
    with pytest.raises(Exception) as caught:  # noqa: PT011  (which one is what the test asks)
        await call
    return caught.value


def ago(**given):
    return datetime.now(UTC) - timedelta(**given)


# Create


REFUSED, EITHER, UNKNOWN = "refused", "one look", "ambiguous"
CREATES = [
    *(("401", UnauthorizedError, REFUSED), ("403", UnauthorizedError, REFUSED), ("402", AccountError, REFUSED)),
    *(("404", AccountError, REFUSED), ("422", PermanentError, REFUSED), ("429", RateLimitedError, REFUSED)),
    *(("500", TransientError, EITHER), ("503", TransientError, EITHER)),
    *((kind, AmbiguousCreateError, UNKNOWN) for kind in ("502", "504", "reset", "close", "hang", "slow")),
    *(
        (kind, AmbiguousCreateError, UNKNOWN)
        for kind in ("truncated", "malformed", "html", "non-object", "huge", "redirect")
    ),
]

UNANSWERED = {"reset", "close", "hang", "slow", "truncated"}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("fault", "kind", "bought"), CREATES, ids=[row[0] for row in CREATES])
async def test_a_create_that_fails_says_whether_something_may_have_been_bought(
    sandbox, base_url, fault, kind, bought, after
):
    sandbox.fail(Fault(fault, after=after, seconds=60, retry_after=2))

    async with providing(base_url, answer_within=0.3 if fault in {"hang", "slow"} else 30.0) as provider:
        error = await failing(provider.create("a fox", 1))

    assert type(error) is kind
    assert error.purchase_over is (bought == REFUSED)
    assert getattr(error, "answered", True) is (fault not in UNANSWERED)
    assert len(sandbox.requests) == 1
    assert len(sandbox.ledger) == (1 if after or fault in {"slow", "truncated"} else 0)


@pytest.mark.parametrize("title", ["credit", "billing", "spend", "free"])
async def test_an_account_without_money_is_told_in_the_providers_words(sandbox, provider, title):
    sandbox.fail(Fault("402", title=title))

    error = await failing(provider.create("a fox", 1))

    assert type(error) is AccountError
    assert "https://replicate.com/account/billing" in str(error)


@pytest.mark.parametrize("placement", ["header", "body", "text"])
async def test_a_throttled_create_says_how_long_to_wait(sandbox, provider, placement):
    sandbox.fail(Fault("429", retry_after=7, placement=placement, low_credit=True))

    error = await failing(provider.create("a fox", 1))

    assert error.retry_after == 7.0
    assert error.limit_per_minute == (None if placement == "header" else 6)


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:1", "http://nowhere.invalid", f"http://{'a' * 64}.invalid"])
async def test_a_create_that_never_left_bought_nothing(base_url):
    provider = ReplicateProvider(TOKEN, base_url=base_url)

    error = await failing(provider.create("a fox", 1))
    await provider.aclose()

    assert type(error) is TransientError
    assert (error.purchase_over, error.answered) == (True, False)
    assert str(error).startswith("Cannot reach Replicate: ")


async def test_a_create_whose_tls_handshake_fails_bought_nothing():
    wire = Wire()
    async with wire.serve() as url:
        provider = ReplicateProvider(TOKEN, base_url=url.replace("http:", "https:"))
        error = await failing(provider.create("a fox", 1))
        await provider.aclose()

    assert type(error) is TransientError
    assert (error.purchase_over, error.answered) == (True, False)


@pytest.mark.parametrize("model_input", [{"x": float("nan")}, {"x": object()}, {"x": "\ud800"}])
async def test_input_that_cannot_be_sent_is_not_sent(sandbox, base_url, model_input):
    provider = ReplicateProvider(TOKEN, base_url=base_url, model_input=model_input)

    error = await failing(provider.create("a fox", 1))
    await provider.aclose()

    assert type(error) is PermanentError
    assert error.purchase_over
    assert sandbox.requests == []


@pytest.mark.parametrize(
    ("model", "path", "version"),
    [
        ("black-forest-labs/flux-schnell", "/v1/models/black-forest-labs/flux-schnell/predictions", None),
        (f"a/b:{'c' * 64}", "/v1/predictions", "c" * 64),
        ("d" * 64, "/v1/predictions", "d" * 64),
    ],
)
async def test_a_create_carries_the_prompt_the_seed_and_the_models_input(model, path, version):
    wire = Wire(http({"id": "p1", "status": "starting"}, 201))
    given = {"output_format": "png", "prompt": "not this one"}
    async with wire.serve() as url:
        provider = ReplicateProvider(TOKEN, base_url=url, model=model, model_input=given)
        bought = await provider.create("a fox", 42)
        await provider.aclose()

    head, body = wire.requests[0]
    named = {"version": version} if version else {}
    assert bought == Prediction("p1")
    assert head.startswith(f"POST {path} ")
    assert json.loads(body) == {"input": {"output_format": "png", "prompt": "a fox", "seed": 42}, **named}


@pytest.mark.parametrize(("given", "sent"), [(360.0, "360s"), (300.1, "301s"), (2.0, "5s"), (None, None)])
async def test_a_create_and_nothing_else_says_how_long_its_prediction_may_live(given, sent):
    wire = Wire(http({"id": "p1", "status": "starting"}, 201), *[http({"id": "p1", "status": "canceled"})] * 2)
    async with wire.serve() as url:
        provider = ReplicateProvider(TOKEN, base_url=url, cancel_after=given)
        bought = await provider.create("a fox", 42)
        await provider.cancel(bought)
        await failing(ended(provider.wait(bought, print)))
        await provider.aclose()

    told = [[line for line in head.lower().split("\r\n") if "cancel-after" in line] for head, _ in wire.requests]
    assert told == [[f"cancel-after: {sent}"] if sent else [], [], []]


@pytest.mark.parametrize("fault", [Fault("run", seconds=60), Fault("stuck")], ids=["canceled", "aborted"])
async def test_a_prediction_that_outlives_its_deadline_is_a_transient_error(sandbox, base_url, fault):
    sandbox.fail(fault)
    provider = ReplicateProvider(TOKEN, base_url=base_url, cancel_after=5)
    bought = await provider.create("a fox", 1)
    sandbox.ledger[0].requested_at -= 6
    sandbox.ledger[0].deadline -= 6
    error = await failing(ended(provider.wait(bought, print)))
    await provider.aclose()

    assert (type(error), error.purchase_over) == (TransientError, True)
    assert str(error).endswith("at its deadline")


async def test_a_model_without_a_seed_input_gets_none(sandbox, base_url):
    provider = ReplicateProvider(TOKEN, base_url=base_url, seed_input="")
    await provider.create("a fox", 42)
    await provider.aclose()

    assert sandbox.ledger[0].input == {"prompt": "a fox"}
    assert not provider.seedable


@pytest.mark.parametrize("model", ["", "a/", "a/b/c", "a/b:", "a b/c"])
def test_a_malformed_model_is_refused_at_once(model):
    with pytest.raises(ValueError, match="not a model"):
        ReplicateProvider(TOKEN, model=model)


# Wait


@pytest.mark.parametrize(
    "fault",
    [
        "429",
        "500",
        "502",
        "503",
        "504",
        "404",
        "422",
        "reset",
        "close",
        "truncated",
        "malformed",
        "html",
        "non-object",
        "huge",
        "redirect",
    ],
)
async def test_a_failed_poll_does_not_end_the_prediction(sandbox, provider, fault):
    bought = await provider.create("a fox", 1)
    broken = sandbox.fail(Fault(fault, on="get", times=3, retry_after=0))

    image_url = await ended(provider.wait(Prediction(bought.id), print))

    assert image_url.endswith(f"/files/{bought.id}/out-0.webp")
    assert broken.hits == 3
    assert len(sandbox.ledger) == 1


async def test_a_silent_server_does_not_hold_up_the_waiting(sandbox, base_url, provider):
    bought = await provider.create("a fox", 1)
    silence = sandbox.fail(Fault("hang", on="get", times=2))
    async with providing(base_url, answer_within=0.2) as impatient:
        assert await ended(impatient.wait(Prediction(bought.id), print)) == bought.image_url
    assert silence.hits == 2


@pytest.mark.parametrize(
    ("fault", "kind"), [("401", UnauthorizedError), ("403", UnauthorizedError), ("402", AccountError)]
)
async def test_an_account_refused_while_polling_does_not_end_the_purchase(sandbox, provider, fault, kind):
    sandbox.fail(Fault("run", seconds=60))
    bought = await provider.create("a fox", 1)
    sandbox.fail(Fault(fault, on="get"))

    error = await failing(ended(provider.wait(bought, print)))

    assert (type(error), error.purchase_over) == (kind, False)


@pytest.mark.parametrize(
    ("fault", "kind", "told"),
    [
        (Fault("nsfw"), ContentPolicyError, "Prediction failed: NSFW content detected"),
        (Fault("failed", text="Director: unexpected error (E1001)"), PermanentError, "(E1001)"),
        (Fault("failed", text="Director: unexpected error (E9828)"), TransientError, "(E9828)"),
        (Fault("failed"), TransientError, "Prediction failed without a reason"),
        (Fault("failed", text=""), TransientError, "Prediction failed without a reason"),
        (Fault("error-object", text="NSFW"), ContentPolicyError, "Prediction failed: NSFW"),
        (Fault("canceled"), TransientError, "Prediction was canceled"),
        (Fault("aborted"), TransientError, "Prediction was aborted"),
        (Fault("empty"), TransientError, "Prediction succeeded without an output"),
        (Fault("null"), TransientError, "Prediction succeeded without an output"),
        (Fault("junk-url"), PermanentError, "Malformed output URL"),
        (Fault("data-uri"), PermanentError, DATA_URI),
        (Fault("data-removed"), TransientError, "The prediction's output was removed before it was read"),
    ],
)
@pytest.mark.parametrize("resumed", [False, True])
async def test_an_end_without_an_image_ends_the_purchase(sandbox, provider, fault, kind, told, resumed):
    sandbox.fail(fault)
    bought = await provider.create("a fox", 1)

    error = await failing(ended(provider.wait(Prediction(bought.id) if resumed else bought, print)))

    assert (type(error), error.purchase_over) == (kind, True)
    assert told in str(error)


async def test_a_prediction_that_stays_missing_ends_the_purchase(sandbox, base_url):
    sandbox.fail(Fault("gone"))
    async with providing(base_url, gone_after=0.1) as provider:
        bought = await provider.create("a fox", 1)

        error = await failing(ended(provider.wait(Prediction(bought.id), print)))

    assert (type(error), error.purchase_over) == (TransientError, True)
    assert str(error) == "The prediction is not there any more"


async def test_a_failure_that_repeats_the_prompt_is_kept_without_it(sandbox, provider):
    sandbox.fail(Fault("failed", text="KeyError: 'sample', prompt was: an nsfw sign in the snow"))
    bought = await provider.create("an nsfw sign in the snow", 1)

    assert type(bought.error) is TransientError
    assert str(bought.error) == "Prediction failed: KeyError: 'sample', prompt was: [prompt]"


async def test_a_recorded_prediction_is_looked_at_soon_however_long_its_model_takes(sandbox, provider):
    provider._history.learn(3600.0)
    bought = await provider.create("a lighthouse", 1)

    with anyio.fail_after(5):
        await provider.wait(Prediction(bought.id), lambda _: None)


# Outputs


def succeeded(output, **given):
    return outputs.read_prediction({"id": "p1", "status": "succeeded", "output": output}, Echoes(), **given)


@pytest.mark.parametrize(
    "output",
    [
        "http://replicate.delivery/a.webp",
        "javascript:alert(1)",
        "ftp://replicate.delivery/a.webp",
        "//replicate.delivery/a.webp",
        "https:///a.webp",
        "https://",
        "https://user@replicate.delivery/a.webp",
        "https://user:word@replicate.delivery/a.webp",
        "https://replicate.delivery:99999/a.webp",
        "https://replicate.delivery:0/a.webp",
        "https://[::1/a.webp",
        "https://replicate.delivery/a b.webp",
        "https://replicate.delivery/a\nb.webp",
        "https://replicate.delivery/\x00.webp",
        "https://replicate.delivery/ä.webp",
        "https://replicate.delivery/\u202egpj.webp",
        'https://replicate.delivery/"onload=',
        "https://replicate.delivery/<b>",
        "https://replicate.delivery\\@evil.example/",
        f"https://replicate.delivery/{'a' * 2022}",
        7,
        [7],
        {"text": "https://replicate.delivery/a.webp"},
        {"image": {"file": "https://replicate.delivery/a.webp"}},
        [["javascript:1"], {"url": "//replicate.delivery/a.webp"}],
        True,
        0,
    ],
)
def test_an_output_that_is_no_safe_url_is_malformed(output):
    read = succeeded(output, plain_http=False, redact=str)

    assert type(read.error) is PermanentError
    assert str(read.error) == "Malformed output URL"


@pytest.mark.parametrize(
    ("output", "plain_http"),
    [
        ("https://replicate.delivery/xezq/a/out-0.webp", False),
        ("https://pbxt.replicate.delivery:8443/a?b=c%20d#e", False),
        (f"https://replicate.delivery/{'a' * 2021}", False),
        ("http://127.0.0.1:1234/files/a.webp", True),
        ("http://[::1]:1234/files/a.webp", True),
    ],
)
@pytest.mark.parametrize(
    "shape",
    [
        lambda url: url,
        lambda url: f" {url}\n",
        lambda url: [url],
        lambda url: [url, "https://replicate.delivery/second.webp"],
        lambda url: [None, url],
        lambda url: ["", [], {}, "javascript:1", "data:image/png;base64,iVBORw0KGgo=", {"seed": 7}, url],
        lambda url: [[[], [url]], ["https://replicate.delivery/second.webp"]],
        lambda url: {"image": url, "seed": 7},
        lambda url: {"images": [{"url": None}, {"url": url, "width": 8}]},
        lambda url: {"images": ["https://replicate.delivery/second.webp"], "url": url},
        lambda url: [{"image": {"url": url}}],
    ],
)
def test_the_first_usable_url_of_an_output_is_the_image(output, plain_http, shape):
    body = {"id": "p1", "status": "succeeded", "output": shape(output)}

    assert outputs.read_prediction(body, Echoes(), plain_http=plain_http, redact=str) == Prediction(
        "p1", image_url=output
    )


@pytest.mark.parametrize("output", [None, "", " \n", [], {}, [None], [[], [""]], {"url": None, "images": []}])
def test_an_output_without_anything_in_it_is_empty(output):
    read = succeeded(output, plain_http=False, redact=str)

    assert (type(read.error), str(read.error)) == (TransientError, "Prediction succeeded without an output")
    assert read.error.unexplained


@pytest.mark.parametrize("shape", [lambda uri: uri, lambda uri: [None, uri], lambda uri: {"image": uri.upper()}])
def test_a_data_uri_is_said_to_be_one(shape):
    output = shape("data:image/png;base64,iVBORw0KGgo=")
    read = succeeded(output, plain_http=True, redact=str)

    assert (type(read.error), str(read.error)) == (PermanentError, DATA_URI)


def test_an_output_is_looked_at_to_any_depth_and_up_to_a_size():
    url = "https://replicate.delivery/a.webp"
    deep = url
    for _ in range(outputs.MOST_VALUES - 1):
        deep = [deep]
    many = [None] * outputs.MOST_VALUES + [url]

    assert outputs.image_url(deep, plain_http=False) == url
    for beyond in ([deep], many, [many], [{"images": []}] * 5000 + [url]):
        with pytest.raises(TransientError, match="without an output"):
            outputs.image_url(beyond, plain_http=False)


@pytest.mark.parametrize(
    ("base_url", "plain"),
    [
        (None, False),
        ("https://api.replicate.com", False),
        ("http://10.0.0.1:80", False),
        ("http://127.0.0.2:80", True),
        ("http://localhost", True),
        ("http://[::1]:80", True),
    ],
)
async def test_plain_http_is_good_enough_for_a_loopback_server_alone(base_url, plain):
    assert ReplicateProvider(TOKEN, base_url=base_url)._plain_http is plain


# Cancel, check, find


async def test_a_cancel_ends_what_still_ran(sandbox, provider):
    sandbox.fail(Fault("run", seconds=60))
    bought = await provider.create("a fox", 1)

    stopped = await provider.cancel(bought)

    assert (stopped.id, stopped.image_url, str(stopped.error)) == (bought.id, None, "Prediction was canceled")
    assert sandbox.ledger[0].status == "canceled"


async def test_a_success_that_came_before_the_cancel_is_a_success(sandbox, provider):
    bought = await provider.create("a fox", 1)

    stopped = await provider.cancel(Prediction(bought.id))

    assert stopped == bought
    assert stopped.image_url is not None


@pytest.mark.parametrize("fault", ["401", "402", "422", "429", "500", "503", "reset", "html"])
async def test_a_cancel_that_fails_leaves_the_purchase_open_and_is_not_repeated(sandbox, provider, fault):
    sandbox.fail(Fault("run", seconds=60))
    bought = await provider.create("a fox", 1)
    broken = sandbox.fail(Fault(fault, on="cancel"))

    error = await failing(provider.cancel(bought))

    assert not error.purchase_over
    assert broken.hits == 1


async def test_a_cancel_answered_404_leaves_the_end_to_the_next_poll(provider):
    error = await failing(provider.cancel(Prediction("unknown")))

    assert (type(error), error.purchase_over) == (TransientError, False)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("401", UnauthorizedError), ("403", UnauthorizedError), ("402", AccountError), ("500", TransientError)],
)
async def test_a_check_raises_what_is_wrong_with_the_account(sandbox, provider, fault, kind):
    await provider.check()
    sandbox.fail(Fault(fault, on="account"))

    error = await failing(provider.check())

    assert type(error) is kind


async def test_a_server_without_accounts_passes_the_check(sandbox, provider):
    sandbox.fail(Fault("404", on="account"))

    await provider.check()


async def test_a_refused_token_does_not_pass_the_check(base_url):
    provider = ReplicateProvider("r8_another_token", base_url=base_url)

    error = await failing(provider.check())
    await provider.aclose()

    assert type(error) is UnauthorizedError


async def test_a_purchase_is_found_by_its_seed_across_several_pages(sandbox, provider):
    async with anyio.create_task_group() as group:
        for seed in range(230):
            group.start_soon(provider.create, "a fox", seed)
    oldest = sandbox.ledger[0]

    found = await provider.find(oldest.seed, ago(seconds=60))
    missing = await provider.find(1000, ago(seconds=60))

    assert (found.id, found.ended) == (oldest.id, True)
    assert missing is None
    assert len([seen for seen in sandbox.requests if seen.method == "GET"]) == 6


def gateway(app, path):
    """A gateway at `path` instead of /v1 before `app`. It rewrites no answer: URLs in them name the API's own host."""

    async def pass_on(scope, receive, send):
        assert scope["path"].startswith(f"{path}/")
        headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
        behind = {"path": f"/v1{scope['path'].removeprefix(path)}", "scheme": "https"}
        behind |= {"headers": [*headers, (b"host", b"api.replicate.com")], "server": ("api.replicate.com", 443)}
        await app({**scope, **behind, "raw_path": behind["path"].encode()}, receive, send)

    return pass_on


async def test_a_gateway_that_rewrites_nothing_makes_no_difference(sandbox):
    path = "/account/gateway/replicate"
    async with serving(gateway(sandbox.app, path), "127.0.0.1", 0) as url:
        provider = ReplicateProvider(TOKEN, base_url=f"{url}{path}", api_prefix="")
        await provider.check()
        bought = [await provider.create("a fox", seed) for seed in range(120)]
        found = await provider.find(0, ago(seconds=60))
        missing = await provider.find(1000, ago(seconds=60))
        await provider.wait(Prediction(bought[0].id), print)
        await provider.cancel(bought[0])
        await provider.aclose()

    assert (found, missing) == (bought[0], None)


async def test_of_two_with_one_seed_the_newest_is_found(sandbox, provider):
    for _ in range(2):
        await provider.create("a fox", 1)

    found = await provider.find(1, ago(seconds=60))

    assert found.id == sandbox.ledger[1].id


async def test_a_purchase_that_ended_without_an_image_is_found_with_its_error(sandbox, provider):
    sandbox.fail(Fault("nsfw"))
    await provider.create("a fox", 1)

    found = await provider.find(1, ago(seconds=60))

    assert type(found.error) is ContentPolicyError


async def test_a_purchase_is_found_under_its_models_internal_name(sandbox, base_url):
    provider = ReplicateProvider(TOKEN, base_url=base_url, model="meta/llama-2-70b-chat")
    await provider.create("a fox", 1)

    found = await provider.find(1, ago(seconds=60))
    await provider.aclose()

    assert sandbox.ledger[0].model == "replicate/lifeboat-70b"
    assert found is not None


async def test_a_listing_that_lags_lacks_the_purchase(sandbox, provider):
    sandbox.fail(Fault("lag", seconds=60))
    await provider.create("a fox", 1)

    assert await provider.find(1, ago(seconds=60)) is None
    assert len(sandbox.ledger) == 1


@pytest.mark.parametrize("fault", ["404", "422", "429", "500", "503", "reset", "malformed", "html", "redirect"])
async def test_a_listing_that_cannot_be_read_says_nothing_about_the_purchase(sandbox, provider, fault):
    broken = sandbox.fail(Fault(fault, on="list"))

    error = await failing(provider.find(1, ago(seconds=60)))

    assert isinstance(error, TransientError)
    assert (error.purchase_over, error.answered) == (False, fault != "reset")
    assert broken.hits == (2 if fault == "reset" else 1)  # aiohttp repeats a GET whose connection broke


@pytest.mark.parametrize(("fault", "kind"), [("401", UnauthorizedError), ("402", AccountError)])
async def test_a_listing_refused_for_the_account_keeps_the_purchase(sandbox, provider, fault, kind):
    sandbox.fail(Fault(fault, on="list"))

    error = await failing(provider.find(1, ago(seconds=60)))

    assert (type(error), error.purchase_over) == (kind, False)


def entry(place, created_at, **given):
    return {"id": f"p{place}", "status": "starting", "created_at": created_at, "input": {"seed": place}, **given}


NEW, OLD = "2100-01-01T00:00:00.123456789Z", "2000-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("results", "asked"),
    [
        ([entry(1, NEW), entry(2, NEW)], 2),
        ([entry(1, NEW), entry(2, OLD)], 1),
        ([entry(1, NEW), entry(2, "2000-01-01T00:00:00")], 1),
        ([entry(1, NEW), entry(2, "once"), entry(3, None)], 2),
        (["odd", None, entry(1, NEW, input=None)], 2),
        ([], 2),
    ],
)
async def test_the_listing_is_read_until_it_is_older_than_the_purchase(results, asked):
    wire = Wire(*(http({"next": "/v1/predictions?cursor=x" if more else None, "results": results}) for more in (1, 0)))
    async with wire.serve() as url:
        provider = ReplicateProvider(TOKEN, base_url=url)
        found = await provider.find(99, ago(seconds=60))
        await provider.aclose()

    assert found is None
    assert len(wire.requests) == asked
    assert [head.split()[1] for head, _ in wire.requests][1:] == ["/v1/predictions?cursor=x"][: asked - 1]


async def test_a_listing_without_an_end_is_no_proof():
    wire = Wire(*(http({"next": f"/v1/predictions?cursor={place}", "results": []}) for place in range(3)))
    async with wire.serve() as url, providing(url, most_pages=3) as provider:
        error = await failing(provider.find(1, ago(seconds=60)))

    assert (type(error), error.purchase_over) == (TransientError, False)


# What a prediction was and cost


def told(**more):
    ended = {"id": "p1", "status": "succeeded", "output": ["https://x/1"]}
    return http({**ended, **more})


@pytest.mark.parametrize(
    ("more", "images"),
    [
        ({}, 1),
        ({"output": "https://x/1"}, 1),
        ({"output": ["https://x/1", "https://x/2"]}, 2),
        ({"output": ["https://x/1"], "metrics": {"image_count": 4}}, 4),
        ({"metrics": {"image_count": True}}, 1),
        ({"metrics": {"image_count": -1}}, 1),
        ({"metrics": {"image_count": 10**9}}, 1),
        ({"output": ["javascript:alert(1)"]}, 1),
        ({"output": None}, 0),
        ({"output": None, "data_removed": True}, 1),
        ({"status": "failed", "error": "NSFW"}, 0),
        ({"status": "canceled"}, 0),
        ({"status": "processing"}, None),
    ],
)
async def test_the_images_that_are_paid_for_are_counted(more, images):
    async with Wire(told(**more)).serve() as url:
        provider = ReplicateProvider(TOKEN, base_url=url)
        seen = await provider.cancel(Prediction("p1"))
        await provider.aclose()

    assert seen.images == images


@pytest.mark.parametrize(
    ("more", "seconds"),
    [
        ({"metrics": {"predict_time": 0.557916184}}, 0.557916184),
        ({"metrics": {"predict_time": 2}}, 2),
        ({"metrics": {"predict_time": -1}}, None),
        ({"metrics": {"predict_time": "1"}}, None),
        ({"metrics": {"predict_time": 1e300}}, None),
        ({"metrics": [1]}, None),
        ({}, None),
    ],
)
async def test_the_seconds_that_the_model_ran_are_read(more, seconds):
    async with Wire(told(**more)).serve() as url:
        provider = ReplicateProvider(TOKEN, base_url=url)
        seen = await provider.cancel(Prediction("p1"))
        await provider.aclose()

    assert seen.predict_seconds == seconds


PAGE = "https://replicate.com/p/p1"


@pytest.mark.parametrize(
    ("urls", "page"),
    [
        ({"web": PAGE}, PAGE),
        ({"web": f"{PAGE}{'x' * 200}"}, None),
        ({"web": "javascript:alert(1)"}, None),
        ({"web": "https://user:secret@x/p1"}, None),
        ({"web": "https://x/a-red-kite-over-the-harbour"}, None),
        ({"web": 1}, None),
        ([PAGE], None),
        (None, None),
    ],
)
async def test_only_a_page_that_can_be_shown_is_kept(urls, page):
    async with Wire(told(urls=urls)).serve() as url:
        provider = ReplicateProvider(TOKEN, base_url=url)
        seen = await provider.hiding("a red kite over the harbour").cancel(Prediction("p1"))
        await provider.aclose()

    assert seen.web_url == page
