"""What goes wrong, and when: one vocabulary, and four ways to say it.

sandbox.fail(Fault("429", retry_after=2, times=1))                          in process
POST /sandbox/faults {"kind": "reset", "after": true, "match": "fox"}       over HTTP
a fox [sandbox: nsfw]   a fox [sandbox: 429 retry_after=2 times=1; run=5]   in a prompt
Sandbox.from_config('{"faults": [{"kind": "500", "probability": 0.1}]}')    by configuration
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from reactor.messages import message_of
from reactor.sandbox.bounds import DIRECTING, FAULTS, LONGEST, LONGEST_DIRECTIVE, LONGEST_TEXT, is_within, keep_newest

if TYPE_CHECKING:
    from collections.abc import Iterator

# What the client gets instead of the answer to its request, or with `after` once the request has had its effect.
ANSWERS = {
    "202": "accepted: the good answer, but for its status",
    "401": "the token is refused",
    "402": "the account cannot pay; `title` says why",
    "403": "not permitted",
    "404": "there is no such thing",
    "422": "the input is refused",
    "429": "throttled; `retry_after` seconds are told in the `placement`: body, header or text",
    "500": "as JSON",
    "502": "as HTML; all three",
    "503": "with a Retry-After header where there is `retry_after`",
    "504": "after a while, if `seconds` are given by a latency too",
    "reset": "TCP RST",
    "close": "the connection ends without an answer",
    "truncated": "the connection ends in the middle of the answer",
    "hang": "no answer, ever",
    "latency": "the good answer, `seconds` late",
    "slow": "the good answer, dripping for `seconds`",
    "malformed": "a success that is half a JSON object",
    "html": "a success that is HTML",
    "non-object": "a success, or another `status`, that is a JSON list",
    "huge": "a success of 20 MB",
    "redirect": "to elsewhere",
}
# What becomes of a prediction that is bought.
FATES = {
    "nsfw": "fails for its content; or with `text`, which may be one of TEXTS",
    "failed": "fails with `text`",
    "canceled": "is canceled while it runs",
    "aborted": "is aborted before it starts",
    "stuck": "never starts",
    "queue": "starts `seconds` after its creation",
    "run": "runs for `seconds`",
    "empty": "succeeds with an empty list",
    "null": "succeeds with null",
    "short": "succeeds without its first picture",
    "string": "succeeds with one string: `text`, or its picture's URL",
    "dict": "succeeds with an object",
    "junk-url": "succeeds with `text`, or a URL that is none",
    "data-uri": "succeeds with the picture itself",
    "data-removed": "succeeds, but its data is away at once",
    "gone": "cannot be found any more",
    "lag": "shows in the listing only after `seconds`",
    "error-object": "fails with an error that is an object",
    "null-version": "has no version",
}
# Failures as they were seen, to be named where spaces cannot be.
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
_BEGIN, _END = "[sandbox:", "]"


class FaultError(ValueError):
    """A fault that cannot be; says what is wrong with it."""


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong."""

    kind: str
    match: str | None = None  # only for prompts that contain it
    on: str = "create"  # one of PLACES
    times: int | None = None  # so often; None: for ever
    probability: float = 1.0
    after: bool = False  # only once the request has had its effect: a create is bought
    seconds: float = 1.0
    retry_after: float | None = None  # seconds
    placement: str = "body"  # of retry_after: body, header or text
    title: str = "credit"  # of 402: credit, billing, spend or free
    low_credit: bool = False  # the 429 of an account below $5
    status: int | None = None
    text: str | None = None
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

    @classmethod
    def from_json(cls, given: Any) -> Fault:
        """Make one of a JSON object. Raises FaultError."""
        try:
            fault = _FAULT.validate_python(given)
        except ValidationError as error:
            raise FaultError(problem(error)) from error
        if max(len(fault.match or ""), len(fault.text or "")) > LONGEST_TEXT:
            raise FaultError(f"match and text have at most {LONGEST_TEXT} characters")
        return fault

    def strikes(self, on: str, kinds: dict[str, str], prompt: str) -> bool:
        """Whether it is for this, and not used up."""
        spent = self.times is not None and self.hits >= self.times
        return not spent and self.on in {on, "any"} and self.kind in kinds and (self.match or "") in prompt

    def said(self, default: str | None = None) -> str | None:
        """Its text, where that is a name the text behind it."""
        return default if self.text is None else TEXTS.get(self.text, self.text)


_FAULT = TypeAdapter(Fault)


def problem(error: ValidationError, *names: str) -> str:
    """The first of pydantic's complaints as one line; `names` lead to what was validated."""
    first = error.errors()[0]
    where = ".".join([*names, *map(str, first["loc"])])
    said = first["msg"].removeprefix("Value error, ")
    return f"{where}: {said}" if where else said


class Faults:
    """Those in force, in the order in which they were made. A prompt's own come first, and count per prompt."""

    def __init__(self, seed: int = 0) -> None:
        self._made: list[Fault] = []
        self._directed: dict[bytes, tuple[list[Fault], list[str]]] = {}  # and what makes no sense
        self._dice = random.Random(seed)  # noqa: S311  (a plan that can be repeated)

    def add(self, fault: Fault) -> Fault:
        """Put one in force. Raises FaultError where there are too many."""
        if len(self._made) >= FAULTS:
            raise FaultError(f"there are {FAULTS} faults already; clear them first")
        self._made.append(fault)
        return fault

    def clear(self) -> None:
        """End all."""
        self._made.clear()
        self._directed.clear()

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._made)

    def strike(self, on: str, kinds: dict[str, str], prompt: str = "") -> Iterator[Fault]:
        """Those that strike now, each counted as it is taken."""
        for fault in [*self._of_prompt(prompt)[0], *self._made]:
            if fault.strikes(on, kinds, prompt) and (fault.probability >= 1 or self._dice.random() < fault.probability):
                fault.hits += 1
                yield fault

    def nonsense(self, prompt: str) -> list[str]:
        """What the prompt directs and cannot be, a line each: a typo that went unseen would look like a success."""
        return self._of_prompt(prompt)[1]

    def _of_prompt(self, prompt: str) -> tuple[list[Fault], list[str]]:
        begin = prompt.find(_BEGIN)
        end = prompt.find(_END, begin) if begin >= 0 else -1
        if end < 0:
            return [], []
        if end - begin > LONGEST_DIRECTIVE:
            return [], [f"the sandbox does not understand directives of more than {LONGEST_DIRECTIVE} characters"]
        key = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest()  # a prompt may be long
        if key not in self._directed:
            self._directed[key] = _understood(prompt[begin + len(_BEGIN) : end])
            keep_newest(self._directed, DIRECTING)
        return self._directed[key]


def _understood(directive: str) -> tuple[list[Fault], list[str]]:
    """The faults of a directive, and what makes no sense in it."""
    faults, nonsense = [], []
    for words in filter(None, map(str.split, directive.split(";"))):
        try:
            faults.append(_directed(words))
        except FaultError as error:
            nonsense.append(f"the sandbox does not understand {' '.join(words)}: {message_of(error)}")
    return faults, nonsense


def _directed(words: list[str]) -> Fault:
    """`429 retry_after=2 times=1`, or `run=5`. Raises FaultError."""
    kind, _, seconds = words[0].partition("=")
    pairs = (word.partition("=") for word in words[1:])
    given = {
        "kind": kind,
        **{name: value or "true" for name, _, value in pairs},
        **({"seconds": seconds} if seconds else {}),
    }
    return Fault.from_json(given)
