"""What the last minutes and hours came to: throughput, failures and times, from the newest entries of the history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reactor.database.connections import RolledBackError, RowRefusedError
from reactor.operations.history import why_unknown

if TYPE_CHECKING:
    from reactor.database.session import Session
    from reactor.database.table import TokensTable

PERIODS = 60
MOST = 20_000  # entries of one look
MOST_REACTIONS = 500  # tokens whose reaction is looked up
WRONG_KEY = "an entry of reactor.attempts has a key that is none of the table's"


@dataclass(frozen=True, slots=True)
class Period:
    """What ended in one period. Seconds from claim to image; None: no image."""

    succeeded: int = 0
    failed: int = 0
    again: int = 0  # retries, releases, rescues and refused prompts
    half: float | None = None  # the median
    most: float | None = None  # 95 % took at most so long


@dataclass(frozen=True, slots=True)
class Pulse:
    """`periods`, the oldest first. Reactions are seconds from a mint to the purchase; None: none was seen."""

    seconds: float  # of one period
    periods: list[Period]
    complete: bool  # False: the oldest periods lack entries
    reaction_half: float | None  # the median
    reaction_most: float | None  # 95 % took at most so long


async def pulse(session: Session, table: TokensTable, *, seconds: float) -> Pulse | str:
    """Look at the last `seconds`; return a sentence instead if nobody can know. Raises DatabaseError."""
    period = seconds / PERIODS
    try:
        rows = await session.fetch(table.query("pulse"), period, PERIODS, MOST)
        (reaction,) = await session.fetch(table.query("reactions"), seconds, MOST_REACTIONS)
    except RowRefusedError:
        return WRONG_KEY
    except RolledBackError as error:
        return why_unknown(error)
    periods = [Period()] * PERIODS
    for row in (each for each in rows if each["period"] is not None):
        found = Period(row["succeeded"], row["failed"], row["again"], row["half"], row["most"])
        periods[PERIODS - 1 - row["period"]] = found
    complete = not any(row["more"] for row in rows)
    return Pulse(period, periods, complete, reaction["half"], reaction["most"])
