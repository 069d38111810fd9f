"""What an answer means: by its status, or by its text if a prediction failed, because then it carries nothing else."""

from __future__ import annotations

import re
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
    TransientError,
    UnauthorizedError,
)
from reactor.providers.patience import lower_limit, retry_after
from reactor.providers.texts import MOST_READ, known

if TYPE_CHECKING:
    from reactor.echoes import Echoes
    from reactor.providers.transport import Answer
    from reactor.redaction import Redactor

LONGEST_TEXT = 500  # characters of the provider's own words that are kept
_WRAPPING = re.compile(
    r"^(?:(?:(?:async )?prediction failed|\w*(?:Model|ModelRateLimit|ContentModeration|Value)Error|Exception):\s*)+",
    re.IGNORECASE,
)
_REQUEST_ID = re.compile(r"\s*\([A-Za-z0-9]{10}\)$")
_TAG = re.compile(r"<(script|style)\b.{0,2000}?</\1\s*>|</?[a-z!][^<>]*>", re.IGNORECASE | re.DOTALL)
_SPEAKING = {"message", "detail", "error", "msg"}  # keys that say nothing beside their value
_REASONS = ("detail", "error", "errors", "message")  # the API's key, then those of gateways
_MOST_PARTS = 20  # of a list or dict
_UNSURE = 256  # characters before the place where a text was cut: half a secret is not known as one
_TRACEBACK = "Traceback (most recent call last)"


def failure(given: Any, echoes: Echoes, *, redact: Redactor) -> GenerationError:
    """Classify a failed prediction by its reason, a text or what some models give instead, without its prompt.

    One that nobody has seen is retried, since retries are bounded.
    """
    said = _one_line(given)
    if not said:
        return TransientError("Prediction failed without a reason", unexplained=True)
    reason = echoes.hide(_REQUEST_ID.sub("", _WRAPPING.sub("", said)))
    told = redact(f"Prediction failed: {reason}", longest=LONGEST_TEXT)
    kind = known(echoes.without_runs(said))
    return TransientError(told, unexplained=True) if kind is None else kind(told)


def refusal(answer: Answer, echoes: Echoes, *, creating: bool, redact: Redactor) -> GenerationError:
    """Classify an answer that is no success, by its status; where it has no words of its own, its status has.

    Of a create it also says whether something may have been bought; of any other call nothing is known about that,
    and only what concerns the account is more than a reason to ask again.
    """
    words = _words(answer)
    told = echoes.hide(words) if words else _phrase(answer)
    said = redact(f"Replicate answered {answer.status}{told}", longest=LONGEST_TEXT)
    if creating and _is_moderation(answer, echoes.without_runs(words)):
        return ContentPolicyError(said, answered=True)
    match answer.status:
        case 401 | 403:
            return UnauthorizedError(f"Invalid API token: {said}", purchase_over=creating)
        case 402:
            return AccountError(said, purchase_over=creating)
        case 429:
            limit = lower_limit(answer) if creating else None
            return RateLimitedError(
                said, retry_after=retry_after(answer), purchase_over=creating, limit_per_minute=limit
            )
        case _ if not creating:  # without its words: they may repeat a prompt that is not known here
            return TransientError(f"Replicate answered {answer.status}{_phrase(answer)}", purchase_over=False)
        case _:
            return _refused_create(answer, said)


def _is_moderation(answer: Answer, words: str) -> bool:
    """Whether a create was refused for its prompt. Invalid fields are settings, a safety filter's among them."""
    invalid = (answer.body or {}).get("invalid_fields")
    return answer.status in {400, 403, 422, 451} and not invalid and known(words) is ContentPolicyError


def _refused_create(answer: Answer, said: str) -> GenerationError:
    title = _one_line((answer.body or {}).get("title"))
    match answer.status:
        case 404:
            return AccountError(said)
        case 422 if title.lower().startswith("invalid version"):
            return AccountError(said)  # the model is not there, said in the version's way
        case 500 | 503:
            return TransientError(said, purchase_over=False)  # seen to carry no prediction; one look to be sure
        case status if 400 <= status < 500 and status != 408:
            return PermanentError(said, answered=True)
        case _:  # redirects and the edge's own 5xx: whoever answered, we do not know what the API did
            return AmbiguousCreateError(said)


def _words(answer: Answer) -> str:
    """`: title: detail`, on one line; '' if there are none. Invalid fields are named: a detail may repeat the input."""
    body = answer.body or {}
    fields = body.get("invalid_fields")
    named = [field for field in fields[:_MOST_PARTS] if isinstance(field, dict)] if isinstance(fields, list) else []
    told = _one_line(
        "; ".join(filter(None, (_joined(field.get("field"), field.get("description")) for field in named)))
    )
    told = told or next(filter(None, (_one_line(body.get(key)) for key in _REASONS)), "")
    return "".join(f": {part}" for part in (_one_line(body.get("title")), told) if part)


def _phrase(answer: Answer) -> str:
    try:
        return f" {HTTPStatus(answer.status).phrase}"
    except ValueError:
        return ""


def _joined(*parts: Any) -> str:
    return ": ".join(told for part in parts if (told := _words_of(part).strip()))


def _one_line(given: Any) -> str:
    """What people can read of it: of a traceback the last line, no tags, and of a JSON value its words."""
    text = given if isinstance(given, str) else _words_of(given)
    if _TRACEBACK in text:
        text = text.rstrip().rpartition("\n")[2]
    said = " ".join(_TAG.sub(" ", text[:MOST_READ]).split())
    return said if len(text) <= MOST_READ else said[:-_UNSURE]


def _words_of(given: Any, *, deeper: int = 3) -> str:
    """`code: 7; message: no`; what is nested deeper than anybody would read is left out."""
    match given:
        case None | bool():
            return ""
        case dict() if deeper:
            told = ((name, _words_of(value, deeper=deeper - 1)) for name, value in islice(given.items(), _MOST_PARTS))
            return "; ".join(words if name in _SPEAKING else f"{name}: {words}" for name, words in told if words)
        case list() if deeper:
            return "; ".join(filter(None, (_words_of(value, deeper=deeper - 1) for value in given[:_MOST_PARTS])))
        case dict() | list():
            return ""
        case _:
            return str(given)
