import time
from email.utils import formatdate

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.errors import (
    AccountError,
    AmbiguousCreateError,
    ContentPolicyError,
    PermanentError,
    RateLimitedError,
    RepeatedPromptError,
    TransientError,
    UnauthorizedError,
)
from reactor.providers.classification import classify_failure, classify_refusal
from reactor.providers.failure_texts import classify_text
from reactor.providers.rate_limits import retry_after
from reactor.providers.transport import Answer
from reactor.text.echoes import Echoes
from reactor.text.redaction import Redactor

POLICY, TRANSIENT, PERMANENT = ContentPolicyError, TransientError, PermanentError
TOKEN = "r8_a_secret_that_must_not_be_told"
REDACT = Redactor([TOKEN])
DIRECTOR = "Director: unexpected error handling prediction"

# Texts seen in production; sources: reference/replicate.md §4, and public repositories for the last ones of POLICY.
TEXTS = [
    ("All generated images contained NSFW content. Try running it again with a different prompt.", POLICY),
    ("NSFW content detected. Try running it again, or try a different prompt.", POLICY),
    ("NSFW content detected", POLICY),
    ("The input or output was flagged as sensitive. Please try again with different inputs. (E005)", POLICY),
    ("The input or output was flagged as sensitive (E005)", POLICY),
    ("The input or output was flagged as sensitive. Please try again with different inputs.", POLICY),
    ("Something about this request was not liked. Please try again. (E005)", POLICY),
    ("Content flagged for: sexual", POLICY),
    ("ContentModerationError: Content flagged for: sexual", POLICY),
    ("Content flagged and reported for containing illegal material", POLICY),
    ("The request failed because the output video may be related to copyright restrictions. Request id: 02176", POLICY),
    (
        "Wan failed: DataInspectionFailed - Green net check failed for text (input): Input data may contain inap...",
        POLICY,
    ),
    ("Green net check failed for text (input): Input data may contain inappropriate content.", POLICY),
    ("Video generation failed: InvalidParameter - Could not process with this prompt.", POLICY),
    ("Your request was rejected as a result of our safety system. (req_1)", POLICY),
    ("Content was flagged by the safety system. Try different prompts or inputs.", POLICY),
    ("BFL API did not return an image due to: Request Moderated.", POLICY),
    ("Content Moderated", POLICY),
    ("upstream 400: content_policy_violation", POLICY),
    ("The response is blocked, as it may violate our policies. Error Code: 58061214", POLICY),
    ("Prediction interrupted; please retry (code: PA)", TRANSIENT),
    *((f"{DIRECTOR} ({code})", TRANSIENT) for code in ("E9828", "E6716", "E8765", "E9243", "E1000")),
    (f"{DIRECTOR} (E1001)", PERMANENT),
    (f"{DIRECTOR} (E4875)", PERMANENT),
    ("Service is currently unavailable due to high demand. Please try again later. (E003)", TRANSIENT),
    ("Service is temporarily unavailable. Please try again later. (E004)", TRANSIENT),
    ("An error occurred while processing your request (E001)", TRANSIENT),
    ("An error occurred while processing your request (E002)", TRANSIENT),
    ("ReadError:", TRANSIENT),
    ("KeyError: 'sample'", TRANSIENT),
    ("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be\nreported later", TRANSIENT),
    ("CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 14.75 GiB total capacity)", PERMANENT),
    ("exceptions must derive from BaseException", PERMANENT),
    ("ValueError: width must be a multiple of 8", PERMANENT),
    ("An internal error has occurred", TRANSIENT),
]
WRAPPINGS = [
    "{}",
    "{} (uIJ6l3ruRD)",
    "Prediction failed: {}",
    "Async prediction failed: Prediction failed: ModelError: {} (uIJ6l3ruRD)",
    "ModelRateLimitError: {}",
    "Exception: {}",
    "ValueError: {}",
]


def classified(text, prompt=None):
    return classify_failure(text, Echoes(prompt), redact=REDACT)


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize(("text", "kind"), TEXTS)
def test_a_known_text_means_the_same_in_any_wrapping(text, kind, wrapping):
    error = classified(wrapping.format(text))

    assert type(error) is kind is classify_text(wrapping.format(text))
    assert error.purchase_over


@pytest.mark.parametrize(
    "text",
    [
        "The moderation service is temporarily unavailable. Please try again later. (E004)",
        "NSFW checker: Director: unexpected error handling prediction (E9828)",
        "NSFW checker: Prediction interrupted; please retry (code: PA)",
        "content policy server: An error occurred while processing your request (E002)",
        "safety checker did not load",
        "moderate load, try again",
        "cannot read /weights/e1001.safetensors",
        "RuntimeError: seed 0E4875 is odd",
        "ValueError: not seen before",
        "minsfwood is not a function",
        "whatever nobody has seen",
    ],
)
def test_a_text_that_only_resembles_a_known_one_is_retried(text):
    assert type(classified(text)) is TransientError


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        (
            "KeyError: 'sample' for 'nsfw, content policy, CUDA out of memory'",
            "nsfw, content policy, CUDA out of memory",
        ),
        ('bad prompt "a \\"nsfw\\" sign, content flagged" (E9828)', 'a "nsfw" sign, content flagged'),
    ],
)
def test_a_prompt_that_is_repeated_beside_a_known_fault_is_neither_understood_nor_kept(text, prompt):
    error = classified(text, prompt)

    assert type(error) in {TransientError, RepeatedPromptError}
    assert "nsfw" not in str(error)
    assert "[prompt]" in str(error)


FLUX = "All generated images contained NSFW content. Try running it again with a different prompt."
OWN = "contained NSFW content. Try running it again, a nude"


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        (FLUX, OWN),
        (FLUX, FLUX),
        (FLUX, "NSFW"),
        ("bad prompt: a fox and a nsfw s...", "a fox and a nsfw sign in the rain"),
        ("bad prompt: a fox and a nsfw sign", "a fox\n and a\tnsfw sign"),
        ("NSFW content in prompt: (E9828)", "(E9828)"),
        ("NSFW content in prompt: director: unexpected (E9828)", "director: unexpected (E9828)"),
        ("NSFW content in a prompt: connection, memory and weights", "connection, memory and weights"),
        ("flagged as sensitive", "sensitive"),
    ],
)
def test_no_prompt_can_hide_a_refusal_of_its_own_picture(text, prompt):
    assert type(classified(text, prompt)) is ContentPolicyError


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("Director: unexpected error (E9828)", "director: unexpected error (E9828)"),
        ("Director: unexpected error (E9828)", "E9828"),
        ("odd: a sign 'internal error' in the rain", "a sign 'internal error' in the rain"),
        ("'missing, contained NSFW content' contained NSFW content", "missing, contained NSFW content"),
        ("'(E9828), contained NSFW content' contained NSFW content", "(E9828), contained NSFW content"),
        ("KeyError: 'sample' for 'CUDA out of memory'", "CUDA out of memory"),
    ],
)
def test_a_failure_that_means_something_else_without_its_prompt_says_nothing_of_the_model(text, prompt):
    error = classified(text, prompt)

    assert type(error) is RepeatedPromptError


@pytest.mark.parametrize(
    "text", ["odd: a fox in the snow", "a fox in the snow (E9828)", "weights missing: a fox in the snow"]
)
def test_a_failure_that_means_the_same_without_its_prompt_may_be_the_models(text):
    assert type(classified(text, "a fox in the snow")) is TransientError


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Async prediction failed: Prediction failed: ModelError: odd (uIJ6l3ruRD)", "Prediction failed: odd"),
        ("ValueError: width must be\n  a multiple of 8", "Prediction failed: width must be a multiple of 8"),
        ("", "Prediction failed without a reason"),
        (" \n", "Prediction failed without a reason"),
        (f"refused {TOKEN}", "Prediction failed: refused [redacted]"),
        ("<script>bad</script> worse<script>", "Prediction failed: worse"),
    ],
)
def test_a_failure_is_told_on_one_line_without_its_wrapping(text, told):
    assert str(classified(text)) == told


@pytest.mark.parametrize(
    ("text", "unexplained"),
    [
        ("", True),
        (None, True),
        ("whatever nobody has seen", True),
        (f"{DIRECTOR} (E8765)", False),
        ("ReadError:", False),
    ],
)
def test_a_failure_whose_words_nobody_knows_may_be_the_prompts_own(text, unexplained):
    assert classified(text).unexplained is unexplained


def test_a_long_text_is_understood_to_its_end_and_told_in_part():
    error = classified(f"{'x' * 470} {TOKEN} {'x' * 3000} (E005)")

    assert type(error) is ContentPolicyError
    assert len(str(error)) == 500
    assert TOKEN[:9] not in str(error)


UNAUTHENTICATED = {"title": "Unauthenticated", "detail": "You did not pass a valid authentication token", "status": 401}
INVALID = {
    "detail": "- input: prompt is required\n- input.num_inference_steps: Must be less than or equal to 4\n",
    "status": 422,
    "title": "Input validation failed",
    "invalid_fields": [
        {"type": "required", "field": "input", "description": "prompt is required"},
        {"type": "number_lte", "field": "input.num_inference_steps", "description": "Must be less than or equal to 4"},
    ],
}
EXTRA = {"detail": "- version is required\n- Additional property model is not allowed\n", "status": 422}
VERSION = {
    "title": "Invalid version or not permitted",
    "detail": "The specified version does not exist (or perhaps you don't have permission to use it?)",
    "status": 422,
}
# Status, body, the error on a create, whether surely nothing was bought, the error on any other call.
REFUSALS = [
    (401, UNAUTHENTICATED, UnauthorizedError, True, UnauthorizedError),
    (403, None, UnauthorizedError, True, UnauthorizedError),
    (402, {"title": "Insufficient credit", "detail": "You have insufficient credit"}, AccountError, True, AccountError),
    (402, {"title": "Billing required", "detail": "You need to set up billing"}, AccountError, True, AccountError),
    (402, {"title": "Monthly spend limit reached"}, AccountError, True, AccountError),
    (402, {"title": "Free time limit reached"}, AccountError, True, AccountError),
    (404, {"detail": "The requested resource could not be found."}, AccountError, True, TransientError),
    (422, VERSION, AccountError, True, TransientError),
    (422, INVALID, PermanentError, True, TransientError),
    (422, EXTRA, PermanentError, True, TransientError),
    (422, {"detail": "prompt: an invalid version of the truth"}, PermanentError, True, TransientError),
    (400, None, PermanentError, True, TransientError),
    (413, None, PermanentError, True, TransientError),
    (429, {"detail": "Request was throttled."}, RateLimitedError, True, RateLimitedError),
    (500, {"detail": "Internal server error"}, TransientError, False, TransientError),
    (503, None, TransientError, False, TransientError),
    (408, None, AmbiguousCreateError, False, TransientError),
    (502, None, AmbiguousCreateError, False, TransientError),
    (504, None, AmbiguousCreateError, False, TransientError),
    (520, None, AmbiguousCreateError, False, TransientError),
    (302, None, AmbiguousCreateError, False, TransientError),
]


def refused(status, body, *, creating=True, headers=None, prompt=None):
    answer = Answer(status, httpx.Headers(headers), body)
    return classify_refusal(answer, Echoes(prompt), creating=creating, redact=REDACT)


@pytest.mark.parametrize(("status", "body", "kind", "over", "otherwise"), REFUSALS)
def test_a_refusal_is_classified_by_its_status_and_by_what_was_asked(status, body, kind, over, otherwise):
    create, other = refused(status, body), refused(status, body, creating=False)

    assert (type(create), create.purchase_over) == (kind, over)
    assert (type(other), other.purchase_over) == (otherwise, False)


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (401, UNAUTHENTICATED, "Invalid API token: Replicate answered 401: Unauthenticated: You did not pass a valid"),
        (422, INVALID, "input: prompt is required; input.num_inference_steps: Must be less than or equal to 4"),
        (422, EXTRA, "Replicate answered 422: - version is required - Additional property model is not allowed"),
        (422, {"invalid_fields": ["odd"], "detail": 3, "title": None}, "Replicate answered 422"),
        (503, None, "Replicate answered 503"),
    ],
)
def test_a_refusal_tells_what_the_provider_said(status, body, told):
    assert told in str(refused(status, body))


GUARDRAIL = {"success": False, "errors": [{"code": 2016, "message": "Prompt blocked due to security configurations"}]}
MODERATED = {"name": "content_moderation", "errors": ["Your request was flagged by our content moderation system."]}
OPENAI = {"error": {"code": "moderation_blocked", "message": "Your request was rejected by the safety system."}}
FILTER_LEVEL = {"field": "input.safety_filter_level", "description": "block_none is not permitted"}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, GUARDRAIL, ContentPolicyError),
        (403, MODERATED, ContentPolicyError),
        (422, OPENAI, ContentPolicyError),
        (422, {"detail": "NSFW content detected"}, ContentPolicyError),
        (403, {"detail": "You are not allowed to do that"}, UnauthorizedError),
        (401, MODERATED, UnauthorizedError),
        (402, MODERATED, AccountError),
        (500, MODERATED, TransientError),
        (502, MODERATED, AmbiguousCreateError),
        (422, {"title": "Input validation failed", "invalid_fields": [FILTER_LEVEL]}, PermanentError),
        (422, {"detail": "prompt is required"}, PermanentError),
    ],
)
def test_a_create_that_is_refused_for_its_prompt_is_known_by_its_words(status, body, kind):
    create, other = refused(status, body), refused(status, body, creating=False)

    assert type(create) is kind
    assert type(other) is not ContentPolicyError
    assert kind is not ContentPolicyError or (create.purchase_over, create.answered) == (True, True)


FLAGGED = "was flagged by our content moderation system"


@pytest.mark.parametrize(
    ("status", "detail", "prompt", "kind"),
    [
        (422, f"Your request {FLAGGED}.", f"a fox {FLAGGED}", ContentPolicyError),
        (400, f"- input.steps is odd for a fox {FLAGGED}", f"a fox {FLAGGED}", ContentPolicyError),
        (400, f"- input.width is odd for a fox {FLAGGED}", f"a fox {FLAGGED}", PermanentError),
        (403, "Your request was flagged by moderation: a calm sea", "a calm sea", ContentPolicyError),
        (403, f"Your request {FLAGGED}.", f"a fox {FLAGGED}", RepeatedPromptError),
        (403, f"No access for a fox {FLAGGED}", f"a fox {FLAGGED}", RepeatedPromptError),
        (403, f"'missing, {FLAGGED}' {FLAGGED}", f"missing, {FLAGGED}", RepeatedPromptError),
        (403, f"'(E9828), {FLAGGED}' {FLAGGED}", f"(E9828), {FLAGGED}", RepeatedPromptError),
        (403, "You are not allowed to: an internal error", "an internal error", UnauthorizedError),
        (401, f"Your request {FLAGGED}.", f"a fox {FLAGGED}", UnauthorizedError),
        (402, f"Your request {FLAGGED}.", f"a fox {FLAGGED}", AccountError),
        (404, f"Your request {FLAGGED}.", f"a fox {FLAGGED}", AccountError),
    ],
)
def test_the_prompts_words_in_a_refused_create_affect_its_own_token_alone(status, detail, prompt, kind):
    error = refused(status, {"detail": detail}, prompt=prompt)

    assert (type(error), error.purchase_over) == (kind, True)


def test_a_prompt_in_a_title_does_not_make_a_version_missing():
    prompt = "invalid version of a fox"

    assert type(refused(422, {"title": prompt}, prompt=prompt)) is PermanentError


def test_a_wait_or_a_limit_in_the_prompt_is_ignored():
    prompt = "reduced to 1 requests per hour, resets in 299s"
    error = refused(429, {"detail": f"Request was throttled: {prompt}"}, prompt=prompt)

    assert (error.limit_per_minute, error.retry_after) == (None, 30)


def test_a_gateways_reason_is_told():
    told = str(refused(400, {"error": {"message": "unknown route", "code": 7}}))

    assert told == "Replicate answered 400: unknown route; code: 7"


def test_a_reason_in_many_parts_is_read_in_part():
    many = {str(place): [[7] * 1000] * 1000 for place in range(1000)}

    assert len(str(classified(many))) == 500


@pytest.mark.parametrize("where", ["title", "detail", "invalid_fields"])
def test_a_refusal_repeats_neither_the_prompt_nor_the_token(where):
    prompt = f"a fox whose name is {TOKEN}"
    said = f"{prompt} {TOKEN} is bad"

    error = refused(422, {where: [{"description": said}] if where == "invalid_fields" else said}, prompt=prompt)

    assert str(error).endswith(" [prompt] is bad")  # the API token is a part of the prompt, and also stands behind it


LONG_AGO = "Wed, 21 Oct 2015 07:28:00 GMT"
DETAIL = "Request was throttled. Your rate limit resets in ~5s."


@pytest.mark.parametrize(
    ("header", "body", "least", "most"),
    [
        ("7", {"retry_after": 8, "detail": DETAIL}, 7, 7),
        ("2.5", None, 2.5, 2.5),
        ("0", None, 0.1, 0.1),
        ("-3", None, 0.1, 0.1),
        ("3600", None, 300, 300),
        (LONG_AGO, None, 0.1, 0.1),
        ("soon", {"retry_after": 8}, 8, 8),
        ("nan", {"retry_after": 8}, 8, 8),
        ("Wed, 99 Oct 99999 07:28:00 GMT", {"retry_after": 8}, 8, 8),
        (None, {"retry_after": 8, "detail": DETAIL}, 8, 8),
        (None, {"retry_after": "8"}, 8, 8),
        (None, {"retry_after": 3600}, 300, 300),
        (None, {"retry_after": 10**400, "detail": DETAIL}, 5, 5),
        (None, {"retry_after": True, "detail": DETAIL}, 5, 5),
        (None, {"retry_after": [1], "detail": DETAIL}, 5, 5),
        (None, {"detail": DETAIL}, 5, 5),
        (None, {"detail": DETAIL.replace("~5s", "~9000s")}, 300, 300),
        (None, {"detail": "Request was throttled."}, 30, 30),
        (None, {"detail": 12}, 30, 30),
        (None, None, 30, 30),
    ],
)
def test_the_wait_after_a_429_is_the_one_that_the_provider_names(header, body, least, most):
    answer = Answer(429, httpx.Headers({"Retry-After": header} if header else None), body)

    assert least <= retry_after(answer) <= most
    assert refused(429, body, headers=answer.headers).retry_after == pytest.approx(retry_after(answer), abs=1)


@pytest.mark.parametrize("date", ["Wed, 21 Oct 2015 07:27:57 GMT", "Wednesday, 21-Oct-15 07:27:57 GMT"])
@pytest.mark.parametrize(
    "until", ["Wed, 21 Oct 2015 07:28:00 GMT", "Wed Oct 21 07:28:00 2015", "Wed, 21 Oct 2015 09:28:00 +0200"]
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_a_date_to_wait_for_is_read_by_the_providers_clock(monkeypatch, request, date, until, zone):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    request.addfinalizer(lambda: (monkeypatch.undo(), time.tzset()))

    assert retry_after(Answer(429, httpx.Headers({"Date": date, "Retry-After": until}), None)) == 3


@pytest.mark.parametrize("date", ["", "now", "Wed, 99 Oct 99999 07:28:00 GMT", "0", "-"])
def test_a_date_to_wait_for_is_read_by_our_clock_if_the_provider_tells_none(date):
    until = formatdate(time.time() + 250, usegmt=True)  # whole seconds
    headers = httpx.Headers({"Retry-After": until} | ({"Date": date} if date else {}))

    assert retry_after(Answer(429, headers, None)) == pytest.approx(250, abs=2)


@given(st.text(max_size=40), st.text(max_size=40), st.recursive(st.text() | st.floats(), st.lists))
def test_whatever_names_a_wait_it_is_within_bounds(header, date, named):
    answer = Answer(429, {"retry-after": header, "date": date}, {"retry_after": named, "detail": named})

    assert 0.1 <= retry_after(answer) <= 300


CREDIT = "while you have less than $5.0 in credit."
RESETS = "Your rate limit resets in ~5s."


@pytest.mark.parametrize(
    ("detail", "limit"),
    [
        (f"reduced to 6 requests per minute with a burst of 1 requests {CREDIT} {RESETS}", 6),
        (f"reduced to 6 requests per minute with a burst of 1 requests until you add a payment method. {RESETS}", 6),
        (f"reduced to 6 requests per minute with a burst of 1 requests. {RESETS}", 6),
        (f"Reduced to 1 request per second. {RESETS}", 60),
        (f"reduced to 90 requests per hour. {RESETS}", 1.5),
        (f"reduced to a burst of 1 requests {CREDIT} {RESETS}", 6),
        (f"reduced to 0 requests per minute. {RESETS}", None),
        (f"Request was throttled. {RESETS}", None),
        ("x" * 20_000 + "reduced to 6 requests per minute", None),
        ({"detail": "reduced to 6 requests per minute"}, None),
        (None, None),
    ],
)
@pytest.mark.parametrize("creating", [False, True])
def test_a_429_names_the_lower_limit_of_creates(detail, limit, creating):
    body = {"detail": detail, "status": 429}

    error = classify_refusal(Answer(429, httpx.Headers(), body), Echoes(), creating=creating, redact=REDACT)

    assert error.limit_per_minute == (limit if creating else None)
