"""Turns a refused request or a failed prediction into one of our errors.

A refused request is classified by its status; a failed prediction by its text, because it carries nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING, Any

from reactor.errors import (
    AccountError,
    AmbiguousCreateError,
    ContentPolicyError,
    GenerationError,
    PermanentError,
    RateLimitedError,
    RepeatedPromptError,
    TransientError,
    UnauthorizedError,
)
from reactor.providers.failure_texts import MOST_READ, classify_text, refuses_content
from reactor.providers.rate_limits import lower_limit, retry_after

if TYPE_CHECKING:
    from reactor.providers.transport import Answer
    from reactor.text.echoes import Echoes
    from reactor.text.redaction import Redactor

LONGEST_TEXT = 500  # characters that are kept of the provider's words
_WRAPPING = re.compile(
    r"^(?:(?:(?:async )?prediction failed|\w*(?:Model|ModelRateLimit|ContentModeration|Value)Error|Exception):\s*)+",
    re.IGNORECASE,
)
_REQUEST_ID = re.compile(r"\s*\([A-Za-z0-9]{10}\)$")
_TAG = re.compile(r"<(script|style)\b.{0,2000}?</\1\s*>|</?[a-z!][^<>]*>", re.IGNORECASE | re.DOTALL)
_UNNAMED = {"message", "detail", "error", "msg"}  # keys that are left out, because their value says it all
_REASONS = ("detail", "error", "errors", "message")  # the API's key, then the keys of gateways
_MOST_PARTS = 20  # of a list or dict
_UNSURE = 256  # characters dropped where a text was cut, because half a secret is not recognised as one
_TRACEBACK = "Traceback (most recent call last)"


def classify_failure(given: Any, echoes: Echoes, *, redact: Redactor) -> GenerationError:
    """Classify a failed prediction by its reason, usually a text. The error's message leaves out the prompt.

    An unknown reason is retried, because retries are bounded.
    """
    text = _one_line(given)
    if not text:
        return TransientError("Prediction failed without a reason", unexplained=True)
    reason = echoes.hide(_REQUEST_ID.sub("", _WRAPPING.sub("", text)))
    message = redact(f"Prediction failed: {reason}", longest=LONGEST_TEXT)
    meaning = _meaning(text, echoes)
    if meaning.by_prompt and meaning.kind in {None, TransientError}:
        return RepeatedPromptError(message)
    return TransientError(message, unexplained=True) if meaning.kind is None else meaning.kind(message)


def classify_refusal(answer: Answer, echoes: Echoes, *, creating: bool, redact: Redactor) -> GenerationError:
    """Classify an answer that is not a success, by its status.

    For a create, the error contains the provider's words and says whether something may have been bought. Any other
    call leaves that open, and unless it is about the account, its failure is only a reason to ask again. The words of
    its answer are left out, because they may repeat a prompt that is not known here.
    """
    words = _provider_words(answer) if creating else ""
    reason = echoes.hide(words) if words else _status_phrase(answer)
    message = redact(f"Replicate answered {answer.status}{reason}", longest=LONGEST_TEXT)
    if creating and (moderation := _moderation(answer, _meaning(words, echoes), message)):
        return moderation
    match answer.status:
        case 401 | 403:
            return UnauthorizedError(f"Invalid API token: {message}", purchase_over=creating)
        case 402:
            return AccountError(message, purchase_over=creating)
        case 429:
            own = _without_prompt(answer, echoes)
            wait, limit = retry_after(own), lower_limit(own) if creating else None
            return RateLimitedError(message, retry_after=wait, purchase_over=creating, limit_per_minute=limit)
        case _ if not creating:
            return TransientError(message, purchase_over=False)
        case _:
            return _refused_create(answer, message, echoes)


def _moderation(answer: Answer, meaning: _Meaning, message: str) -> GenerationError | None:
    """The error for a create that was refused for its prompt; None if it was refused for another reason.

    `invalid_fields` are about settings, for example a safety filter's. A 403 may also be about the account. If only
    the prompt's words make it a refusal of content, the token is retried: a fault of the account must not censor the
    prompt, and a prompt must not close the gate.
    """
    if answer.status not in {400, 403, 422, 451} or (answer.body or {}).get("invalid_fields"):
        return None
    if answer.status == HTTPStatus.FORBIDDEN and meaning.repeats_a_refusal:
        return RepeatedPromptError(message)
    return ContentPolicyError(message, answered=True) if meaning.kind is ContentPolicyError else None


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What a text means, and whether the words of the prompt in it make it so."""

    kind: type[GenerationError] | None
    by_prompt: bool  # without the words of the prompt it means something else
    repeats_a_refusal: bool  # without the words of the prompt it is no refusal of content


def _meaning(text: str, echoes: Echoes) -> _Meaning:
    """The meaning of the provider's own words, which are those that do not repeat the prompt.

    If they have no known meaning, but the whole text refuses the content, the refusal is believed: the author may have
    copied the provider's phrase into the prompt, and a refusal affects no other author's token.
    """
    left = echoes.without(text)
    kind, kind_left = classify_text(text), classify_text(left)
    repeats_a_refusal = refuses_content(text) and not refuses_content(left)
    by_prompt = kind is not kind_left or (kind is None and repeats_a_refusal)
    if kind_left is None and kind is ContentPolicyError and repeats_a_refusal:
        kind_left = kind
    return _Meaning(kind_left, by_prompt, repeats_a_refusal)


def _without_prompt(answer: Answer, echoes: Echoes) -> Answer:
    """The answer, whose detail is without the prompt's words: they must not name a wait, which affects every token."""
    detail = (answer.body or {}).get("detail")
    own = {"detail": echoes.without(detail)} if isinstance(detail, str) else {}
    return replace(answer, body={**(answer.body or {}), **own}) if own else answer


def _refused_create(answer: Answer, message: str, echoes: Echoes) -> GenerationError:
    title = echoes.without(_one_line((answer.body or {}).get("title")))
    match answer.status:
        case 404:
            return AccountError(message)
        case 422 if title.lower().startswith("invalid version"):
            return AccountError(message)  # the model's version does not exist
        case 500 | 503:
            # No such answer was ever seen to come with a purchase. One search of the listing makes sure.
            return TransientError(message, purchase_over=False)
        case status if 400 <= status < 500 and status != 408:
            return PermanentError(message, answered=True)
        case _:  # redirects and 5xx of a server in front of the API: we do not know what the API did
            return AmbiguousCreateError(message)


def _provider_words(answer: Answer) -> str:
    """`: title: detail` on one line, or ''. Invalid fields replace the detail, because that may repeat the input."""
    body = answer.body or {}
    fields = body.get("invalid_fields")
    named = [field for field in fields[:_MOST_PARTS] if isinstance(field, dict)] if isinstance(fields, list) else []
    reason = _one_line(
        "; ".join(filter(None, (_joined(field.get("field"), field.get("description")) for field in named)))
    )
    reason = reason or next(filter(None, (_one_line(body.get(key)) for key in _REASONS)), "")
    return "".join(f": {part}" for part in (_one_line(body.get("title")), reason) if part)


def _status_phrase(answer: Answer) -> str:
    try:
        return f" {HTTPStatus(answer.status).phrase}"
    except ValueError:
        return ""


def _joined(*parts: Any) -> str:
    return ": ".join(words for part in parts if (words := _words_of(part).strip()))


def _one_line(given: Any) -> str:
    """The readable part on one line: the last line of a traceback, no tags, the words of a JSON value."""
    text = given if isinstance(given, str) else _words_of(given)
    if _TRACEBACK in text:
        text = text.rstrip().rpartition("\n")[2]
    line = " ".join(_TAG.sub(" ", text[:MOST_READ]).split())
    return line if len(text) <= MOST_READ else line[:-_UNSURE]


def _words_of(given: Any, *, deeper: int = 3) -> str:
    """The words of a JSON value, as in `code: 7; no`. Values below the third level are left out."""
    match given:
        case None | bool():
            return ""
        case dict() if deeper:
            named = ((name, _words_of(value, deeper=deeper - 1)) for name, value in islice(given.items(), _MOST_PARTS))
            return "; ".join(words if name in _UNNAMED else f"{name}: {words}" for name, words in named if words)
        case list() if deeper:
            return "; ".join(filter(None, (_words_of(value, deeper=deeper - 1) for value in given[:_MOST_PARTS])))
        case dict() | list():
            return ""
        case _:
            return str(given)
