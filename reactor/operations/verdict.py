"""Says in one sentence whether anything is wrong, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

from reactor.engine.gate.gate_store import SPENT
from reactor.text.foreign import fit_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Level = Literal["ok", "note", "warning", "alarm"]
PROVIDER_KEEPS = 3600.0  # seconds for which Replicate keeps an image
LATE_UPLOAD = 2700.0  # seconds after which an image that nobody took is worth a warning
LATE = 60.0  # seconds that a token may wait while a worker runs and the gate is open
LONGEST_REASON = 120  # characters of a foreign reason in the sentence
ALSO_SPENT = (
    "The daily budget is spent too: `reactor resume` leaves its pause, and a second one lifts the limit for today."
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The sentence. `todo` is what to do about it, a command if one helps; None: nothing."""

    level: Level
    sentence: str
    todo: str | None = None


def verdict_on(state: Mapping[str, Any]) -> Verdict:
    """The first thing that is wrong, the worst first; else what is going on."""
    return next(_wrong(state), None) or _well(state)


def _wrong(state: Mapping[str, Any]) -> Iterator[Verdict]:
    waiting, gate = state["queue_depth"], state["intake"]
    if state["row_security"]:
        yield Verdict("alarm", f"{_begun(state['row_security'])}.", "See `reactor doctor`.")
    if not state["workers"] and waiting:
        yield Verdict("alarm", f"No worker runs, and {_waiting(waiting)}.", "Start one: `reactor run`.")
    if gate["paused"]:
        yield _closed(gate, waiting)
    if state["notify_queue_usage"] >= 0.5:
        yield Verdict(
            "alarm", "PostgreSQL's notification queue is more than half full, so mints no longer ring.",
            "Find the session that listens and does not read: `reactor doctor`.",
        )  # fmt: skip
    if not state["workers"]:
        yield Verdict("warning", "No worker runs.", "Start one: `reactor run`.")
    if not state["triggers"]:
        yield Verdict(
            "warning", "The wake triggers are missing or disabled: mints wait for the sweep.", "Run `reactor migrate`."
        )
    if (deaf := state["workers"] - state["listening"]) > 0 and state["workers"]:
        who = "The worker does" if state["workers"] == 1 else f"{deaf:,} of {state['workers']:,} workers do"
        yield Verdict("warning", f"{who} not hear mints, which wait for the sweep.", "See `reactor doctor`.")
    if (oldest := state["oldest_seconds"]) is not None and oldest > LATE and waiting:
        yield Verdict(
            "warning", f"{_waiting(waiting)}, the oldest for {duration(oldest)}.",
            "More come than are made: raise WORKER_BATCH_SIZE, or run another worker.",
        )  # fmt: skip
    yield from _late_uploads(state)


def _late_uploads(state: Mapping[str, Any]) -> Iterator[Verdict]:
    age = state["uploading_oldest_seconds"]
    if age is not None and age > LATE_UPLOAD:
        gone = age >= PROVIDER_KEEPS
        left = "may be gone by now" if gone else f"leaves the provider in {duration(PROVIDER_KEEPS - age)}"
        yield Verdict(
            "alarm" if gone else "warning",
            f"The next stage has not taken an image for {duration(age)}: it {left}.",
            f"Look at the stage that uploads{'; then run `reactor retry --expired`' if gone else ''}.",
        )


def _closed(gate: Mapping[str, Any], waiting: int) -> Verdict:
    seconds = gate["resumes_in"]
    # The first sentence is enough here, because the whole reason is shown with the gate.
    reason = fit_line((gate["reason"] or "no reason given").partition(". ")[0], longest=LONGEST_REASON).rstrip(" .")
    meanwhile = f"; {_waiting(waiting)}" if waiting else ""
    also = f" {ALSO_SPENT}" if gate["budget_spent"] else ""
    if gate["opens_on"] == "time":
        ends = "until `reactor resume`" if seconds is None else f"for {duration(seconds)}"
        todo = f"Resume it when you are ready.{also}"
        if reason.startswith(SPENT):
            todo = "It opens by itself then, or with a larger DAILY_BUDGET; `reactor resume` lifts the limit for today."
        return Verdict("warning", f"The gate is closed {ends}: {reason}{meanwhile}.", todo)
    if gate["opens_on"] == "check":
        what = "Correct REPLICATE_API_TOKEN; the fleet checks it and goes on by itself."
        return Verdict("alarm", f"The gate is closed: {reason}{meanwhile}.", what)
    if seconds is None:
        return Verdict("alarm", f"The gate is closed: {reason}{meanwhile}.", f"Correct that, then resume.{also}")
    trial = f"tries one token in {duration(seconds)}" if seconds > 0 else "tries one token at a time"
    by_hand = f".{also}" if also else "; `reactor resume` opens it now."
    todo = f"Correct that if you can. The fleet {trial}, and opens the gate by itself{by_hand}"
    return Verdict("alarm", f"The gate is closed: {reason}{meanwhile}.", todo)


def _well(state: Mapping[str, Any]) -> Verdict:
    tokens, working = state["tokens"], state["tokens"].get("generating", 0)
    if failed := tokens.get("failed", 0):
        about = "About " if "failed" in state["estimated"] else ""
        said = f"{about}{failed:,} {'token has' if failed == 1 else 'tokens have'} failed; all else is well."
        return Verdict("note", said, "See why, and retry them: `reactor retry --failed`.")
    if not any(tokens.values()):
        return Verdict("ok", "All is well, and no token has been minted yet.", "Try one: `reactor mint`.")
    if working or state["queue_depth"]:
        waiting = f", {state['queue_depth']:,} waiting" if state["queue_depth"] else ""
        return Verdict("ok", f"All is well: {working:,} being made{waiting}.")
    return Verdict("ok", "All is well: a mint starts at once.")


def duration(seconds: float) -> str:
    """A duration in words, of one unit, rounded up: 41 s, 12 min, 3 h, 2 d."""
    for size, unit in ((1, "s"), (60, "min"), (3600, "h")):
        if (rounded := ceil(seconds / size)) < {"s": 90, "min": 90, "h": 48}[unit]:
            return f"{rounded:,} {unit}"
    return f"{ceil(seconds / 86400):,} d"


def _waiting(number: int) -> str:
    return "1 token waits" if number == 1 else f"{number:,} tokens wait"


def _begun(text: str) -> str:
    return text[:1].upper() + text[1:]
