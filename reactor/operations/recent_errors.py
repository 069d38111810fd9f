"""The errors in which attempts ended lately, by cause and period: also of those whose token went back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from reactor.database.connections import RolledBackError
from reactor.operations.causes import cause_of
from reactor.operations.history import why_unknown
from reactor.text.foreign import fit_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reactor.database.session import Session
    from reactor.database.table import TokensTable

MOST = 20_000  # entries of one look
MOST_TEXTS = 500  # different errors that are grouped


@dataclass(frozen=True, slots=True)
class RecentCause:
    """Attempts that ended for one reason. `periods`: how many of them ended in each, the oldest first."""

    cause: str
    failed: int  # the token failed
    refused: int  # the author's prompt was refused, and the fallback was used
    back: int  # retries and releases
    periods: tuple[int, ...]

    @property
    def attempts(self) -> int:
        """All attempts of this cause."""
        return self.failed + self.refused + self.back

    @property
    def quiet_periods(self) -> int:
        """How many periods have passed since the last one in which an attempt ended."""
        return next(place for place, ended in enumerate(reversed(self.periods)) if ended)


@dataclass(frozen=True, slots=True)
class RecentErrors:
    """The most frequent cause first. Not `complete`: older attempts or rarer texts are left out."""

    seconds: float  # of one period
    causes: list[RecentCause]
    died: int  # attempts that ended because their worker died
    complete: bool


async def recent_errors(session: Session, table: TokensTable, *, seconds: float, periods: int) -> RecentErrors | str:
    """Look at the last `seconds`; return a sentence instead if nobody can know. Raises DatabaseError."""
    period = seconds / periods
    try:
        rows = await session.fetch(table.query("recent_errors"), period, periods, MOST, MOST_TEXTS)
    except RolledBackError as error:
        return why_unknown(error)
    found = [row for row in rows if row["error"] is not None]
    causes = await anyio.to_thread.run_sync(_grouped, found, periods)  # many texts would hold the event loop
    return RecentErrors(period, causes, rows[0]["died"], complete=not rows[0]["more"])


def _grouped(rows: Sequence[Any], periods: int) -> list[RecentCause]:
    found: dict[str, RecentCause] = {}
    for row in rows:
        cause = cause_of(fit_line(row["error"]))
        before = found.get(cause) or RecentCause(cause, 0, 0, 0, (0,) * periods)
        counts = {name: getattr(before, name) + row[name] for name in ("failed", "refused", "back")}
        ended = list(before.periods)
        ended[periods - 1 - row["period"]] += row["failed"] + row["refused"] + row["back"]
        found[cause] = replace(before, periods=tuple(ended), **counts)
    return sorted(found.values(), key=lambda each: (-each.attempts, each.cause))
