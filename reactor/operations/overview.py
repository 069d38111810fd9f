"""Reads the figures of `reactor status` and of the page, and what they say: see verdict.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reactor.database.connections import session_name
from reactor.database.counts import count
from reactor.database.rights import look_at_rights
from reactor.database.store import gauges
from reactor.engine.gate.gate_store import gate_state
from reactor.operations.history import today
from reactor.operations.verdict import Verdict, verdict_on
from reactor.text.foreign import fit_line
from reactor.tokens import known_as

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from reactor.database.session import Session
    from reactor.database.table import TokensTable
    from reactor.operations.history import Purchases

STATUSES = ("detected", "generating", "uploading", "ready", "revealed", "failed")
MOST_HELD = 1_000  # tokens under way that are read; a fleet rarely holds more


@dataclass(frozen=True, slots=True)
class Held:
    """A token that a worker holds. Durations are seconds."""

    token_id: int | str  # see known_as
    attempts: int
    held_for: float | None
    lease_ends_in: float | None


@dataclass(frozen=True, slots=True)
class Budget:
    """The day's budget. It counts a create when it is accepted; the history counts a purchase once it has ended."""

    counted: int  # creates of this UTC day, by workers that have a budget
    limit: int  # as it is set here, which may be another machine than a worker's; 0: it is not set

    @property
    def words(self) -> str | None:
        """The count in words; None if there is no budget, as far as is known here."""
        if self.limit:
            return f"{self.counted:,} of {self.limit:,} creates accepted today, those under way included"
        counted = f"{self.counted:,} creates accepted today, those under way included; DAILY_BUDGET is not set here"
        return counted if self.counted else None

    @property
    def as_json(self) -> dict[str, int | None]:
        """The count and the limit."""
        return {"counted": self.counted, "limit": self.limit or None}


@dataclass(frozen=True, slots=True)
class Overview:
    """The state of the table, the gate and the fleet. Durations are seconds; texts of others are made fit."""

    verdict: Verdict
    tokens: Mapping[str, int]  # by status
    estimated: list[str]  # the statuses whose number is not exact
    intake: dict[str, Any]  # see gate_state.sql
    workers: int
    listening: int  # workers that are proven to hear mints
    triggers: bool  # whether a mint rings
    row_security: str | None  # a sentence on what it hides from this role; None: nothing
    queue_depth: int
    oldest_seconds: float | None  # for which the longest-waiting token could have been claimed; None: none waits
    uploading_oldest_seconds: float | None
    notify_queue_usage: float
    next_due_seconds: float | None  # until a claim could find something, apart from the rate limit; None: nothing waits
    triggers_are: str  # enabled, disabled or missing
    budget: Budget
    today: Purchases | None = None  # None: see today_unknown
    today_unknown: str | None = None  # why nobody can know what was bought today
    held: dict[str, list[Held]] = field(default_factory=dict)  # by worker; "" is another program

    @property
    def sentence(self) -> str:
        """The verdict's sentence, and what to do."""
        return f"{self.verdict.sentence} {self.verdict.todo}" if self.verdict.todo else self.verdict.sentence

    def as_json(self) -> dict[str, Any]:
        """What `status --json` and GET /api/status show."""
        held = {
            worker: {"tokens": len(tokens), "token_ids": [each.token_id for each in tokens[:50]]}
            for worker, tokens in self.held.items()
        }
        return {
            "level": self.verdict.level,
            "sentence": self.verdict.sentence,
            "todo": self.verdict.todo,
            "tokens": dict(self.tokens),
            "estimated": self.estimated,
            "intake": self.intake,
            "workers": self.workers,
            "listening": self.listening,
            "held": held,
            "queue_depth": self.queue_depth,
            "oldest_seconds": self.oldest_seconds,
            "uploading_oldest_seconds": self.uploading_oldest_seconds,
            "notify_queue_usage": self.notify_queue_usage,
            "next_due_seconds": self.next_due_seconds,
            "today": self.today and self.today.as_json,
            "today_unknown": self.today_unknown,
            "budget": self.budget.as_json,
            "triggers": self.triggers,
            "row_security": self.row_security,
        }


async def overview(
    session: Session,
    table: TokensTable,
    *,
    history: bool = True,
    budget: int = 0,
    bought: Callable[[], Awaitable[Purchases | str]] | None = None,
) -> Overview:
    """Read the state, at a cost that does not grow with the table. Raises DatabaseError.

    `history`: whether one is kept. `budget`: DAILY_BUDGET. `bought`: used instead of `history.today`, by a caller that
    keeps its answer for a while.
    """
    counts = await count(session, table)
    figures = await gauges(session, table)
    gate = await gate_state(session)
    (fleet,) = await session.fetch(table.query("count_workers"), session_name("listener"), session_name("claims"))
    rights = await look_at_rights(session.fetch, table)
    due = await session.fetch(table.query("next_due"), 0.0)
    spent = await (bought() if bought else today(session, kept=history))
    held: dict[str, list[Held]] = {}
    for row in await session.fetch(table.query("held_tokens"), MOST_HELD):
        token = Held(shown_id(row["token_id"]), row["attempts"] or 0, row["held_for"], row["lease_ends_in"])
        held.setdefault(row["worker"] or "", []).append(token)
    state = {
        "tokens": dict.fromkeys(STATUSES, 0) | counts.tokens,
        "estimated": counts.estimated,
        "intake": gate,
        "workers": fleet["workers"],
        "listening": fleet["listening"],
        "triggers": table.triggers_enabled,
        "row_security": rights.row_security,
        "queue_depth": figures["queue_depth"],
        "oldest_seconds": figures["oldest_seconds"],
        "uploading_oldest_seconds": figures["uploading_oldest_seconds"],
        "notify_queue_usage": figures["notify_queue_usage"],
        "next_due_seconds": due[0]["due_in"] if due else None,
        "triggers_are": table.triggers,
        "budget": Budget(figures["bought_today"], budget),
        "held": held,
        "today": None if isinstance(spent, str) else spent,
        "today_unknown": spent if isinstance(spent, str) else None,
    }
    return Overview(verdict=verdict_on(state), **state)


def shown_id(text: str | None) -> int | str:
    """A token's number that was read as a text, as JSON shows it: see known_as."""
    number = text is not None and text.isascii() and text.removeprefix("-").isdecimal()
    return known_as(int(text), text) if number and text else fit_line(text or "", longest=100)
