"""What a fault makes of a prediction that is bought."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from reactor.sandbox.catalog import TINY_PNG
from reactor.sandbox.faults import TEXTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactor.sandbox.faults import Fault
    from reactor.sandbox.predictions import Prediction


def fated(fault: Fault, prediction: Prediction) -> None:
    """Decide what becomes of it."""
    for name, value in CHANGES[fault.kind](fault).items():
        setattr(prediction, name, value)


CHANGES: dict[str, Callable[[Fault], dict[str, Any]]] = {
    "nsfw": lambda fault: {"end": "failed", "error": fault.said(TEXTS["NSFW"])},
    "failed": lambda fault: {"end": "failed", "error": fault.said()},
    "canceled": lambda _: {"end": "canceled"},
    "aborted": lambda _: {"end": "aborted"},
    "stuck": lambda _: {"queue": math.inf},
    "queue": lambda fault: {"queue": fault.seconds},
    "run": lambda fault: {"run": fault.seconds},
    "empty": lambda _: {"output": lambda _urls: []},
    "null": lambda _: {"output": lambda _urls: None},
    "short": lambda _: {"output": lambda urls: urls[1:]},
    "string": lambda fault: {"output": lambda urls: fault.text or urls[0]},
    "dict": lambda _: {"output": lambda urls: {"image": urls[0]}},
    "junk-url": lambda fault: {"output": lambda _urls: [fault.text or "javascript:alert(1)"]},
    "data-uri": lambda _: {"output": lambda _urls: [TINY_PNG]},
    "data-removed": lambda _: {"removed": True},
    "gone": lambda _: {"gone": True},
    "lag": lambda fault: {"unlisted": fault.seconds},
    "error-object": lambda fault: {"end": "failed", "error": {"message": fault.said("an object")}},
    "null-version": lambda _: {"version": None},
}
