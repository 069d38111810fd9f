"""Bad input from everywhere, end to end: a real worker, the real SDK over HTTP, a real database.

Each case ends in an outcome that the table of errors names, with a reason that people can read.
"""

import collections
import json
import re
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus

import anyio
import doubles
import pytest
from doubles import SECRET, running, settings
from wire import HANG_UP, SILENCE, Wire, drip, http, quick_tls  # noqa: F401  (a fixture)

from reactor.engine.timings import Timings
from reactor.providers.limits import Limits
from reactor.providers.replicate import ReplicateProvider
from reactor.sandbox import Fault, Sandbox, Timing
from reactor.settings import SettingsError

pytestmark = pytest.mark.anyio

SECRET_WORDS = "an unspeakable thing"
REMEMBER = """
CREATE TABLE history (
  place bigint GENERATED ALWAYS AS IDENTITY, token_id bigint, status text, attempts integer, error text, due boolean
);
CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
  INSERT INTO history (token_id, status, attempts, error, due)
  VALUES (NEW.token_id, NEW.status, NEW.generation_attempts, NEW.generation_error, NEW.generation_due_at IS NOT NULL);
  RETURN NULL;
END $$;
CREATE TRIGGER remember AFTER UPDATE ON tokens_s0 FOR EACH ROW
  WHEN (OLD.status = 'generating' AND NEW.status <> 'generating') EXECUTE FUNCTION remember();
"""


SOON = Timings(sure_after=0.6, listing_every=0.1)
SMALL = Limits(first_poll=0.02, answer_within=3.0, largest_body=1_000_000)


@pytest.fixture
async def sandbox():
    return Sandbox(Timing.instant(), token=SECRET)


@pytest.fixture
async def base_url(sandbox):
    async with sandbox.serve() as url:
        yield url


@asynccontextmanager
async def working(database, base_url, *, timings=SOON, limits=SMALL, **overrides):
    provider = ReplicateProvider(SECRET, base_url=base_url, limits=limits)
    given = {"breaker_threshold": 0, "worker_batch_size": 100, "max_attempts": 2, "rate_limit_per_minute": 0}
    try:
        async with running(database, provider, timings=timings, **given | overrides) as (worker, log):
            yield worker, log
    finally:
        await provider.aclose()


@pytest.fixture
async def history(connection):
    """A token's status, attempts and error, each time a worker let the token go."""
    await connection.execute(REMEMBER)

    async def read(token_id):
        rows = await connection.fetch("SELECT * FROM history WHERE token_id = $1 ORDER BY place", token_id)
        assert all(row["due"] is (row["status"] == "detected") for row in rows)
        return [(row["status"], row["attempts"], row["error"]) for row in rows]

    return read


@pytest.fixture
def until(connection):
    """Wait until a query is true."""

    async def wait(query, *arguments):
        await doubles.until(lambda: connection.fetchval(query, *arguments), seconds=20)

    return wait


def unreadable(reason):
    """The faults that keep a reason from being readable for people."""
    wrong = {
        "several lines": not reason.isprintable(),
        "long": len(reason) > 200,
        "the prompt": SECRET_WORDS in reason,
        "the API token": SECRET in reason,
        "a tag": re.search(r"</?[a-z]+[^>]*>", reason, re.IGNORECASE),
        "JSON or a repr": re.search(
            r"[{}\[\]]|\bNone\b|<\w+ object|\w+\(\)|'\w+'", re.sub(r"\[(redacted|prompt)\]", "", reason)
        ),
        "a traceback": re.search(r"Traceback|File \"|, line \d", reason),
        "a class": re.search(r"\b\w+(Error|Exception|Timeout)\b", reason.partition("Prediction failed: ")[0]),
        "no word": not re.search(r"[A-Za-z]{4} ?\w", reason),
    }
    return [name for name, it_is in wrong.items() if it_is]


async def ends(cases, sandbox, make_token, history, until):
    """Run all cases at once; return for each its history and the number of its purchases."""
    prompts = {words: f"{SECRET_WORDS}, {place} [sandbox: {words}]" for place, words in enumerate(cases)}
    tokens = {words: await make_token(prompt=prompt) for words, prompt in prompts.items()}
    await until(NOTHING_LEFT)
    bought = [each.prompt for each in sandbox.ledger]
    found = {words: (await history(token_id), bought.count(prompts[words])) for words, token_id in tokens.items()}
    reasons = [reason for steps, _ in found.values() for *_, reason in steps if reason]
    assert {reason: wrong for reason in reasons if (wrong := unreadable(reason))} == {}
    return found


NOTHING_LEFT = "SELECT NOT EXISTS (SELECT FROM tokens_s0 WHERE status IN ('detected', 'generating'))"
DONE, AFTER_ALL = [("uploading", 0, None)], [("uploading", 1, None)]


def once(reason):
    """The history of a token with one counted attempt, a retry, and then an image."""
    return [("detected", 1, reason), *AFTER_ALL]


def twice(reason):
    return [("detected", 1, reason), ("failed", 2, f"{reason} after 2 attempts")]


def at_once(reason):
    return [("failed", 0, reason)]


UNUSABLE = "Replicate gave no usable answer to the create: "
CREATES = {
    "500 times=1": (once("Replicate answered 500: Internal server error"), 1),
    "500": (twice("Replicate answered 500: Internal server error"), 0),
    "503 times=1": (once("Replicate answered 503 Service Unavailable"), 1),
    "502": (twice("Replicate answered 502 Bad Gateway"), 0),
    "502 times=1": (once("Replicate answered 502 Bad Gateway"), 1),
    "502 times=1 after=true": (DONE, 1),
    "502 times=1 after=true; lag=0.3": (DONE, 1),
    "504 times=1": (once("Replicate answered 504 Gateway Timeout"), 1),
    "504 times=1 after=true": (DONE, 1),
    "reset times=1": (once(f"{UNUSABLE}the connection was lost"), 1),
    "reset times=1 after=true": (DONE, 1),
    "close times=1": (once(f"{UNUSABLE}it broke off or is not HTTP"), 1),
    "close times=1 after=true": (DONE, 1),
    "truncated times=1": (DONE, 1),
    "hang times=1": (once(f"{UNUSABLE}no complete answer within 3 s"), 1),
    "hang times=1 after=true": (DONE, 1),
    "slow=60 times=1": (DONE, 1),
    "malformed times=1": (once(f"{UNUSABLE}no JSON object (HTTP 201)"), 1),
    "malformed times=1 after=true": (DONE, 1),
    "html": (twice(f"{UNUSABLE}no JSON object (HTTP 201)"), 0),
    "html times=1 after=true": (DONE, 1),
    "non-object times=1": (once(f"{UNUSABLE}no JSON object (HTTP 201)"), 1),
    "non-object times=1 status=500": (once("Replicate answered 500 Internal Server Error"), 1),
    "non-object status=422": (at_once(f"Replicate answered 422 {HTTPStatus(422).phrase}"), 0),
    "huge times=1": (once(f"{UNUSABLE}more than 1,000,000 bytes"), 1),
    "huge times=1 after=true": (DONE, 1),
    "redirect times=1": (once("Replicate answered 302 Found"), 1),
    "redirect times=1 after=true": (DONE, 1),
    "202": (DONE, 1),
    "422": (
        at_once("Replicate answered 422: Input validation failed: input.width: Must be less than or equal to 1440"),
        0,
    ),
}
POLLS = {
    f"run=0.1; {fault}": (DONE, 1)
    for fault in (
        *(f"{kind} on=get times=2" for kind in ("404", "422", "500", "502", "503", "reset", "close", "truncated")),
        *(f"{kind} on=get times=2" for kind in ("malformed", "html", "non-object", "huge", "redirect")),
        *("429 on=get times=2 retry_after=0.1", "hang on=get times=1", "slow=60 on=get times=1"),
    )
}
GONE = "The prediction is not there any more"
ENDS = {
    "gone times=1; run=0.1": (once(GONE), 2),
    "gone; run=0.1": (twice(GONE), 2),
    "aborted": (twice("Prediction was aborted"), 2),
    "canceled times=1": (once("Prediction was canceled"), 2),
    "empty times=1": (once("Prediction succeeded without an output"), 2),
    "null": (twice("Prediction succeeded without an output"), 2),
    "data-removed times=1": (once("The prediction's output was removed before it was read"), 2),
    "dict": (DONE, 1),
    "data-uri": (at_once("The output is a data URI, and only a URL can be kept"), 1),
    "junk-url": (at_once("Malformed output URL"), 1),
    "string": (DONE, 1),
    "null-version": (DONE, 1),
    "failed times=1": (once("Prediction failed without a reason"), 2),
    "failed text=E9828 times=1": (
        once("Prediction failed: Director: unexpected error handling prediction (E9828)"),
        2,
    ),
    "error-object times=1": (once("Prediction failed: an object"), 2),
    "error-object text=NSFW": (AFTER_ALL, 1),
    "nsfw": (AFTER_ALL, 1),
}


@pytest.mark.parametrize("cases", [CREATES | POLLS, ENDS], ids=["creates and polls", "ends"])
async def test_what_the_provider_does_ends_as_the_table_says(
    database, sandbox, base_url, make_token, history, until, cases
):
    limits = replace(SMALL, gone_after=0.2) if cases is ENDS else SMALL
    async with working(database, base_url, limits=limits) as (_, log):
        found = await ends(cases, sandbox, make_token, history, until)

    assert found == cases
    assert log.of("worker.error") == []
    assert SECRET_WORDS not in log.text
    assert SECRET not in log.text


ACCOUNTS = {
    "401": ("failed", "Invalid API token: Replicate answered 401: Unauthenticated: You did not pass a valid"),
    "403": ("failed", "Invalid API token: Replicate answered 403: Forbidden: You do not have permission"),
    "402": ("detected", "Replicate answered 402: Insufficient credit: You have insufficient credit to run this"),
    "404": ("detected", "Replicate answered 404: The requested resource could not be found."),
    "429": ("detected", "Replicate answered 429: Request was throttled. Your rate limit resets in ~30s."),
}


async def test_an_account_refused_buys_nothing_and_counts_nothing(
    database, sandbox, base_url, connection, make_token, history, until
):
    found = {}
    async with working(database, base_url) as (_, log):
        for times, fault in enumerate(ACCOUNTS, 1):
            sandbox.faults.clear()
            sandbox.fail(Fault(fault))
            sandbox.fail(Fault("html", on="account"))  # an answer that neither accepts nor refuses the API token
            found[fault] = await make_token(prompt=SECRET_WORDS)
            await until("SELECT EXISTS (SELECT FROM history WHERE token_id = $1)", found[fault])
            await log.wait("intake.paused", times=times)
            await connection.execute(
                "UPDATE tokens_s0 SET generation_due_at = 'infinity' WHERE status = 'detected';"
                "UPDATE reactor.intake SET paused_until = NULL, pause_seconds = 0"
            )

    for fault, (status, reason) in ACCOUNTS.items():
        ((became, attempts, told),) = await history(found[fault])
        assert (became, attempts, told[: len(reason)]) == (status, 0, reason)
        assert set(unreadable(told)) <= {"long"}
    assert sandbox.ledger == []


async def test_a_bad_listing_is_looked_at_again_before_anything_is_bought(
    database, sandbox, base_url, make_token, history, until
):
    async with working(database, base_url):
        for fault in ("404", "422", "500", "503", "reset", "html", "huge", "redirect", "429", "hang"):
            sandbox.faults.clear()
            sandbox.ledger.clear()
            sandbox.fail(Fault("502", after=True, times=1))
            broken = sandbox.fail(Fault(fault, on="list", times=1, retry_after=0.1))
            token_id = await make_token()
            await until(NOTHING_LEFT)

            assert await history(token_id) == DONE
            assert (broken.hits, len(sandbox.ledger)) == (1, 1)


TIMEOUTS = {
    "stuck": "still starting",
    "run=60": "still processing",
    "run=60; 503 on=get": "the last poll failed: Replicate answered 503 Service Unavailable",
    "run=60; html on=get": "the last poll failed: Replicate gave no usable answer: no JSON object (HTTP 200)",
    "run=60; 500 on=cancel": "still processing",
    "run=60; html on=cancel": "still processing",
    "run=60; 404 on=cancel": "still processing",
    "hang": "without an answer to the create",
}


async def test_an_attempt_that_ran_out_of_time_says_what_was_last_seen(
    database, sandbox, base_url, make_token, history, until
):
    limits = replace(SMALL, answer_within=30.0)
    async with working(database, base_url, limits=limits, generation_timeout_seconds=1.5, max_attempts=1):
        found = await ends(TIMEOUTS, sandbox, make_token, history, until)

    assert {words: steps for words, (steps, _) in found.items()} == {
        words: [("failed", 1, f"Timed out after 1.5 s, {seen} after 1 attempt")] for words, seen in TIMEOUTS.items()
    }
    assert {words: bought for words, (_, bought) in found.items()} == dict.fromkeys(TIMEOUTS, 1) | {"hang": 0}


async def test_an_attempt_that_could_not_read_the_listing_says_so(
    database, sandbox, base_url, make_token, history, until
):
    sandbox.fail(Fault("502"))
    sandbox.fail(Fault("500", on="list"))
    async with working(database, base_url, generation_timeout_seconds=1, max_attempts=1):
        token_id = await make_token()
        await until(NOTHING_LEFT)

    told = (
        "Timed out after 1 s, the listing cannot be read: Replicate answered 500 Internal Server Error after 1 attempt"
    )
    assert await history(token_id) == [("failed", 1, told)]


async def test_a_prediction_that_shows_late_is_not_bought_again(
    database, sandbox, base_url, make_token, history, until
):
    sandbox.fail(Fault("run", seconds=0.2))
    late = sandbox.fail(Fault("404", on="get", times=5))
    async with working(database, base_url):
        token_id = await make_token()
        await until(NOTHING_LEFT)

    assert await history(token_id) == DONE
    assert (late.hits, len(sandbox.ledger)) == (5, 1)


class Odd(Wire):
    """A provider that gives each case the answers of its script, and then good ones. It counts creates."""

    def __init__(self, scripts):
        super().__init__()
        self.scripts = {name: ([*create], [*look]) for name, (create, look, *_) in scripts.items()}
        self.creates = collections.Counter()

    async def _answer(self, stream):
        head, body = self.requests[-1]
        self.answers.append(self._chosen(head.split()[1].removeprefix("/v1/predictions").strip("/"), body))
        await super()._answer(stream)

    def _chosen(self, name, body):
        if body:
            name = json.loads(body)["input"]["prompt"].rpartition(" ")[2]
            self.creates[name] += 1
        if name not in self.scripts:
            return http({"next": None, "results": []})
        script = self.scripts[name][0 if body else 1]
        return script.pop(0) if script else starting(name) if body else succeeded(name)


def starting(name):
    return http({"id": name, "status": "starting"}, 201)


def succeeded(name, by=None):
    return http({"id": name, "status": "succeeded", "output": [f"https://replicate.delivery/{by or name}.webp"]})


def failed(name, error):
    return [http({"id": name, "status": "failed", "error": error, "input": {"prompt": f"{SECRET_WORDS} {name}"}})]


def refused(detail, **more):
    return [http({"detail": detail, **more}, 400)]


DEPTH = 5_000  # Python 3.11 reads lists a fifth as deep, Python 3.14 eight times as deep
NESTED = b'{"id": "nested", "status": "starting", "logs": ' + b"[" * DEPTH + b"]" * DEPTH + b"}"


def of_nested():
    """The token's history and its number of creates: NESTED is a good answer only if this Python can parse it."""
    try:
        json.loads(NESTED)
    except RecursionError:
        return once(f"{UNUSABLE}no JSON object (HTTP 201)"), 2
    return DONE, 1


LOST = 'Traceback (most recent call last):\n  File "/src/predict.py", line 7, in predict\nOSError: no space left'
ODD = {
    # name: answers to creates, answers to looks, the token's history, creates
    "no-http": (
        [[(0, b"SSH-2.0-OpenSSH_9.6\r\n"), (0, HANG_UP)]],
        [],
        once(f"{UNUSABLE}it broke off or is not HTTP"),
        2,
    ),
    "silence": ([[(0, SILENCE)]], [], once(f"{UNUSABLE}no complete answer within 3 s"), 2),
    "loris": ([drip(starting("loris"), 0.1)], [], once(f"{UNUSABLE}no complete answer within 3 s"), 2),
    "number": ([http({"id": 7}, 201)], [], once(f"{UNUSABLE}an answer without a prediction id"), 2),
    "path": ([http({"id": "../account"}, 201)], [], once(f"{UNUSABLE}an answer without a prediction id"), 2),
    "nested": ([http(NESTED, 201)], [], *of_nested()),
    "gzip": ([http(b"no gzip", 201, content_encoding="gzip")], [], once(f"{UNUSABLE}it cannot be decompressed"), 2),
    "list": (
        refused([{"loc": ["body", "input"], "msg": "field required", "ctx": None}]),
        [],
        at_once("Replicate answered 400: loc: body; input; field required"),
        1,
    ),
    "fields": (
        refused("no", title={"en": "Bad"}, invalid_fields=[7, {"field": None, "description": "is odd"}, {}]),
        [],
        at_once("Replicate answered 400: en: Bad: is odd"),
        1,
    ),
    "tags": (refused("<html><body><h1>Not now</h1></body></html>"), [], at_once("Replicate answered 400: Not now"), 1),
    "echo": (refused(f"not {SECRET_WORDS} echo"), [], at_once("Replicate answered 400: not [prompt]"), 1),
    "secret": (refused(f"Bearer {SECRET}"), [], at_once("Replicate answered 400: Bearer [redacted]"), 1),
    "lines": (refused("one\ntwo\x00\r\n\tthree"), [], at_once("Replicate answered 400: one two\ufffd three"), 1),
    "surrogate": (
        [http({"id": "surrogate", "status": "starting", "logs": "\ud800"}, 201)],
        [http({"id": "surrogate", "status": "starting", "logs": "\udfff"}), *failed("surrogate", "odd \ud800\x00")],
        once("Prediction failed: odd \ufffd\ufffd"),
        2,
    ),
    "types": (
        [],
        [http({"id": 7}), http({"id": "types", "status": ["succeeded"]}), http({"id": "types", "status": 7}), http([])],
        DONE,
        1,
    ),
    "other": ([], [succeeded("another"), failed("another", "no")[0], http({"id": "other", "status": "new"})], DONE, 1),
    "trace": ([], failed("trace", LOST), once("Prediction failed: OSError: no space left"), 2),
    "parts": ([], failed("parts", {"code": 7, "message": ["no", None]}), once("Prediction failed: code: 7; no"), 2),
    "again": ([], failed("again", f"for: {SECRET_WORDS} again"), once("Prediction failed: for: [prompt]"), 2),
    "false": ([], failed("false", False), once("Prediction failed without a reason"), 2),
}


async def test_bytes_that_no_provider_should_send_end_as_the_table_says(
    database, make_token, history, token_row, until
):
    wire = Odd(ODD)
    async with wire.serve() as url, working(database, url) as (_, log):
        tokens = {name: await make_token(prompt=f"{SECRET_WORDS} {name}") for name in ODD}
        await until(NOTHING_LEFT)

    found = {name: (await history(token_id), wire.creates[name]) for name, token_id in tokens.items()}
    assert found == {name: (steps, creates) for name, (_, _, steps, creates) in ODD.items()}
    assert {
        reason: unreadable(reason)
        for steps, _ in found.values()
        for *_, reason in steps
        if reason and unreadable(reason)
    } == {}
    assert (await token_row(tokens["other"]))["image_url"] == "https://replicate.delivery/other.webp"
    assert log.of("worker.error") == []
    assert SECRET_WORDS not in log.text
    assert SECRET not in log.text


async def test_a_404_that_is_not_the_apis_own_ends_nothing(database, make_token, history, until):
    wire = Odd({"edge": ([], [http(b"<html>404</html>", 404), http([], 404)], DONE, 1)})
    async with wire.serve() as url, working(database, url, limits=replace(SMALL, gone_after=0.0)):
        token_id = await make_token(prompt="an edge")
        await until(NOTHING_LEFT)

    assert await history(token_id) == DONE
    assert wire.creates["edge"] == 1


async def test_a_reason_of_any_length_is_cut(database, make_token, history, until):
    wire = Odd({"long": (refused("word " * 100_000), [], None, 1)})
    async with wire.serve() as url, working(database, url):
        token_id = await make_token(prompt="too long")
        await until(NOTHING_LEFT)

    ((_, _, reason),) = await history(token_id)
    assert len(reason) == 500
    assert reason.endswith("…")


# The producer


PROMPTS = (
    "two\nlines\r\n\tand a tab",
    "{braces} {{}} {0} {prompt} %s %(a)d %% $1 ${HOME} `ls` \\x00 \\u0000",
    '\'; DROP TABLE tokens_s0; -- "quotes" <b>tags</b> & entities;',
    "\u202eright to left\u202c, \U0001f98a, e\u0301, \ufdd0, \x7f\x1b[31m",
    "[sandbox",
    "x" * 1000,
    "\U0001f98a" * 1000,
)
REFUSED = {
    "y" * 1001: "Prompt validation failed: the prompt has more than 1000 characters",
    "z" * 1_000_000: "Prompt validation failed: the prompt has more than 1000 characters",
    "": "Prompt validation failed: the prompt is empty",
    " \n\u200b\x01": "Prompt validation failed: the prompt is empty",
    None: "Prompt validation failed: the prompt is empty",
}


async def test_a_prompt_is_sent_as_it_is_or_refused_with_a_reason(
    database, sandbox, base_url, make_token, history, until
):
    async with working(database, base_url):
        sent = [await make_token(prompt=prompt) for prompt in PROMPTS]
        refused = {prompt: await make_token(prompt=prompt) for prompt in REFUSED}
        orphan = await make_token(author=False)
        await until(NOTHING_LEFT)

    assert [await history(token_id) for token_id in sent] == [DONE] * len(PROMPTS)
    assert sorted(bought.prompt for bought in sandbox.ledger) == sorted(PROMPTS)
    assert {prompt: await history(token_id) for prompt, token_id in refused.items()} == {
        prompt: at_once(reason) for prompt, reason in REFUSED.items()
    }
    assert await history(orphan) == at_once(REFUSED[None])


@pytest.mark.parametrize("name", ["default_prompt", "fallback_censored_prompt"])
@pytest.mark.parametrize("value", ["a\x00b", "a\ud800b", "x" * 1001])
def test_a_prompt_of_the_settings_that_could_not_be_sent_is_refused_at_the_start(name, value):
    with pytest.raises(SettingsError, match=f"^{name.upper()}: "):
        settings("postgresql://localhost/x", **{name: value})


async def test_a_fallback_without_anything_to_see_fails_its_token_with_a_reason(
    database, base_url, make_token, history, until
):
    async with working(database, base_url, fallback_censored_prompt="\u200b"):
        token_id = await make_token(prompt="a fox [sandbox: nsfw]")
        await until(NOTHING_LEFT)

    assert await history(token_id) == [("failed", 1, REFUSED[None])]


CHANGES = {
    "deleted": "DELETE FROM tokens_s0",
    "failed": "UPDATE tokens_s0 SET status = 'failed', generation_error = 'by hand'",
    "uploading": "UPDATE tokens_s0 SET status = 'uploading', image_url = 'https://by.hand/a.webp'",
    "ready": "UPDATE tokens_s0 SET status = 'ready'",
    "revealed": "UPDATE tokens_s0 SET status = 'revealed'",
    "waiting": "UPDATE tokens_s0 SET status = 'detected', generation_due_at = 'infinity'",
    "anew": "UPDATE tokens_s0 SET status = 'detected'",
    # Its lease outlasts the test, because nobody renews it.
    "another's": "UPDATE tokens_s0 SET generation_worker = 7, generation_epoch = 70,"
    " generation_lease_ends_at = now() + interval '1 hour'",
}


async def test_a_token_changed_by_hand_while_it_is_generated_stays_as_it_was_set(
    database, sandbox, base_url, connection, make_token, token_row, until
):
    async with working(database, base_url, lease_seconds=1.5) as (_, log):
        tokens = {name: await make_token(prompt=f"{name} [sandbox: run=60 times=1]") for name in CHANGES}
        await until("SELECT count(generation_prediction_id) = $1 FROM tokens_s0", len(CHANGES))
        for name, change in CHANGES.items():
            await connection.execute(f"{change} WHERE token_id = {tokens[name]}")
        healthy = await make_token()
        await log.wait("token.generation.succeeded", token_id=healthy)
        await log.wait("token.generation.succeeded", token_id=tokens["anew"])
        for name in CHANGES:
            await log.wait("token.lease_lost", token_id=tokens[name])

        rows = {name: await token_row(token_id) for name, token_id in tokens.items()}
        assert rows.pop("deleted") is None
        assert {name: row["status"] for name, row in rows.items()} == {
            **{name: name for name in ("failed", "uploading", "ready", "revealed")},
            "waiting": "detected",
            "anew": "uploading",
            "another's": "generating",
        }
        assert rows["failed"]["generation_error"] == "by hand"
        assert rows["uploading"]["image_url"] == "https://by.hand/a.webp"

    assert len(sandbox.ledger) == len(CHANGES) + 2
    assert log.errors() == []


async def test_a_prompt_changed_while_its_image_is_made_buys_nothing_more(
    database, sandbox, base_url, connection, make_token, history, until
):
    async with working(database, base_url):
        token_id = await make_token(prompt="before [sandbox: run=0.5]")
        await until("SELECT generation_prediction_id IS NOT NULL FROM tokens_s0")
        await connection.execute("UPDATE authors SET prompt_text = 'after'")
        await until(NOTHING_LEFT)

    assert await history(token_id) == DONE
    assert [bought.prompt for bought in sandbox.ledger] == ["before [sandbox: run=0.5]"]


# Values that nobody should write into our columns, and the token's history


DUE = "generation_due_at = now() - interval '1 s'"
HELD = "status = 'generating', generation_worker = 7"
OVER = f"{HELD}, generation_lease_ends_at = now() - interval '1 min'"
FOREVER = ("infinity", "-infinity", "20000-01-01", "4000-01-01 BC")
UNTOUCHED = ("detected", "generating")
ODD_ROWS = {
    f"{DUE}, generation_attempts = 32767": "uploading",
    f"{DUE}, generation_attempts = 2147483647": "uploading",
    f"{DUE}, generation_attempts = -5": "uploading",
    f"{DUE}, generation_attempts = -2147483648": "uploading",
    f"{DUE}, generation_attempts = NULL": "uploading",
    f"{OVER}, generation_attempts = NULL": "uploading",
    f"{OVER}, generation_attempts = 2147483647": "uploading",
    f"{DUE}, generation_epoch = 9223372036854775807": "detected",
    "generation_epoch = 9223372036854775807": "detected",
    "generation_epoch = -9223372036854775808": "uploading",
    f"{OVER}, generation_epoch = 9223372036854775807": "uploading",
    f"{OVER}, generation_rescues = 2147483647": "failed",
    f"{OVER}, generation_rescues = -2147483648": "uploading",
    f"{OVER}, generation_seed = NULL": "uploading",
    f"{OVER}, generation_seed = 5, generation_seeded_at = NULL": "uploading",
    f"{DUE}, generation_seed = 6, generation_seeded_at = NULL": "uploading",
    f"{DUE}, generation_seed = -5": "uploading",
    "status = 'generating'": "uploading",
    OVER.replace("= 7", "= NULL"): "uploading",
    OVER.replace("= 7", "= -9223372036854775808"): "uploading",
    f"{OVER}, generation_due_at = 'infinity'": "uploading",
    "generation_due_at = 'infinity'": "detected",
    "generation_due_at = '20000-01-01'": "detected",
    "generation_due_at = '-infinity'": "uploading",
    "generation_due_at = '4000-01-01 BC'": "uploading",
    **{
        f"{DUE}, generation_seed = {seed}, generation_seeded_at = '{when}'": "uploading"
        for seed, when in enumerate(FOREVER, 10)
    },
    **{
        f"{OVER}, generation_seed = {seed}, generation_seeded_at = '{when}'": "uploading"
        for seed, when in enumerate(FOREVER, 20)
    },
    **{f"{HELD}, generation_lease_ends_at = '{when}'": "uploading" for when in FOREVER},
    **{f"mint_timestamp = '{when}'": "uploading" for when in FOREVER},
    **{f"created_at = '{when}'": "uploading" for when in FOREVER},
    **{
        f"{DUE}, generation_seed = {seed}, generation_prediction_id = {written}": "uploading"
        for seed, written in enumerate(
            ("''", "'../account'", "E'a\\nb'", "'?'", "repeat('x', 1000000)", "repeat('y', 201)"), 30
        )
    },
    f"{DUE}, generation_error = repeat('x', 1000), image_url = 'junk'": "uploading",
}


async def test_no_odd_row_ends_the_worker_or_holds_up_others(
    database, sandbox, base_url, connection, make_token, until
):
    await connection.execute(
        "ALTER TABLE tokens_s0 ALTER generation_attempts DROP NOT NULL,"
        " DROP CONSTRAINT tokens_s0_generation_attempts_check, DROP CONSTRAINT tokens_s0_generation_seed_check"
    )
    tokens = {}
    async with working(database, base_url, timings=replace(SOON, rescue_every=0.25), lease_seconds=3) as (_, log):
        for place, columns in enumerate(ODD_ROWS):
            tokens[columns] = await make_token(prompt=f"odd {place}", status="failed", generation_error="x")
        async with connection.transaction():
            for columns, token_id in tokens.items():
                to = "" if "status" in columns else "status = 'detected', "
                await connection.execute(f"UPDATE tokens_s0 SET {to}{columns} WHERE token_id = {token_id}")
        healthy = [await make_token() for _ in range(5)]
        for token_id in healthy:
            await log.wait("token.generation.succeeded", token_id=token_id)
        waits = [token_id for columns, token_id in tokens.items() if ODD_ROWS[columns] in UNTOUCHED]
        await until(f"{NOTHING_LEFT[:-1]} AND token_id <> ALL ($1))", waits)
        last = await make_token()
        await log.wait("token.generation.succeeded", token_id=last)

    statuses = dict(await connection.fetch("SELECT token_id, status FROM tokens_s0"))
    assert {columns: statuses[token_id] for columns, token_id in tokens.items()} == ODD_ROWS
    bought = collections.Counter(each.prompt for each in sandbox.ledger)
    assert set(bought.values()) - {6} == {1}
    assert [seen.path for seen in sandbox.requests if not re.fullmatch(r"[\w/-]+", seen.path)] == []
    assert log.errors() == []
    assert all(
        0 <= told["age_seconds"] < 1e12 for told in log.of("token.create_sent") if told["age_seconds"] is not None
    )


# The NOTIFY channel


WAKE = "public_tokens_s0_wake"
FORGED = ("x" * 7999, "{", '{"status": 7, "token_ids": {}}', "\x01\x7f\u202e\U0001f98a", "null", "")


async def test_a_forged_notification_is_only_a_hint(database, base_url, connection, make_token):
    async with working(database, base_url) as (_, log):
        for channel in (WAKE, "public_tokens_s0_status"):
            for payload in FORGED:
                await connection.execute("SELECT pg_notify($1, $2)", channel, payload)
        token_id = await make_token()
        await log.wait("token.generation.succeeded", token_id=token_id)

    assert log.of("worker.error") == log.of("listener.lost") == []


async def flood(connect, *, clients=4, bursts=5):
    """Send 10,000 notifications: each of `clients` commits `bursts` bursts of 500."""

    async def shout(client):
        for _ in range(bursts):
            await client.execute(f"SELECT pg_notify('{WAKE}', number::text) FROM generate_series(1, 500) AS number")

    async with anyio.create_task_group() as group:
        for _ in range(clients):
            group.start_soon(shout, await connect())


async def test_a_flood_of_notifications_costs_a_claim_per_pause(database, base_url, connect, monkeypatch):
    async with working(database, base_url, timings=replace(SOON, after_empty=0.25)) as (_, log):
        before, began = len(log.of("tokens.claimed")), time.monotonic()
        await flood(connect)
        claims, took = len(log.of("tokens.claimed")) - before, time.monotonic() - began

    assert claims <= took / 0.25 + 2


async def test_a_flood_of_notifications_delays_no_mint(database, base_url, connect, make_token):
    claims = []
    async with working(database, base_url) as (_, log), anyio.create_task_group() as group:
        group.start_soon(flood, connect)
        for number in range(1, 6):
            await make_token()
            before = len(log.of("tokens.claimed"))
            await log.wait("tokens.claimed", count=1, times=number)
            served = [place for place, told in enumerate(log.of("tokens.claimed")) if told["count"]]
            claims.append(served[number - 1] - before)

    assert SOON.after_empty == 0.01
    assert max(claims) <= 1  # a claim may have begun before the mint was committed


async def test_a_flood_of_notifications_makes_no_claim_where_all_slots_are_taken(
    database, base_url, connect, make_token
):
    async with working(database, base_url, worker_batch_size=1) as (_, log):
        await make_token(prompt="[sandbox: run=60]")
        await log.wait("token.create_sent")
        before = len(log.of("tokens.claimed"))
        await flood(connect)
        assert len(log.of("tokens.claimed")) == before
