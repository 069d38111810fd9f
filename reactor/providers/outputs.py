"""Turns a prediction's JSON into a `Prediction`: its status, the URL of its image, its error."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from reactor.errors import GenerationError, PermanentError, TransientError
from reactor.providers import Prediction
from reactor.providers.bodies import UnreadableError
from reactor.providers.classification import classify_failure
from reactor.providers.times import duration_of, parse_time, predict_seconds
from reactor.tokens import AT_ITS_DEADLINE, PREDICTION_ID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reactor.text.echoes import Echoes
    from reactor.text.redaction import Redactor

LONGEST_URL = 2048  # characters
LONGEST_PAGE_URL = 200  # characters
MOST_VALUES = 1000  # of an output that are examined, lists and dicts included
_URL_KEYS = ("url", "image", "images")  # of a dict, under which models put the URL
ROUNDED = timedelta(seconds=1)  # the API writes the same time with more or fewer decimals
_USUAL = ("starting", "processing")  # statuses that are shown even if the prompt contains them
_WORD = re.compile(r"[a-z]{1,20}")


def read_prediction(body: dict[str, Any], echoes: Echoes, *, plain_http: bool, redact: Redactor) -> Prediction:
    """Read an answer. `plain_http`: the URL may be http, as a loopback server's is. Raises UnreadableError."""
    read = _state(body, echoes, plain_http=plain_http, redact=redact)
    return replace(
        read,
        took=duration_of(body),
        predict_seconds=predict_seconds(body),
        images=_images(body) if read.ended else None,
        web_url=page_about(body, echoes),
    )


def _state(body: dict[str, Any], echoes: Echoes, *, plain_http: bool, redact: Redactor) -> Prediction:
    """How the prediction is, and what came of it."""
    prediction_id, status = body.get("id"), body.get("status")
    if not (isinstance(prediction_id, str) and PREDICTION_ID.fullmatch(prediction_id)):
        raise UnreadableError("an answer without a prediction id")
    if body.get("data_removed") is True and body.get("output") is None and status == "succeeded":
        return Prediction(prediction_id, error=TransientError("The prediction's output was removed before it was read"))
    match status:
        case "succeeded":
            try:
                return Prediction(prediction_id, image_url=image_url(body.get("output"), plain_http=plain_http))
            except GenerationError as error:
                return Prediction(prediction_id, error=error)
        case "failed":
            return Prediction(
                prediction_id, error=classify_failure(body.get("error"), echoes.also(_prompt(body)), redact=redact)
            )
        case "canceled" | "aborted":
            return Prediction(prediction_id, error=TransientError(f"Prediction was {status}{_by_deadline(body)}"))
        case _:  # starting, processing, and any status that the API adds later
            return Prediction(prediction_id, doing=_status_word(status, echoes))


def _by_deadline(body: dict[str, Any]) -> str:
    """Say so if the Cancel-After of its create ended it, because then it took too long and nobody canceled it."""
    deadline, ended = parse_time(body.get("deadline")), parse_time(body.get("completed_at"))
    return f" {AT_ITS_DEADLINE}" if deadline and ended and ended >= deadline - ROUNDED else ""


def _status_word(status: Any, echoes: Echoes) -> str:
    if status in _USUAL:
        return str(status)
    is_word = isinstance(status, str) and _WORD.fullmatch(status) and not echoes.in_word(status)
    return status if is_word else ""


def _prompt(body: dict[str, Any]) -> str | None:
    given = body.get("input")
    prompt = given.get("prompt") if isinstance(given, dict) else None
    return prompt if isinstance(prompt, str) else None


def image_url(output: Any, *, plain_http: bool) -> str:
    """Return the first usable URL of an output. Raises TransientError if empty, PermanentError if unusable."""
    values = [value.strip() if isinstance(value, str) else value for value in _values(output)]
    values = [value for value in values if value not in (None, "")]
    for value in values:
        if isinstance(value, str) and _is_safe(value, plain_http=plain_http):
            return value
    if not values:
        raise TransientError("Prediction succeeded without an output", unexplained=True)
    if any(isinstance(value, str) and value[:5].lower() == "data:" for value in values):
        raise PermanentError("The output is a data URI, and only a URL can be kept")
    raise PermanentError("Malformed output URL")


def _images(body: dict[str, Any]) -> int:
    """How many outputs of a prediction that has ended were paid for: those that it made, usable or not."""
    if body.get("status") != "succeeded":
        return 0
    metrics = body.get("metrics")
    counted = metrics.get("image_count") if isinstance(metrics, dict) else None
    if isinstance(counted, int) and not isinstance(counted, bool) and 0 <= counted <= MOST_VALUES:
        return counted
    if body.get("data_removed") is True:
        return 1  # at least
    return sum(isinstance(value, str) and value.strip() != "" for value in _values(body.get("output")))


def page_about(body: dict[str, Any], echoes: Echoes) -> str | None:
    """The provider's page about a prediction; None if there is none that can be shown."""
    urls = body.get("urls")
    url = urls.get("web") if isinstance(urls, dict) else None
    if not isinstance(url, str) or len(url) > LONGEST_PAGE_URL or not _is_safe(url, plain_http=True):
        return None
    return None if echoes.in_word(url) else url


def _values(output: Any) -> Iterator[Any]:
    """An output's values, in order and bounded. Lists and dicts with the usual keys are opened, nested ones too."""
    waiting = [output]
    for _ in range(MOST_VALUES):
        if not waiting:
            return
        value = waiting.pop()
        usual = [value[key] for key in _URL_KEYS if key in value] if isinstance(value, dict) else []
        if isinstance(value, list):
            waiting += reversed(value[:MOST_VALUES])
        elif usual:
            waiting += reversed(usual)
        elif value != {}:
            yield value


def _is_safe(url: str, *, plain_http: bool) -> bool:
    if len(url) > LONGEST_URL or not url.isascii() or not url.isprintable() or any(mark in url for mark in " \"'<>\\"):
        return False
    try:
        parts = urlsplit(url)
        port_is_number = parts.port is None or parts.port > 0
    except ValueError:
        return False
    known = parts.scheme == "https" or (plain_http and parts.scheme == "http")
    return known and bool(parts.hostname) and port_is_number and "@" not in parts.netloc
