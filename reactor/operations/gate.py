"""Closes and opens the gate for an operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reactor.database.table import plain_query
from reactor.engine.gate.gate_store import gate_state

if TYPE_CHECKING:
    from reactor.database.session import Session
    from reactor.database.table import TokensTable
    from reactor.text.redaction import Redactor

NO_REASON = "paused by an operator"


@dataclass(frozen=True, slots=True)
class Paused:
    """Why the gate is closed now, and until when the spent budget keeps it closed anyway (None: our pause was made)."""

    reason: str
    stays_closed: str | None


@dataclass(frozen=True, slots=True)
class Resumed:
    """Why the gate was closed, and until when the day's budget keeps it closed (None: it is open)."""

    reason: str | None
    stays_closed: str | None


async def pause(session: Session, *, seconds: float | None, reason: str, redact: Redactor) -> Paused:
    """Close the gate, unless the day's budget keeps it closed for longer. `seconds` None: until `resume`.

    Raises DatabaseError.
    """
    stored = redact(reason.strip() or NO_REASON)
    await gate_state(session)  # inserts the gate's row again if somebody removed it
    (row,) = await session.fetch(plain_query("pause"), stored, seconds)
    return Paused(redact(row["reason"] or ""), row["stays_closed"])


async def resume(session: Session, table: TokensTable) -> Resumed | None:
    """Open the gate, unless the day's budget keeps it closed; None if it was open. Raises DatabaseError."""
    await gate_state(session)  # inserts the gate's row again if somebody removed it
    rows = await session.fetch(plain_query("resume"), table.wake_channel)
    return Resumed(rows[0]["reason"], rows[0]["stays_closed"]) if rows else None
