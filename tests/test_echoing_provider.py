"""A provider repeats the prompt wherever it can; our errors never contain it."""

import html
import json
from urllib.parse import quote

import pytest
from doubles import DirectedProvider, running
from test_transport import EPOCH, asked
from wire import Wire, http, quick_tls  # noqa: F401  (a fixture)

from reactor.errors import AmbiguousCreateError, ContentPolicyError, GenerationError, TransientError
from reactor.providers import Prediction

pytestmark = pytest.mark.anyio

PROMPT, FALLBACK, DEFAULT = "a red fox in the first snow", "a calm sea at dawn, no people", "whatever comes to mind"
FORMS = [str, str.upper, json.dumps, ascii, html.escape, quote, lambda text: text[4:-4]]
CALLS = {
    "create": lambda provider: provider.create(PROMPT, 1),
    "look": lambda provider: provider._poll("p1", 0.0),
    "find": lambda provider: provider.find(1, EPOCH),
    "cancel": lambda provider: provider.cancel(Prediction("p1")),
}


def hidden(call):
    return lambda provider: call(provider.hiding(PROMPT, FALLBACK, DEFAULT))


def words(error):
    told = str(error).lower()
    return [word for word in ("fox", "snow", "calm", "dawn", "whatever", "mind") if word in told]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("prompt", [PROMPT, FALLBACK, DEFAULT])
@pytest.mark.parametrize("name", CALLS)
async def test_a_failure_without_an_input_repeats_none_of_the_prompts(name, prompt, form):
    failed = {"id": "p1", "status": "failed", "error": f"NSFW content in {form(prompt)}", "input": {"seed": 1}}
    body = {"results": [failed], "next": None} if name == "find" else failed

    seen = await asked(Wire(http(body)), hidden(CALLS[name]))

    assert type(seen.error) is ContentPolicyError
    assert (str(seen.error)[:35], words(seen.error)) == ("Prediction failed: NSFW content in ", [])


@pytest.mark.parametrize("status", [401, 402, 422, 429, 500])
@pytest.mark.parametrize("prompt", [PROMPT, FALLBACK, DEFAULT])
@pytest.mark.parametrize("name", CALLS)
async def test_a_refusal_of_any_call_repeats_none_of_the_prompts(name, prompt, status):
    body = {"title": prompt.upper(), "detail": f"no: {quote(prompt)}", "invalid_fields": [{"field": ascii(prompt)}]}

    error = await asked(Wire(http(body, status)), hidden(CALLS[name]))

    assert isinstance(error, GenerationError)
    assert words(error) == []


OTHERS = [call for name, call in CALLS.items() if name != "create"] + [lambda provider: provider.check()]


@pytest.mark.parametrize(("status", "told"), [(401, "401 Unauthorized"), (402, "402 Payment Required")])
@pytest.mark.parametrize("call", OTHERS, ids=[name for name in CALLS if name != "create"] + ["check"])
async def test_of_an_answer_about_the_account_only_its_status_is_told(call, status, told):
    error = await asked(Wire(http({"title": PROMPT, "detail": f"pay for {PROMPT}!"}, status)), call)

    assert str(error).endswith(f"Replicate answered {told}")


async def test_a_prompt_that_changed_since_its_purchase_is_known_by_the_answers_input():
    failed = {"id": "p1", "status": "failed", "error": f"no: {PROMPT}", "input": {"prompt": PROMPT}}

    seen = await asked(Wire(http(failed)), lambda provider: provider.hiding("another")._poll("p1", 0.0))

    assert str(seen.error) == "Prediction failed: no: [prompt]"


@pytest.mark.parametrize(("name", "kind"), [("create", AmbiguousCreateError), ("find", TransientError)])
@pytest.mark.parametrize("told", [PROMPT.replace(" ", "-"), "a-calm-sea-at-dawn.jpg"])
async def test_a_prediction_id_that_repeats_the_prompt_is_not_taken(name, kind, told):
    bought = {"id": told, "status": "starting", "input": {"seed": 1}}

    error = await asked(Wire(http({"results": [bought], "next": None} | bought)), hidden(CALLS[name]))

    assert type(error) is kind
    assert words(error) == []


@pytest.mark.parametrize(
    ("prompt", "status", "told"),
    [
        (PROMPT, "aredfoxinthefirst", ""),
        ("red fox", "redfox", ""),
        ("red fox", "queued", "queued"),
        ("processing", "processing", "processing"),
    ],
)
async def test_a_status_that_repeats_the_prompt_is_not_told(prompt, status, told):
    wire = Wire(http({"id": "p1", "status": status}))

    seen = await asked(wire, lambda provider: CALLS["look"](provider.hiding(prompt)))

    assert seen.doing == told


async def test_an_attempt_hides_its_own_prompt_and_the_operators(database, make_token):
    class Hiding(DirectedProvider):
        def hiding(self, *prompts):
            hidden.append(prompts)
            return self

    hidden = []
    async with running(database, Hiding(), default_prompt=DEFAULT, fallback_censored_prompt=FALLBACK) as (_, log):
        await make_token(prompt=PROMPT)
        await log.wait("token.generation.succeeded")

    assert hidden == [(PROMPT, FALLBACK, DEFAULT)]


FRENCH = "très étoilée, une nuit d'été"
NAMES = {
    PROMPT: [PROMPT.replace(" ", "-"), quote(PROMPT), PROMPT.upper().replace(" ", "")],
    FRENCH: ["tres-etoilee-une-nuit-dete", quote(FRENCH), quote(quote(FRENCH))],
    "my secret": ["my-secret"],
    None: [DEFAULT.replace(" ", "_"), FALLBACK.replace(" ", "")],
}


@pytest.mark.parametrize(("prompt", "name"), [(prompt, name) for prompt, names in NAMES.items() for name in names])
async def test_a_file_that_is_named_after_its_prompt_is_stored_so_and_not_logged_so(
    database, make_token, token_row, prompt, name
):
    url = f"https://replicate.delivery/xezq/{name}.webp"
    provider = DirectedProvider()

    async def named(_argument):
        return url

    provider.script["wait"] = [named]
    async with running(database, provider, default_prompt=DEFAULT, fallback_censored_prompt=FALLBACK) as (_, log):
        token_id = await make_token(prompt=prompt)
        told = await log.wait("token.generation.succeeded")

    assert told["image_url"].startswith("https://replicate.delivery/xezq/[prompt]")
    assert told["image_url"].endswith(".webp")
    assert (await token_row(token_id))["image_url"] == url
