"""The faults: what they are, and when they strike. There are four ways to ask for one.

sandbox.fail(Fault("429", retry_after=2, times=1))                          in process
POST /sandbox/faults {"kind": "reset", "after": true, "match": "fox"}       over HTTP
a fox [sandbox: nsfw]   a fox [sandbox: 429 retry_after=2 times=1; run=5]   in a prompt
Sandbox.from_config('{"faults": [{"kind": "500", "probability": 0.1}]}')    by configuration
"""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from reactor.sandbox.bounds import BOUNDS, FAULTS, LONGEST, LONGEST_DIRECTIVE, LONGEST_TEXT, is_within
from reactor.text.messages import message_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from reactor.sandbox.bounds import Bounds
    from reactor.sandbox.predictions import Prediction

# Kinds that replace the answer to a request. With `after` the request has its effect first. See strikes.py.
ANSWERS = (
    "202", "401", "402", "403", "404", "422", "429", "500", "502", "503", "504", "reset", "close", "truncated", "hang",
    "latency", "slow", "malformed", "html", "non-object", "huge", "redirect",
)  # fmt: skip
# Error texts that Replicate sent. They have names without spaces, because a directive in a prompt is split at spaces.
TEXTS = {
    "NSFW": "NSFW content detected. Try running it again, or try a different prompt.",
    "flux": "All generated images contained NSFW content. Try running it again with a different prompt.",
    "E003": "Service is currently unavailable due to high demand. Please try again later. (E003)",
    "E004": "Service is temporarily unavailable. Please try again later. (E004)",
    "E005": "The input or output was flagged as sensitive. Please try again with different inputs. (E005) (uIJ6l3ruRD)",
    "E6716": "Director: unexpected error handling prediction (E6716)",
    "E9828": "Director: unexpected error handling prediction (E9828)",
    "PA": "Prediction interrupted; please retry (code: PA)",
    "flagged": "Prediction failed: ContentModerationError: Content flagged for: sexual",
}
PLACES = ("create", "get", "cancel", "list", "account", "picture", "other", "any")
MOST_TIMES = 1_000_000
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
_BEGIN, _END = "[sandbox:", "]"


class FaultError(ValueError):
    """The fault is not valid. The message says why."""


@dataclass(slots=True)
class Fault:
    kind: str
    match: str | None = None  # it strikes only for prompts that contain this text
    on: str = "create"  # one of PLACES
    times: int | None = None  # how often it strikes; None: without end
    probability: float = 1.0
    after: bool = False  # the request has its effect first: a create buys a prediction
    seconds: float = 1.0  # of latency, slow, queue, run and lag
    retry_after: float | None = None  # seconds
    placement: str = "body"  # where a 429 names retry_after: body, header or text
    title: str = "credit"  # which 402: credit, billing, spend or free
    low_credit: bool = False  # whether the 429 is that of an account with less than $5
    status: int | None = None  # of an answer with a malformed, html, non-object or huge body
    text: str | None = None  # an error, or an output
    hits: int = field(default=0, init=False, compare=False)
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        allowed = {
            "kind": (*ANSWERS, *FATES),
            "on": PLACES,
            "placement": ("body", "header", "text"),
            "title": ("credit", "billing", "spend", "free"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise FaultError(f"{name} is one of {', '.join(values)}, not {getattr(self, name)}")
        numbers = {"seconds": LONGEST, "retry_after": LONGEST, "times": MOST_TIMES, "probability": 1}
        for name, most in numbers.items():
            if not is_within(getattr(self, name), 0, most):
                raise FaultError(f"{name} is 0 to {most:.0f}, not {getattr(self, name)}")
        if not is_within(self.status, 200, 599):
            raise FaultError(f"status is 200 to 599, not {self.status}")
        if self.kind in FATES and self.on != "create":
            raise FaultError(f"{self.kind} happens on create")
        if max(len(self.match or ""), len(self.text or "")) > LONGEST_TEXT:
            raise FaultError(f"match and text have at most {LONGEST_TEXT} characters")

    @classmethod
    def from_json(cls, given: Any) -> Fault:
        """Make a fault of a JSON object. Raises FaultError."""
        try:
            return _FAULT.validate_python(given)
        except ValidationError as error:
            raise FaultError(problem(error)) from error

    def strikes(self, on: str, kinds: Collection[str], prompt: str) -> bool:
        """Whether the fault strikes this request: it matches, and it has not struck `times` times yet."""
        spent = self.times is not None and self.hits >= self.times
        return not spent and self.on in {on, "any"} and self.kind in kinds and (self.match or "") in prompt

    def error(self, default: str | None = None) -> str | None:
        """The fault's text. A name in TEXTS is replaced by its text."""
        return default if self.text is None else TEXTS.get(self.text, self.text)

    def apply(self, prediction: Prediction) -> None:
        """Change what becomes of a prediction."""
        for name, value in FATES[self.kind](self).items():
            setattr(prediction, name, value)


# Kinds that change what becomes of a prediction: the values of its attributes.
FATES: dict[str, Callable[[Fault], dict[str, Any]]] = {
    "nsfw": lambda fault: {"end": "failed", "error": fault.error(TEXTS["NSFW"])},
    "failed": lambda fault: {"end": "failed", "error": fault.error()},
    "canceled": lambda _: {"end": "canceled"},
    "aborted": lambda _: {"end": "aborted"},  # it never starts, and ends
    "stuck": lambda _: {"queue": math.inf},  # it never starts, and never ends
    "queue": lambda fault: {"queue": fault.seconds},
    "run": lambda fault: {"run": fault.seconds},
    "empty": lambda _: {"output": lambda _urls: []},
    "null": lambda _: {"output": lambda _urls: None},
    "short": lambda _: {"output": lambda urls: urls[1:]},
    "string": lambda fault: {"output": lambda urls: fault.text or urls[0]},
    "dict": lambda _: {"output": lambda urls: {"image": urls[0]}},
    "junk-url": lambda fault: {"output": lambda _urls: [fault.text or "javascript:alert(1)"]},
    "data-uri": lambda _: {"output": lambda _urls: [f"data:image/png;base64,{_PIXEL}"]},
    "data-removed": lambda _: {"retention": 0.0},
    "gone": lambda _: {"gone": True},
    "lag": lambda fault: {"unlisted": fault.seconds},
    "error-object": lambda fault: {"end": "failed", "error": {"message": fault.error("an object")}},
    "null-version": lambda _: {"version": None},
}
_FAULT = TypeAdapter(Fault)


def problem(error: ValidationError) -> str:
    """The first of pydantic's complaints, on one line."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    said = first["msg"].removeprefix("Value error, ")
    return f"{where}: {said}" if where else said


class Faults:
    """The faults in force, oldest first. A prompt's own faults strike before them, and are counted for each prompt."""

    def __init__(self, seed: int = 0, *, bounds: Bounds = BOUNDS) -> None:
        self._made: list[Fault] = []
        self._directed = lru_cache(bounds.directing)(_parsed)  # cached, because a prompt's faults count their hits
        self._dice = random.Random(seed)

    def add(self, fault: Fault) -> Fault:
        """Put a fault in force. Raises FaultError if there are too many."""
        if len(self._made) >= FAULTS:
            raise FaultError(f"there are {FAULTS} faults already; clear them first")
        self._made.append(fault)
        return fault

    def clear(self) -> None:
        self._made.clear()
        self._directed.cache_clear()

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._made)

    def strike(self, on: str, kinds: Collection[str], prompt: str = "") -> Iterator[Fault]:
        """The faults that strike this request. A fault counts as a hit when the caller takes it from the iterator."""
        for fault in [*self._of_prompt(prompt)[0], *self._made]:
            if fault.strikes(on, kinds, prompt) and (fault.probability >= 1 or self._dice.random() < fault.probability):
                fault.hits += 1
                yield fault

    def mistakes(self, prompt: str) -> list[str]:
        """A line for each mistake in the prompt's directive. If a typo were ignored, it would look like a success."""
        return self._of_prompt(prompt)[1]

    def _of_prompt(self, prompt: str) -> tuple[list[Fault], list[str]]:
        begin = prompt.find(_BEGIN)
        end = prompt.find(_END, begin) if begin >= 0 else -1
        if end < 0:
            return [], []
        if end - begin > LONGEST_DIRECTIVE:
            return [], [f"the sandbox does not understand directives of more than {LONGEST_DIRECTIVE} characters"]
        key = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest()  # a prompt may be too long to keep
        return self._directed(key, prompt[begin + len(_BEGIN) : end])


def _parsed(_prompt: bytes, directive: str) -> tuple[list[Fault], list[str]]:
    """The faults and the mistakes in the directive of the prompt with that hash."""
    faults, mistakes = [], []
    for words in filter(None, map(str.split, directive.split(";"))):
        try:
            faults.append(_fault_of(words))
        except FaultError as error:
            mistakes.append(f"the sandbox does not understand {' '.join(words)}: {message_of(error)}")
    return faults, mistakes


def _fault_of(words: list[str]) -> Fault:
    """Make a fault of the words of `429 retry_after=2 times=1`, or of `run=5`. Raises FaultError."""
    kind, _, seconds = words[0].partition("=")
    given = {"kind": kind} | {name: value or "true" for name, _, value in (word.partition("=") for word in words[1:])}
    return Fault.from_json(given | ({"seconds": seconds} if seconds else {}))
