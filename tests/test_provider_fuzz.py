"""Any answer to any call quickly becomes one of our errors or a prediction, and never repeats the prompt.

REACTOR_FUZZ multiplies the number of answers that are tried: 1 takes seconds, 100 takes minutes.
"""

import json
import os
import time
from datetime import UTC, datetime

import pytest
from costs import MOST, MOST_TRIES, collected_rarely, slowdown
from hypothesis import given, settings
from hypothesis import strategies as st
from test_echoes import SPELLINGS, letters
from wire import quick_tls  # noqa: F401  (a fixture)

from reactor.errors import GenerationError
from reactor.providers import Prediction
from reactor.providers.http_client import Reply
from reactor.providers.replicate import ReplicateProvider

pytestmark = pytest.mark.anyio

EXAMPLES = 50 * int(os.environ.get("REACTOR_FUZZ", "1"))
CALLS = {
    "create": lambda provider, prompt: provider.create(prompt, 1),
    "look": lambda provider, _: provider._poll("p1", 0.0),
    "find": lambda provider, _: provider.find(1, datetime(2000, 1, 1, tzinfo=UTC)),
    "cancel": lambda provider, _: provider.cancel(Prediction("p1")),
    "check": lambda provider, _: provider.check(),
}
NAMES = ["id", "status", "error", "output", "input", "prompt", "seed", "detail", "title", "message", "invalid_fields"]
NAMES += ["field", "description", "results", "next", "created_at", "completed_at", "deadline", "metrics", "url", "logs"]
NAMES += ["retry_after", "latest_version", "openapi_schema", "data_removed", "errors", "code"]
WORDS = [
    "p1",
    "failed",
    "succeeded",
    "canceled",
    "processing",
    "NSFW",
    "(E005)",
    "resets in ~3s",
    "moderation: blocked",
]
WORDS += [
    "Traceback (most recent call last)",
    "https://replicate.delivery/a.webp",
    "2026-01-01T00:00:00Z",
    "?a=b",
    "\x1b[",
]
RUN = 16  # letters
HEADERS = [b"retry-after", b"date", b"content-encoding", b"content-type"]


def values(prompt):
    echo = st.builds(
        lambda before, spell, part, after: before + SPELLINGS[spell](prompt[part]) + after,
        st.sampled_from(["", "no: ", "ValueError: ", "<b>", '{"prompt": "']),
        st.sampled_from(sorted(SPELLINGS)),
        st.sampled_from([slice(None), slice(40), slice(10, None)]),
        st.sampled_from(["", "!", " (E1234)", " is not allowed", "\n"]),
    )
    leaves = st.one_of(echo, st.sampled_from(WORDS), st.none(), st.booleans(), st.integers(), st.floats(), st.text())
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | objects(inner), max_leaves=12)


def objects(inner):
    return st.dictionaries(st.sampled_from(NAMES), inner, max_size=6)


@st.composite
def answers(draw):
    prompt = draw(st.text(st.characters(categories=["L", "N", "Z", "P", "S"]), min_size=24, max_size=80))
    body = draw(objects(values(prompt)))
    usual = {"id": "p1", "status": draw(st.sampled_from(["failed", "succeeded", "starting"])), "input": {"seed": 1}}
    if draw(st.booleans()):
        body = usual | body
    if draw(st.booleans()):
        body = {"results": [usual | body], "next": None} | body
    status = draw(st.sampled_from([200, 201, 400, 401, 402, 403, 404, 422, 429, 451, 500, 502, 503]))
    headers = draw(st.dictionaries(st.sampled_from(HEADERS), st.binary(max_size=20), max_size=2))
    content = json.dumps(body, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    place = draw(st.none() | st.integers(0, len(content)))
    return prompt, Reply(status, list(headers.items()), content[:place])


@pytest.fixture(scope="module")
def hostile():
    """A provider whose next answer is `reply`."""
    provider = ReplicateProvider("r8_a_secret_that_must_not_be_told", base_url="http://127.0.0.1:1")

    async def asked(*_request):
        return provider.reply

    provider._client.http.ask = asked
    with collected_rarely():
        yield provider


@settings(max_examples=EXAMPLES)
@given(answers(), st.sampled_from(sorted(CALLS)))
async def test_no_answer_is_slow_or_tells_the_prompt_or_is_a_bug_of_ours(hostile, answer, name):
    prompt, hostile.reply = answer

    for _ in range(MOST_TRIES):  # other programs slow the processor down for a while, but not every time
        told, cost = await measured(CALLS[name](hostile.hiding(prompt, "a calm sea at dawn"), prompt))
        if cost < MOST or (cost := cost / slowdown()) < MOST:
            break

    assert cost < MOST
    left, secret = letters(told.replace("[prompt]", "*")), letters(prompt)
    assert [run for run in (secret[place : place + RUN] for place in range(len(secret) - RUN + 1)) if run in left] == []


async def measured(call):

    began = time.thread_time()
    try:
        seen = await call
    except GenerationError as error:
        told = str(error)
    else:
        told = f"{seen.id} {seen.doing} {seen.error}" if seen else ""
    return told, time.thread_time() - began
