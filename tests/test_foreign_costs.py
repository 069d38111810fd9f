"""No foreign text holds the loop: every parser, redactor and formatter gets texts that are made to be slow."""

import random
from contextlib import suppress
from datetime import UTC, datetime

import httpx
import orjson
import pytest
from costs import MOST, collected_rarely, seconds

from reactor.errors import GenerationError
from reactor.logs import HostLog
from reactor.providers import listing, outputs, rate_limits, seeds, times
from reactor.providers.bodies import MOST_VALUES, UnreadableError, json_object, weight
from reactor.providers.classification import classify_failure, classify_refusal
from reactor.providers.http_client import LARGEST_HEADER
from reactor.providers.limits import LIMITS
from reactor.providers.transport import Answer
from reactor.text.echoes import Echoes
from reactor.text.foreign import fit, fit_line
from reactor.text.prompts import fingerprint, validate_prompt
from reactor.text.redaction import Redactor

PROMPT = ("a lonely lighthouse, aaaaaaaaaaaa at dawn, 東京 \\u0041 %20 " * 20)[:1000]
ECHOES = Echoes(PROMPT, "a" * 12, "aaa", "a calm sea at dawn")
REDACT = Redactor(["r8_a_secret_that_must_not_be_told", "p@ss/word"])
WIDE = "\u3300"  # one character whose normal form has many characters, nine bytes in all
UNITS = [
    *(PROMPT, PROMPT[:11], PROMPT[:16] + "|", PROMPT.upper(), "a" * 11 + " ", "aaa ", "lighthouse dawn "),
    *("\\", '\\"', "\\u", "\\u0041", "\\\\u0061", "\\x", "%", "%4", "%41", "%2541", "&", "&a", "&#97;", "&amp;", "&#"),
    *("<", "<a", "<script", "<script>", "</script", "<style x", "<!", ">", "a ", " ", "\n", "\t", ". ", "; ", "\0"),
    *("r8_", "r8_aaaa", "bearer ", "password=", "://a@", "://", "@", "=", "8_", "p@ss/wor", "r8_a_secret_that_must"),
    *("(e005", "(E1234) ", "code: pa", "nsfw", "NsfwAa", "aA", "not be allowed ", "prompt ", "moderation ", "\u202e"),
    *("our aa aa ", "i am sorry create ", "safety ", "resets in ~1", "reduced to 1", "- input.seed ", "input: ", "- "),
    *("Prediction failed: ", "ValueError: ", "Exception:", "Traceback (most recent call last)", "東", "ﷺ", "가"),
    *("9", "9.", "1e", "2026-01-01T00:00:00Z", "Mon, 01 Jan 2026 ", "Mon ", ",", "T", "https://a/", "data:", "\ud800"),
    *("🦊", "e\u0301", "reason: a.", WIDE * 99 + "%", "ﷺ" * 99 + "%", "東" * 99 + "&", "%C3%A9é"),
]  # fmt: skip
SIZE = LIMITS.largest_body - 1000  # bytes


def body(**given):
    return {"id": "p1", "status": "failed", "input": {"prompt": PROMPT, "seed": 7}, **given}


def refused(given):
    answer = Answer(422, httpx.Headers({"retry-after": "1"}), body(**given))
    classify_refusal(answer, ECHOES, creating=True, redact=REDACT)
    seeds.is_seed_refusal(answer, "seed", ECHOES)


def throttled(text):
    header = text.encode("utf-8", "replace")
    headers = httpx.Headers({"retry-after": header[:LARGEST_HEADER], "date": header[:5000]})
    rate_limits.retry_after(Answer(429, headers, {"detail": text, "retry_after": text}))
    rate_limits.lower_limit(Answer(429, headers, {"detail": text}))


def shown(text):
    read_prediction(status="succeeded", output=[text])


def read_prediction(**given):
    seen = body(**given)
    outputs.read_prediction(seen, ECHOES, plain_http=False, redact=REDACT)
    times.duration_of(seen)


def repeating(text):
    failed = body(error=text, input={"prompt": text})
    outputs.read_prediction(failed, ECHOES.also(text[:1000]), plain_http=False, redact=REDACT)


def page(entries, following):
    with suppress(UnreadableError):
        since = datetime(2026, 1, 1, tzinfo=UTC)
        any(listing.created_at(entry) < since for entry in listing.listed({"results": entries}))
        listing.next_page({"next": following}, [listing.FIRST_PAGE])


def minted(text):
    with suppress(GenerationError):
        validate_prompt(text[:1001])
    fingerprint(text[:1001])


# Each gets a text as long as an answer can be, so it gives at most one part of the answer the whole of it.
READERS = {
    "a reason": lambda text: classify_failure(text, ECHOES.also(text[:1000]), redact=REDACT),
    "a title": lambda text: refused({"title": text}),
    "a detail": lambda text: refused({"detail": text}),
    "a title and a detail": lambda text: refused({"title": text[: len(text) // 2], "detail": text[len(text) // 2 :]}),
    "invalid fields": lambda text: refused(
        {"invalid_fields": [{"field": part, "description": part} for part in parts(text)]}
    ),
    "a wait": throttled,
    "an output": shown,
    "an output's url": lambda text: read_prediction(status="succeeded", output=[{"url": text}]),
    "a status": lambda text: read_prediction(status=text),
    "the time of creation": lambda text: read_prediction(status="succeeded", created_at=text),
    "the time of completion": lambda text: read_prediction(status="succeeded", completed_at=text),
    "a deadline": lambda text: read_prediction(status="canceled", deadline=text),
    "a prediction that repeats its input": repeating,
    "a page": lambda text: page([{"created_at": part} for part in parts(text)], text),
    "a text to be stored": REDACT,
    "a text to be shown": lambda text: (fit(text[:8000]), fit_line(text)),
    "a prompt": minted,
    "a text to be logged": lambda text: HostLog(REDACT)("token.generation.failed", {"error_message": text}),
}


def parts(text):
    return [text[place : place + 2000] for place in range(0, len(text), 2000)]


def repeated(unit, size):
    """`unit` repeated up to `size` bytes of UTF-8."""
    return unit * (size // len(unit.encode("utf-8", "replace")))


MIXED = ["".join(random.Random(seed).choices(UNITS, k=200)) for seed in range(4)]


@pytest.mark.parametrize("name", READERS)
def test_no_text_of_any_length_holds_the_loop(name):
    """Each unit is tried in a text long enough to reveal quadratic time, then the slowest units in the longest text."""
    read = READERS[name]
    with collected_rarely():
        costs = {unit: seconds(read, repeated(unit, SIZE // 20), times=1) for unit in UNITS + MIXED}
        slowest = sorted(costs, key=costs.get)[-4:]
        costs = {unit[:40]: seconds(read, repeated(unit, SIZE)) for unit in slowest}

    assert {unit: cost for unit, cost in costs.items() if cost > MOST} == {}


VALUES = {
    "deep": [[[[[["a"]]]]]] * 7500,
    "wide": [[["a"] * 50] * 50] * 35,
    "objects": [{f"{number}": {"b": "c"} for number in range(50)}] * 250,
    "empty": [[], {}, None, True] * 12_500,
    "urls": [[f"https://a/{number}" for number in range(1000)]] * 35,
    "nothing": [[None] * 1000] * 125,
    "dates": [{"created_at": "2026-01-01T00:00:00.123456789Z"}] * 11_000,
    "no dates": [{}] * 30_000,
}


# All functions that read a part of an answer. One part is read by only one of them.
ANSWERED = {
    "an error": lambda given: classify_failure(given, ECHOES, redact=REDACT),
    "a refusal's detail": lambda given: refused({"detail": given}),
    "a refusal's title": lambda given: refused({"title": given}),
    "a refusal's fields": lambda given: refused({"invalid_fields": given}),
    "an output": shown,
    "a page": lambda given: page(given, given),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_no_value_of_any_shape_holds_the_loop(value):
    content = orjson.dumps({"value": value})

    def read(answered):
        answered(json_object(content)["value"])

    with collected_rarely():
        costs = {name: seconds(read, answered) for name, answered in ANSWERED.items()}

    assert {name: cost for name, cost in costs.items() if cost > MOST} == {}


def test_the_values_of_that_test_are_as_many_as_an_answer_may_have():
    weights = [weight(orjson.dumps(value)) for value in VALUES.values()]

    assert min(weights) > MOST_VALUES / 2
    assert max(weights) < MOST_VALUES
