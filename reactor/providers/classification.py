"""What the provider's words mean. The known texts stand here, with where they were seen, and nowhere else.

By status where there is an answer; by text where a prediction failed, since text is all it carries. Moderation is
matched first: its messages also say "please try again".
"""

from __future__ import annotations

import math
import re
import time
from email.utils import mktime_tz, parsedate_tz
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from reactor.providers.transport import Answer

LONGEST_WAIT = 300.0  # seconds
USUAL_WAIT = 30.0  # seconds, where a 429 names none; "resets in ~30s" is the documented text
LONGEST_TEXT = 500  # characters of the provider's own words

POLICY, TRANSIENT, PERMANENT = ContentPolicyError, TransientError, PermanentError
_TEXTS: tuple[tuple[str, type[GenerationError], str], ...] = (
    # pattern, class, where it was seen
    (r"nsfw", POLICY, "flux, SDXL, Stable Diffusion: safety checker"),
    (r"\(E005\)|flagged as sensitive", POLICY, "flux-2, seedream, seedance: wrapper of proxied models"),
    (r"content flagged", POLICY, "seedream, seedance"),
    (r"copyright restrictions", POLICY, "seedance-2.0-mini"),
    (r"DataInspectionFailed|inappropriate content", POLICY, "Alibaba models: Green net check"),
    (r"could not process with this prompt", POLICY, "Happy Horse"),
    (r"content[ _-]?(policy|moderation)|safety (system|filter)|moderat(ed|ion)", POLICY, "proxied models, paraphrased"),
    (r"\(E1001\)", PERMANENT, "documented: the model ran out of memory on this input"),
    (r"\(E4875\)", PERMANENT, "documented: internal webhook URL empty"),
    (r"exceptions must derive from BaseException", PERMANENT, "sadtalker"),
    (r"^ValueError: |must be a multiple of", PERMANENT, "SD family"),
    (r"CUDA out of memory", PERMANENT, "community models, large inputs"),
    (r"interrupted; please retry", TRANSIENT, "all models: preemption (code: PA)"),
    (r"\(E00[1-4]\)", TRANSIENT, "proxied models: the third party's credit, key, rate limit, outage"),
    (r"E\d{4}", TRANSIENT, "Director: platform errors, E9828 E6716 E8765 E9243 E1000"),
    (r"ReadError", TRANSIENT, "seedance-2.0-mini"),
    (r"KeyError: 'sample'", TRANSIENT, "flux-2-pro"),
    (r"illegal memory access", TRANSIENT, "llama: a sick worker"),
    (r"internal error|try again|high demand|temporarily", TRANSIENT, "generic"),
)
_KNOWN = tuple((re.compile(pattern, re.IGNORECASE), kind) for pattern, kind, _ in _TEXTS)
_WRAPPING = re.compile(
    r"^(?:(?:async )?prediction failed:\s*|(?:Model\w*|ContentModeration)Error:\s*|Exception:\s*)+", re.IGNORECASE
)
_REQUEST_ID = re.compile(r"\s*\([A-Za-z0-9]{10}\)$")
_RESETS_IN = re.compile(r"resets in ~?\s*(\d+(?:\.\d+)?)\s*s", re.IGNORECASE)


def failure(text: str | None) -> GenerationError:
    """Classify a failed prediction by its text; one that nobody has seen is retried, since retries are bounded."""
    said = normalised(text or "")
    if not said:
        return TransientError("Prediction failed without a reason")
    kind = next((kind for pattern, kind in _KNOWN if pattern.search(said)), TransientError)
    return kind(f"Prediction failed: {said}")


def normalised(text: str) -> str:
    """One line, without the wrappers' prefixes and the request id."""
    said = _WRAPPING.sub("", " ".join(text.split()))
    return _REQUEST_ID.sub("", said)[:LONGEST_TEXT]


def refusal(answer: Answer, *, creating: bool = False) -> GenerationError:  # noqa: PLR0911  (a table)
    """Classify an answer that is no success. For a create, it also says whether something may have been bought."""
    said = f"Replicate answered {answer.status}{_words(answer)}"
    match answer.status:
        case 401 | 403:
            return UnauthorizedError(f"Invalid API token ({answer.status}{_words(answer)})")
        case 402 | 404:
            return AccountError(said)
        case 422 if "invalid version" in said.lower():
            return AccountError(said)  # the model is not there, said in the version's way
        case 429:
            return RateLimitedError(said, retry_after=retry_after(answer))
        case 500 | 503:
            return TransientError(said, purchase_over=not creating)  # seen to carry no prediction; one look to be sure
        case 408 | 502 | 504:
            return AmbiguousCreateError(said) if creating else TransientError(said)
        case status if 400 <= status < 500:
            return PermanentError(said)
        case _:  # redirects and the edge's own 5xx: whoever answered, we do not know what the API did
            return AmbiguousCreateError(said) if creating else TransientError(said)


def retry_after(answer: Answer) -> float:
    """Seconds to wait, from the header, the body or the text, in this order; 0.1 to LONGEST_WAIT."""
    body = answer.body or {}
    named = (
        _seconds(answer.headers.get("retry-after")),
        _seconds(body.get("retry_after")),
        _seconds(found[1] if (found := _RESETS_IN.search(str(body.get("detail", "")))) else None),
    )
    wait = next((seconds for seconds in named if seconds is not None), USUAL_WAIT)
    return min(max(wait, 0.1), LONGEST_WAIT)


def _seconds(value: object) -> float | None:
    """A number of seconds, or an HTTP date; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        date = parsedate_tz(str(value))
        try:
            seconds = mktime_tz(date) - time.time() if date else math.nan
        except (ValueError, OverflowError):
            return None
    return seconds if math.isfinite(seconds) else None


def _words(answer: Answer) -> str:
    """`: title: detail`, on one line. Invalid fields are named, since a detail may repeat the input."""
    body = answer.body or {}
    fields = body.get("invalid_fields")
    if isinstance(fields, list) and fields:
        told = "; ".join(
            f"{field.get('field')}: {field.get('description')}" for field in fields if isinstance(field, dict)
        )
    else:
        told = str(body.get("detail") or "")
    parts = [" ".join(str(part).split()) for part in (body.get("title") or "", told) if part]
    return f": {': '.join(parts)}"[:LONGEST_TEXT] if parts else ""
