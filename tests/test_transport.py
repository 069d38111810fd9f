"""Each trap of replicate 1.0.7 that reference/replicate.md lists in §0."""

import gc
import json
import traceback
import warnings
from datetime import UTC, datetime

import anyio
import httpx
import pytest
from doubles import ended
from replicate.__about__ import __version__
from wire import HANG_UP, SILENCE, Wire, drip, http, quick_tls  # noqa: F401  (a fixture)

from reactor.errors import AccountError, AmbiguousCreateError, ContentPolicyError, PermanentError, TransientError
from reactor.providers import Prediction, bodies, http_client
from reactor.providers.limits import Limits
from reactor.providers.replicate import ReplicateProvider
from reactor.sandbox import Fault, Sandbox, Timing

pytestmark = pytest.mark.anyio

TOKEN = "r8_a_secret_that_must_not_be_told"
STARTING = {"id": "p1", "status": "starting"}
FOUND = {"input": {"seed": 1}}
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
CALLS = {
    "create": lambda provider: provider.create("a fox", 1),
    "get": lambda provider: provider._poll("p1", 0.0),
    "cancel": lambda provider: provider.cancel(Prediction("p1")),
    "list": lambda provider: provider.find(1, EPOCH),
    "account": lambda provider: provider._account(),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


async def failing(call):
    with pytest.raises(Exception) as caught:  # noqa: PT011  (which one is what the test asks)
        await call
    return caught.value


async def asked(wire, call, **given):
    """Call a provider that speaks to `wire`; return the result or the error."""
    async with wire.serve() as url:
        provider = ReplicateProvider(given.pop("token", TOKEN), base_url=given.pop("base_url", url), **given)
        try:
            return await call(provider)
        except Exception as error:  # noqa: BLE001  (which one is what the test asks)
            return error
        finally:
            await provider.aclose()


def answering(provider, *bodies):
    """Answer requests without sending them; return the list of requests."""
    sent, replies = [], iter(bodies)

    async def asked(*request):
        sent.append(request)
        return http_client.Reply(200, [], json.dumps(next(replies)).encode())

    provider._client.http.ask = asked
    return sent


@pytest.mark.parametrize("model", ["black-forest-labs/flux-schnell", "d" * 64])
async def test_a_create_has_these_headers_and_asks_for_no_waiting(model):
    wire = Wire(http(STARTING, 201))

    await asked(wire, CALLS["create"], model=model)

    names, headers = zip(
        *(line.lower().split(": ") for line in wire.requests[0][0].splitlines()[1:] if line), strict=True
    )
    told = dict(zip(names, headers, strict=True))
    assert sorted(names) == sorted(told)
    del told["host"], told["content-length"]
    assert told == {
        "accept": "*/*",
        "accept-encoding": "identity",
        "authorization": f"bearer {TOKEN}",
        "content-type": "application/json",
        "user-agent": f"replicate-python/{__version__}",
    }


@every_call
async def test_a_silent_server_is_given_up(call):
    wire = Wire(SILENCE)

    error = await asked(wire, call, limits=Limits(answer_within=0.1))

    assert type(error) is (AmbiguousCreateError if call is CALLS["create"] else TransientError)
    assert not error.purchase_over
    assert getattr(error, "answered", False) is False
    assert str(error).endswith(": no complete answer within 0.1 s")


@every_call
async def test_a_server_that_drips_is_given_up(call):
    wire = Wire(drip(http(STARTING)))

    error = await asked(wire, call, limits=Limits(answer_within=0.2))

    assert type(error) is (AmbiguousCreateError if call is CALLS["create"] else TransientError)


@pytest.mark.parametrize("fault", ["429", "503", "504"])
@pytest.mark.parametrize(("on", "call"), CALLS.items(), ids=CALLS)
async def test_nothing_is_asked_twice_behind_our_back(fault, on, call):
    sandbox = Sandbox(Timing.instant())
    sandbox.fail(Fault(fault, on=on, retry_after=0))
    async with sandbox.serve() as url:
        provider = ReplicateProvider(TOKEN, base_url=url)
        error = await failing(call(provider))
        await provider.aclose()

    assert isinstance(error, TransientError | AmbiguousCreateError)
    assert len(sandbox.requests) == 1


async def test_a_retry_after_of_an_hour_is_neither_slept_nor_believed():
    wire = Wire(http({"detail": "Request was throttled."}, 429, retry_after=3600))

    error = await asked(wire, CALLS["get"])

    assert error.retry_after == 300.0


@pytest.mark.parametrize(
    "said",
    [
        {"status": "aborted"},
        {"status": "failed", "error": {"code": 7}},
        {"status": "canceled", "version": None},
        {"status": "canceled", "model": 3, "urls": "odd", "created_at": None},
        {"status": "failed", "input": ["odd"]},
    ],
)
async def test_an_answer_that_the_sdks_model_refuses_is_understood(said):
    wire = Wire(http({"id": "p1", **said}))

    seen = await asked(wire, CALLS["get"])

    assert (seen.id, seen.ended) == ("p1", True)


ODD_JSON = [
    rb'"\ud800"',
    rb'"\udfff and \ud83d\ude00"',
    b'"\xff\xfe"',
    b'"\xed\xa0\x80"',
    b'"\x00\n\x1b[2J"',
    b"NaN",
    b"[Infinity, -Infinity]",
    b"1" * 5000,
    b"-" + b"9" * 400,
    b'1, "logs": 2',
]


@pytest.mark.parametrize("odd", ODD_JSON)
@pytest.mark.parametrize("name", CALLS)
async def test_an_answer_is_read_whatever_the_standard_library_would_read(name, odd):
    one = b'{"id": "p1", "status": "starting", "input": {"seed": 1}, "logs": %b}' % odd
    said = b'{"results": [%b], "next": null, "previous": %b}' % (one, odd) if name == "list" else one

    assert await asked(Wire(http(said)), CALLS[name]) == (None if name == "account" else Prediction("p1"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-le"])
async def test_an_answer_is_read_in_the_other_encodings_of_json(encoding):
    assert await asked(Wire(http(json.dumps(STARTING).encode(encoding))), CALLS["get"]) == Prediction("p1")


@every_call
@pytest.mark.parametrize("odd", ODD_JSON)
async def test_a_refusal_is_understood_whatever_is_in_it(call, odd):
    said = b'{"title": "No\\ud800 credit\x1b", "detail": "pay\xff", "x": %b}' % odd

    error = await asked(Wire(http(said, 402)), call)

    words = ": No\ufffd credit\ufffd: pay\ufffd" if call is CALLS["create"] else " Payment Required"
    assert (type(error), str(error)) == (AccountError, f"Replicate answered 402{words}")


@pytest.mark.parametrize("said", [rb"a\ud800b", rb"a\u0000b", b"a\xffb", rb"a\u202eb"])
async def test_a_reason_is_fit_to_be_stored_and_logged(said):
    wire = Wire(http(b'{"id": "p1", "status": "failed", "error": "NSFW: %b"}' % said))

    seen = await asked(wire, CALLS["get"])

    assert (type(seen.error), str(seen.error)) == (ContentPolicyError, "Prediction failed: NSFW: a\ufffdb")


@pytest.mark.parametrize("status", ["starting", "processing", "queued", None])
async def test_a_status_that_is_not_terminal_ends_nothing(status):
    seen = await asked(Wire(http({"id": "p1", "status": status, "output": None})), CALLS["get"])

    assert seen == Prediction("p1")


@pytest.mark.parametrize(
    "answer",
    [
        http(["not", "an", "object"]),
        http("words"),
        http(b""),
        http(b"<html>Just a moment...</html>"),
        http(b"\xff\xfe"),
        http({"status": "starting"}),
        http({"id": 7, "status": "starting"}),
        http({"id": "../account", "status": "starting"}),
        http({"id": "..", "status": "starting"}),
        http(b"not gzip", content_encoding="gzip"),
        http(b"x" * 9_000_000),
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{",
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ],
    ids=range(13),
)
@pytest.mark.parametrize("name", ["create", "get"])
async def test_an_unusable_answer_is_not_taken_for_a_refusal(answer, name):
    wire = Wire([(0, answer), (0, HANG_UP)])

    error = await asked(wire, CALLS[name])

    assert type(error) is (AmbiguousCreateError if name == "create" else TransientError)
    assert not error.purchase_over
    assert len(wire.requests) == 1


async def test_an_answer_about_another_prediction_is_not_taken_for_ours():
    other = http({"id": "p2", "status": "succeeded", "output": "https://replicate.delivery/a.webp"})

    error = await asked(Wire(other), CALLS["get"])

    assert (type(error), error.purchase_over) == (TransientError, False)


@pytest.mark.parametrize("nested", [1015, 100_000])
async def test_an_answer_nested_too_deep_to_parse_is_at_worst_ambiguous(nested):
    wire = Wire(http(b'{"id": "p1", "status": "starting", "logs": ' + b"[" * nested + b"]" * nested + b"}"))

    seen = await asked(wire, CALLS["create"])

    assert seen == Prediction("p1") or type(seen) is AmbiguousCreateError


FIELDS = ("logs", "error", "output", "created_at", "completed_at", "deadline", "metrics", "input", "detail", "next")


@every_call
@pytest.mark.parametrize("status", [200, 429])
@pytest.mark.parametrize("word", ["succeeded", "failed"])
async def test_values_nested_too_deep_for_python_raise_only_our_errors(call, status, word):
    deep = b"[" * 1000 + b"]" * 1000
    fields = b", ".join(b'"%b": %b' % (name.encode(), deep) for name in FIELDS)
    one = b'{"id": "p1", "status": "%b", %b' % (word.encode(), fields)
    wire = Wire(http(b'%b, "results": [%b}]}' % (one, one), status))

    seen = await asked(wire, call)

    assert seen is None or isinstance(seen, Prediction | TransientError | PermanentError)


async def test_a_huge_body_is_not_read_to_its_end():
    huge = [(0, b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n" + b"x" * 2000), (0, SILENCE)]
    wire = Wire(huge, http(STARTING, 201))

    async def calls(provider):
        error = await failing(CALLS["get"](provider))
        await provider.create("a fox", 1)
        return str(error)

    assert "more than 1,000 bytes" in await asked(wire, calls, limits=Limits(largest_body=1000))
    assert wire.connections == 2


async def test_an_earlier_answer_is_not_taken_for_that_of_a_call_that_got_none():
    async def refused():
        raise ValueError

    async def calls(provider):
        await provider.create("a fox", 1)
        return await failing(provider._body(refused))

    assert type(await asked(Wire(http(STARTING, 201)), calls)) is bodies.UnreadableError


@pytest.mark.parametrize("listed", [{}, {"results": None}, {"results": "odd"}, {"results": [], "next": 7}])
async def test_a_listing_without_results_is_no_proof(listed):
    error = await asked(Wire(http(listed)), CALLS["list"])

    assert (type(error), error.purchase_over, error.answered) == (TransientError, False, True)


async def test_a_page_of_more_predictions_than_any_api_lists_is_no_proof():
    error = await asked(Wire(http({"results": [{}] * 1001, "next": None})), CALLS["list"])

    assert (type(error), error.purchase_over) == (TransientError, False)
    assert str(error).endswith("more than 1,000 predictions on a page")


@every_call
async def test_a_redirect_is_not_followed(call):
    elsewhere = Wire(http(STARTING))
    async with elsewhere.serve() as url:
        error = await asked(Wire(http(STARTING, 307, location=f"{url}/v1/predictions")), call)

    assert not error.purchase_over
    assert elsewhere.requests == []


@pytest.mark.parametrize(
    "following",
    [
        "https://api.replicate.com/v1/predictions?cursor=a%2Bb",
        "{elsewhere}/v1/predictions?cursor=a%2Bb#rest",
        "//user@{netloc}/predictions?cursor=a%2Bb",
        "/v1/predictions?cursor=a%2Bb",
        "?cursor=a%2Bb",
        "https://[::?cursor=a%2Bb",
    ],
)
async def test_the_next_page_is_always_requested_from_our_own_origin(following):
    elsewhere = Wire(http({"next": None, "results": []}))
    async with elsewhere.serve() as url:
        told = following.format(elsewhere=url, netloc=url.removeprefix("http://"))
        wire = Wire(http({"next": told, "results": []}), http({"next": None, "results": [STARTING | FOUND]}))
        found = await asked(wire, CALLS["list"])

    assert found == Prediction("p1")
    assert [head.split()[1] for head, _ in wire.requests] == ["/v1/predictions", "/v1/predictions?cursor=a%2Bb"]
    assert elsewhere.requests == []


BAD_NEXT = [7, True, ["?a"], {}, "https://elsewhere.example/", "/v1/predictions", "?", "#?cursor", f"?{'a' * 4097}"]


@pytest.mark.parametrize("following", [*BAD_NEXT, "?a\x00b", "?a\r\nb: c", "?\ud800"])
async def test_what_stands_on_a_page_is_found_before_its_next_page_is_looked_at(following):
    one = Wire(http({"next": following, "results": [STARTING | FOUND]}))
    other = Wire(http({"next": following, "results": [STARTING]}))
    old = Wire(http({"next": following, "results": [STARTING | {"created_at": "1999-12-31T00:00:00Z"}]}))

    found, error, absent = [await asked(wire, CALLS["list"]) for wire in (one, other, old)]

    assert (found, absent) == (Prediction("p1"), None)
    assert (type(error), error.purchase_over, error.answered) == (TransientError, False, True)
    assert [len(wire.requests) for wire in (one, other, old)] == [1, 1, 1]


@pytest.mark.parametrize("told", [["a", "a"], ["a", "b", "a"], ["a", "b", "b"]])
async def test_a_listing_that_repeats_a_page_is_no_proof(told):
    wire = Wire(*(http({"next": f"?cursor={cursor}", "results": []}) for cursor in told))

    error = await asked(wire, CALLS["list"])

    assert (type(error), error.purchase_over, str(error)) == (
        TransientError,
        False,
        "Replicate gave no usable answer: a listing that repeats a page",
    )
    assert len(wire.requests) == len(told)


PREFIXES = [("", "/v1", "/v1"), ("", "", ""), ("/acc/gate/replicate", "", "/acc/gate/replicate"), ("/a", "/b", "/a/b")]


@pytest.mark.parametrize(("path", "prefix", "whole"), [*PREFIXES, ("/v1", "", "/v1"), ("/v1/v1", "/v1", "/v1/v1/v1")])
@pytest.mark.parametrize("name", CALLS)
async def test_every_path_begins_with_the_base_urls_and_the_prefix(path, prefix, whole, name):
    wire = Wire(http(STARTING | {"results": [], "next": "https://api.replicate.com/v1/predictions?cursor=x"}))
    wire.answers.append(http({"results": [], "next": None}))
    async with wire.serve() as url:
        await asked(wire, CALLS[name], base_url=f"{url}{path}", api_prefix=prefix)

    paths = {
        "create": ["/models/black-forest-labs/flux-schnell/predictions"],
        "get": ["/predictions/p1"],
        "cancel": ["/predictions/p1/cancel"],
        "list": ["/predictions", "/predictions?cursor=x"],
        "account": ["/account"],
    }
    assert [head.split()[1] for head, _ in wire.requests] == [f"{whole}{path}" for path in paths[name]]


async def test_one_connection_serves_call_after_call():
    wire = Wire(
        http(STARTING, 201), http(b"<html>", 503), http({"id": "p1", "status": "succeeded", "output": "x"}), http({})
    )

    async def calls(provider):
        bought = await provider.create("a fox", 1)
        await failing(ended(provider.wait(bought, print)))
        await provider._account()

    assert await asked(wire, calls) is None
    assert len(wire.requests) == 4
    assert wire.connections == 1


def idle_connections(provider):
    """The list of connections that aiohttp keeps for the next request, each with the moment since when it is idle."""
    (kept,) = provider._client.http._session.connector._conns.values()
    return kept


async def test_a_connection_outlives_half_an_hour_without_a_request():
    wire = Wire(http(STARTING, 201), http(STARTING, 201))

    async def calls(provider):
        await provider.create("a fox", 1)
        kept = idle_connections(provider)
        protocol, since = kept.pop()
        kept.append((protocol, since - 1800.0))
        await provider.create("a fox", 1)

    assert await asked(wire, calls) is None
    assert wire.connections == 1


async def test_a_peer_that_vanished_is_noticed_by_tcp():
    async def look(provider):
        await provider.create("a fox", 1)
        ((protocol, _),) = idle_connections(provider)
        sock = protocol.transport.get_extra_info("socket")
        return [sock.getsockopt(*option[:2]) for option in http_client.SOCKET_OPTIONS]

    assert await asked(Wire(http(STARTING, 201)), look) == [option[2] for option in http_client.SOCKET_OPTIONS]


async def test_the_environment_changes_nothing(monkeypatch):
    elsewhere, wire = Wire(), Wire(http(STARTING, 201))
    async with elsewhere.serve() as url:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy", "REPLICATE_BASE_URL"):
            monkeypatch.setenv(name, url)
        monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_of_somebody_else")
        bought = await asked(wire, CALLS["create"])

    assert bought == Prediction("p1")
    assert "r8_of_somebody_else" not in wire.requests[0][0]
    assert elsewhere.connections == 0


async def test_without_a_base_url_it_is_replicates_own(monkeypatch):
    monkeypatch.setenv("REPLICATE_BASE_URL", "http://127.0.0.1:1")
    provider = ReplicateProvider(TOKEN)
    sent = answering(provider, {})
    await provider._account()

    assert sent[0][:2] == ("GET", "https://api.replicate.com/v1/account")


@pytest.mark.parametrize("given", [f"{TOKEN}\n", f"\t {TOKEN}\r\n"])
async def test_a_token_from_a_file_loses_its_line_end(given):
    wire = Wire(http({}))

    await asked(wire, CALLS["account"], token=given)

    assert f"authorization: bearer {TOKEN}" in wire.requests[0][0].lower().splitlines()


@pytest.mark.parametrize("token", ["", " \n", "r8_a\nb", "r8_ä", "r8_\x00"])
def test_a_token_that_no_header_carries_is_refused_at_once(monkeypatch, token):
    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_of_somebody_else")

    with pytest.raises(ValueError, match=r"^not an API token$"):
        ReplicateProvider(token)


@pytest.mark.parametrize("token", [TOKEN, "of-another-shape"])
@pytest.mark.parametrize("status", [401, 422, 500, 502])
async def test_no_error_tells_the_token_or_the_prompt(token, status):
    echo = http({"detail": f"no: Bearer {token}, {token}, a fox in the snow"}, status)

    error = await asked(Wire(echo), lambda provider: provider.create("a fox in the snow", 1), token=token)

    told = "".join(traceback.format_exception(error))
    assert token not in told
    assert "a fox in the snow" not in told
    assert str(error).endswith("no: Bearer [redacted], [redacted], [prompt]")


async def test_nothing_that_is_printed_tells_the_token():
    provider = ReplicateProvider(TOKEN)

    assert TOKEN not in repr([provider, provider._client, vars(provider._client), provider._client._async_client])


async def test_two_tasks_do_not_read_each_others_answers():
    sandbox = Sandbox(Timing.instant())
    found = {}

    async def buy(provider, seed):
        bought = await provider.create("a fox", seed)
        found[seed] = await provider.find(seed, EPOCH), bought

    async with sandbox.serve() as url:
        provider = ReplicateProvider(TOKEN, base_url=url)
        async with anyio.create_task_group() as group:
            for seed in range(20):
                group.start_soon(buy, provider, seed)
        await provider.aclose()

    assert all(seen.id == bought.id for seen, bought in found.values())
    assert len({bought.id for _, bought in found.values()}) == 20


async def test_one_tls_context_is_made_for_all_requests(monkeypatch):
    provider = ReplicateProvider(TOKEN)
    monkeypatch.setenv("SSL_CERT_FILE", "/nothing")  # another context could not be made
    answering(provider, STARTING, STARTING)

    await provider.create("a fox", 1)
    await provider.create("a fox", 1)


async def test_what_the_sdk_sends_by_itself_is_refused():
    wire = Wire(http(STARTING, 201))

    error = await asked(wire, lambda provider: provider._client._async_client.post("/v1/predictions", json={}))

    assert type(error) is httpx.UnsupportedProtocol
    assert wire.connections == 0


async def test_a_path_is_encoded_and_never_twice():
    provider = ReplicateProvider(TOKEN, model="b\u00e4r/fox")
    sent = answering(provider, STARTING, {"results": [], "next": "?cursor=a%3D%3D b\u00e4"}, {"results": []})
    await provider.create("a fox", 1)
    await provider.find(1, EPOCH)

    assert [url.removeprefix("https://api.replicate.com/v1") for _, url, *_ in sent] == [
        "/models/b%C3%A4r/fox/predictions",
        "/predictions",
        "/predictions?cursor=a%3D%3D%20b%C3%A4",
    ]


@pytest.mark.parametrize(
    "base_url", ["ftp://127.0.0.1", "http://127.1", "http://u:p@127.0.0.1", "http://127.0.0.1?x=1"]
)
def test_a_base_url_that_cannot_be_used_is_refused_at_once(base_url):
    with pytest.raises(ValueError, match=r"URL|no more than a host and a path"):
        ReplicateProvider(TOKEN, base_url=base_url)


@pytest.mark.parametrize("given", [{"content": b"x"}, {"files": {"content": b"x"}}, {"headers": {"Prefer": "wait"}}])
async def test_the_sdk_sends_json_alone(given):
    wire = Wire(http(STARTING, 201))

    error = await asked(wire, lambda provider: provider._client._async_request("POST", "/v1/files", **given))

    assert type(error) is httpx.UnsupportedProtocol
    assert wire.connections == 0


async def test_closing_leaves_nothing_open():
    async def call(provider):
        await provider.create("a fox", 1)

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        await asked(Wire(http(STARTING, 201)), call)
        gc.collect()

    assert [str(warning.message) for warning in told] == []
