"""What happened to each token, from the reactor's events and the sandbox's ledger, on one monotonic clock.

COMMIT sent ── reaction ──▶ the provider has the create request ── … ──▶ the row says uploading
     └───────────────────────────────── total ────────────────────────────────────┘
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from reactor import events
from reactor.text.foreign import fit_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from reactor.text.redaction import Redactor

ENDS = ("uploading", "failed")
_STATUS_AFTER = {
    events.GENERATION_STARTED: "generating",
    events.GENERATION_RESUMED: "generating",
    events.GENERATION_RETRIED: "detected",
    events.GENERATION_RELEASED: "detected",
    events.GENERATION_SUCCEEDED: "uploading",
    events.GENERATION_FAILED: "failed",
    events.GENERATION_EXHAUSTED: "failed",
}
_HOLDS = (events.GENERATION_RELEASED, events.GENERATION_FAILED)


@dataclass(slots=True)
class Story:
    """One token. Moments are monotonic seconds, durations are seconds."""

    token_id: int
    prompt: str
    committed_at: float  # when its COMMIT was sent
    status: str = "detected"
    requested_at: float | None = None  # when the provider got the request that bought its first prediction
    held: bool = False  # by a closed gate or a refused request, so that it says nothing about the reaction
    ended_at: float | None = None  # if it was retried, of the last time
    image_url: str | None = None
    retried: bool = False
    censored: bool = False
    error: str | None = None

    @property
    def reaction(self) -> float | None:
        """From COMMIT to the request at the provider that bought the first prediction. None too if it was held."""
        return None if self.held or self.requested_at is None else self.requested_at - self.committed_at

    @property
    def total(self) -> float | None:
        """From COMMIT to the end."""
        return None if self.ended_at is None else self.ended_at - self.committed_at


@dataclass(frozen=True, slots=True)
class Pause:
    """Why nothing is claimed. `seconds`: until it is tried again; None: until somebody acts."""

    reason: str
    seconds: float | None
    worker_only: bool  # the worker rests by itself; else the gate is closed


@dataclass(slots=True)
class Stories:
    """The stories of all tokens. It is a sink for the reactor's events."""

    expected: int
    stray: Callable[[], None]  # called when the reactor claims a token that the demo did not mint
    redact: Redactor
    endless: bool = False  # `expected` grows with the mints
    minted: list[Story] = field(default_factory=list)  # in the order of the mints
    ended: list[Story] = field(default_factory=list)  # in the order of the ends
    listening: anyio.Event = field(default_factory=anyio.Event)
    over: anyio.Event = field(default_factory=anyio.Event)
    trouble: str | None = None  # the last error of the reactor itself
    closed: Pause | None = None  # None: the gate is open
    began_at: float = field(default_factory=time.monotonic)
    _by_id: dict[int, Story] = field(default_factory=dict)
    _by_prompt: dict[str, Story] = field(default_factory=dict)

    def begin(self, token_ids: Sequence[int], prompts: Sequence[str]) -> None:
        """Add tokens. Call this right before their COMMIT is sent."""
        now = time.monotonic()
        for token_id, prompt in zip(token_ids, prompts, strict=True):
            story = Story(token_id, prompt, now, held=self.closed is not None)
            self.minted.append(story)
            self._by_id[token_id] = self._by_prompt[prompt] = story
        if self.endless:
            self.expected = max(self.expected, len(self.minted))

    def requested(self, prompt: str, at: float) -> None:
        """Note the time of a create request at the provider. Only the first one for a prompt counts."""
        story = self._by_prompt.get(prompt)
        if story is not None and story.requested_at is None:
            story.requested_at = at

    def __call__(self, event: str, fields: dict[str, Any]) -> None:
        if event == events.LISTENER_CONNECTED:
            self.listening.set()
        elif event == events.WORKER_ERROR:
            self.trouble = self._shown(fields.get("error_message"))
        elif event == events.INTAKE_PAUSED:
            self._pause(fields)
        elif event == events.INTAKE_RESUMED:
            if self.closed is not None and self.closed.worker_only is fields.get("worker_only", False):
                self.closed = None
        elif "token_id" in fields:
            self._learn(event, fields)

    def _pause(self, fields: dict[str, Any]) -> None:
        reason = self._shown(fields["reason"] or "no reason given") or ""
        pause = Pause(reason, fields["seconds"], fields.get("worker_only", False))
        if not pause.worker_only or self.closed is None or self.closed.worker_only:  # a closed gate is worth more
            self.closed = pause

    def _learn(self, event: str, fields: dict[str, Any]) -> None:
        story = self._by_id.get(fields["token_id"])
        if story is None:
            self.stray()
            return
        story.status = _STATUS_AFTER.get(event, story.status)
        story.held |= event in _HOLDS and story.requested_at is None
        story.retried |= event == events.GENERATION_RETRIED
        story.censored |= event == events.CENSORED
        story.image_url = fields.get("image_url") or story.image_url
        story.error = self._shown(fields.get("error_message"))
        if _STATUS_AFTER.get(event) in ENDS:
            first, story.ended_at = story.ended_at is None, time.monotonic()
            if first:
                self.ended.append(story)
            if len(self.ended) == self.expected and not self.endless:
                self.over.set()

    def _shown(self, words: str | None) -> str | None:
        return None if words is None else fit_line(self.redact(words))

    @property
    def counts(self) -> Counter[str]:
        return Counter(story.status for story in self.minted)

    @property
    def elapsed(self) -> float:
        """Seconds from the first mint until the last token ended, or until now if tokens are left."""
        until = (self.ended[-1].ended_at if self.over.is_set() else None) or time.monotonic()
        return until - self.began_at

    @property
    def mishaps(self) -> tuple[int, int]:
        """How many tokens were retried, and how many were censored."""
        return sum(story.retried for story in self.minted), sum(story.censored for story in self.minted)

    @property
    def reactions(self) -> list[float]:
        return [story.reaction for story in self.minted if story.reaction is not None]

    @property
    def totals(self) -> list[float]:
        return [story.total for story in self.ended if story.total is not None]


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The nearest-rank percentile, which is one of the values. None: there are no values."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)] if values else None
