"""What /readyz and /metrics report about one worker: the state of its roles, and of the database.

Events alone would be out of date: another worker may close the gate, or the database may go away while nothing is to
do. So each report queries the database. It has a connection of its own, opened at the first report, so that no claim
and no wake waits for a report. Each query has a time limit, and its answer is kept for a moment. So a report takes
little time, however often clients ask.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from reactor import events
from reactor.database.connections import DatabaseError, ReadOnlyError, RolledBackError
from reactor.database.discovery import discover
from reactor.database.shared import Shared
from reactor.database.store import gauges
from reactor.database.table import TableError, plain_query
from reactor.engine.gate.gate_store import gate_state
from reactor.engine.timings import TIMINGS
from reactor.text.messages import message_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from reactor.database.session import Session
    from reactor.engine.timings import Timings

T = TypeVar("T")
READY_WITHIN = 2.0  # seconds
# Together less than READY_WITHIN, because all use one connection, and one waits for the other.
GAUGES_WITHIN = 1.0  # seconds
EXPIRED_WITHIN = 0.5  # seconds
GAUGES_EVERY = 3.0  # seconds
EXPIRED_ROWS = 2_000  # entries of the history that one look reads
SETTLED = 30.0  # seconds after which no entry is committed late, because statements have shorter time limits


class Health:
    """Keeps the listener's last state, from its events, and asks the worker's parts and the database for the rest."""

    def __init__(
        self,
        session: Session,
        tokens_table: str,
        *,
        slots: int,
        prompt_sql: str | None = None,
        daily_budget: int = 0,
        history: bool = True,
        timings: Timings = TIMINGS,
    ) -> None:
        self._session = session
        self._discover = partial(discover, session, tokens_table, prompt_sql=prompt_sql)
        self.slots = slots
        self._budget = daily_budget
        self._in_use: Callable[[], int] = lambda: 0
        self._proven: Callable[[], bool] = lambda: False
        self._proven_at: Callable[[], float | None] = lambda: None
        self._blocked: Callable[[], bool] = lambda: False
        self._unproven = "starting"
        self._idle: list[Callable[[], Awaitable[None]]] = [session.close_if_idle]
        self._database = Shared(partial(_in_time, self._look, READY_WITHIN), every=timings.health_every)
        self._counted = Shared(partial(_in_time, self._count, GAUGES_WITHIN), every=GAUGES_EVERY)
        expired = partial(_in_time, ExpiredToday(session), EXPIRED_WITHIN)
        self._expired = Shared(expired, every=GAUGES_EVERY) if history else None

    def __call__(self, event: str, fields: dict[str, Any]) -> None:
        del fields  # every sink gets them
        # A degraded listener is connected and lost again and again. It stays degraded until it is proven.
        match event:
            case events.LISTENER_DEGRADED:
                self._unproven = "degraded"
            case events.LISTENER_LOST if self._unproven != "degraded":
                self._unproven = "lost"

    def attach(
        self,
        *,
        in_use: Callable[[], int],
        proven: Callable[[], bool],
        proven_at: Callable[[], float | None] = lambda: None,
        blocked: Callable[[], bool],
        stand_in: Session,
    ) -> None:
        """Report on a worker from now on. Its `stand_in` is used if the server has no connection left."""
        self._in_use, self._proven, self._blocked = in_use, proven, blocked
        self._proven_at = proven_at
        self._session.stand_in = stand_in

    def detach(self) -> None:
        """Stop reporting on the worker: it has stopped, and its connections are closed."""
        self._in_use, self._proven, self._blocked = lambda: 0, lambda: False, lambda: False
        self._proven_at = lambda: None
        self._session.stand_in = None

    def close_idle_too(self, close: Callable[[], Awaitable[None]]) -> None:
        """Have `close_idle` call this too: it closes the idle connections of other readers in this process."""
        self._idle.append(close)

    async def close_idle(self) -> None:
        """Close connections that readers have not used for a while. The worker calls it now and then."""
        for close in self._idle:
            await close()

    async def ready(self) -> tuple[bool, dict[str, Any]]:
        """Return whether the worker can use the database, and the state of everything."""
        state = {"database": "away", "triggers": None, "intake": None} | (await self._database() or {})
        slots = {"in_use": self.in_use, "of": self.slots}
        locks = "held by a stranger" if self._blocked() else "ok"
        return state["database"] == "ok", state | {"listener": self.listener, "locks": locks, "slots": slots}

    async def gauges(self) -> dict[str, float | None]:
        """The gauges by name. While the database is away, those that need it are missing.

        Expired purchases are read last, with a time limit of their own: a slow history delays no other gauge.
        """
        counted = await self._counted() or {}
        expired = await self._expired() if self._expired else None
        return {
            "reactor_listener_up": float(self._proven()),
            "reactor_slots_in_use": float(self.in_use),
            **counted,
            "reactor_purchases_expired_today": None if expired is None else expired.purchases,
            "reactor_purchases_expired_cost_today": None if expired is None else float(expired.cost),
        }

    @property
    def in_use(self) -> int:
        """Slots in use, of `slots`."""
        return self._in_use()

    @property
    def listener(self) -> str:
        """Whether the listener hears mints: proven, starting, lost or degraded."""
        return "proven" if self._proven() else self._unproven

    @property
    def proven_seconds(self) -> float | None:
        """Seconds since the listener last heard its probe; None if it is not proven to hear."""
        at = self._proven_at() if self._proven() else None
        return None if at is None else time.monotonic() - at

    async def _look(self) -> dict[str, Any]:
        try:
            return {"database": "ok"} | await self._database_state()
        except ReadOnlyError:
            return {"database": "read-only"}

    async def _database_state(self) -> dict[str, Any]:
        if (await self._session.fetch(plain_query("inherited"), False))[0]["read_only"]:
            self._session.drop()  # only a new connection notices when it may write again
            raise ReadOnlyError
        try:
            state = dict(await gate_state(self._session))
        except RolledBackError as error:  # the database answers, but no worker can claim
            state = {"paused": True, "reason": message_of(error), "resumes_in": None}
        try:
            enabled = (await self._discover()).triggers_enabled
        except TableError:
            enabled = False
        return {"triggers": "enabled" if enabled else "disabled", "intake": state}

    async def _count(self) -> dict[str, float | None]:
        row = await gauges(self._session, await self._discover())
        return {
            "image_generation_queue_depth": row["queue_depth"],
            "image_generation_oldest_seconds": row["oldest_seconds"],
            "image_generation_uploading_oldest_seconds": row["uploading_oldest_seconds"],
            "reactor_notify_queue_usage": row["notify_queue_usage"],
            "reactor_intake_paused": float(row["paused"]),
            "reactor_budget_remaining": max(0.0, self._budget - row["bought_today"]) if self._budget else None,
        }


@dataclass(frozen=True, slots=True)
class Expired:
    """Purchases whose image expired before it was used, and their cost as far as a price was known."""

    purchases: int = 0
    cost: Decimal = Decimal(0)


class ExpiredToday:
    """Counts the fleet's purchases that expired on this UTC day. Each look reads a part of the history."""

    def __init__(self, session: Session, *, rows: int = EXPIRED_ROWS, settled: float = SETTLED) -> None:
        self._session = session
        self._rows = rows
        self._settled = settled
        self._read_to: datetime | None = None
        self._count = Expired()

    async def __call__(self) -> Expired | None:
        """Return the count; None until all entries are read. Raises DatabaseError."""
        query = plain_query("expired_today")
        (row,) = await self._session.fetch(query, self._read_to, self._rows, self._settled)
        before = Expired() if row["anew"] else self._count
        self._count = Expired(before.purchases + row["expired"], before.cost + row["cost"])
        self._read_to = row["read_to"]
        return None if row["more"] else self._count


async def _in_time(ask: Callable[[], Awaitable[T]], seconds: float) -> T | None:
    """Return the answer; None if the database did not give it in time, or the table is not migrated."""
    with anyio.move_on_after(seconds):
        try:
            return await ask()
        except (DatabaseError, TableError):
            return None
    return None
