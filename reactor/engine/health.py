"""What /readyz and /metrics report about one worker: the state of its roles, and of the database.

Events alone would be out of date: another worker may close the gate, or the database may go away while nothing is to
do. So each report queries the database. It has a connection of its own, opened at the first report, so that no claim
and no wake waits for a report. Each query has a time limit, and its answer is kept for a moment. So a report takes
little time, however many are asked for.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from reactor import events
from reactor.database.connections import DatabaseError, ReadOnlyError, RolledBackError
from reactor.database.store import discover, gauges
from reactor.database.table import TableError, plain_query
from reactor.engine.gate.gate_store import gate_state
from reactor.engine.timings import TIMINGS
from reactor.text.messages import message_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from reactor.database.session import Session
    from reactor.engine.timings import Timings

T = TypeVar("T")
READY_WITHIN = 2.0  # seconds
GAUGES_WITHIN = 1.0  # seconds; less than READY_WITHIN, because both use one connection, and one waits for the other
GAUGES_EVERY = 3.0  # seconds


class Health:
    """A sink for the listener's events that also reads the state of a worker's roles."""

    def __init__(self, session: Session, tokens_table: str, *, slots: int, timings: Timings = TIMINGS) -> None:
        self._session = session
        self._tokens_table = tokens_table
        self._slots = slots
        self._in_use: Callable[[], int] = lambda: 0
        self._proven: Callable[[], bool] = lambda: False
        self._blocked: Callable[[], bool] = lambda: False
        self._unproven = "starting"
        self._database = CachedAnswer(self._look, within=READY_WITHIN, every=timings.health_every)
        self._counted = CachedAnswer(self._count, within=GAUGES_WITHIN, every=GAUGES_EVERY)

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
        blocked: Callable[[], bool],
        stand_in: Session,
    ) -> None:
        """Report on a worker from now on. Its `stand_in` is used if the server has no connection left."""
        self._in_use, self._proven, self._blocked = in_use, proven, blocked
        self._session.stand_in = stand_in

    def detach(self) -> None:
        """Stop reporting on the worker: it has stopped, and its connections are closed."""
        self._in_use, self._proven, self._blocked = lambda: 0, lambda: False, lambda: False
        self._session.stand_in = None

    async def close_idle(self) -> None:
        """Close the connection if nobody has asked for a while."""
        await self._session.close_if_idle()

    async def ready(self) -> tuple[bool, dict[str, Any]]:
        """Return whether the worker can use the database, and the state of everything."""
        state = {"database": "away", "triggers": None, "intake": None} | (await self._database() or {})
        slots = {"in_use": self._in_use(), "of": self._slots}
        locks = "held by a stranger" if self._blocked() else "ok"
        return state["database"] == "ok", state | {"listener": self._listener, "locks": locks, "slots": slots}

    async def gauges(self) -> dict[str, float | None]:
        """The gauges by name. While the database is away, those that need it are missing."""
        return {
            "reactor_listener_up": float(self._proven()),
            "reactor_slots_in_use": float(self._in_use()),
            **(await self._counted() or {}),
        }

    @property
    def _listener(self) -> str:
        return "proven" if self._proven() else self._unproven

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
            enabled = (await discover(self._session, self._tokens_table)).triggers_enabled
        except TableError:
            enabled = False
        return {"triggers": "enabled" if enabled else "disabled", "intake": state}

    async def _count(self) -> dict[str, float | None]:
        row = await gauges(self._session, await discover(self._session, self._tokens_table))
        return {
            "image_generation_queue_depth": row["queue_depth"],
            "image_generation_oldest_seconds": row["oldest_seconds"],
            "image_generation_uploading_oldest_seconds": row["uploading_oldest_seconds"],
            "reactor_notify_queue_usage": row["notify_queue_usage"],
            "reactor_intake_paused": float(row["paused"]),
        }


class CachedAnswer(Generic[T]):
    """The answer to a query that is sent at most once in `every` seconds and may take `within` seconds."""

    def __init__(self, ask: Callable[[], Awaitable[T]], *, within: float, every: float) -> None:
        self._ask = ask
        self._within = within
        self._every = every
        self._turn = anyio.Lock()
        self._answer: T | None = None
        self._good_until = 0.0  # monotonic seconds

    async def __call__(self) -> T | None:
        """Return the answer, at most `every` seconds old; None if there was none in time."""
        async with self._turn:
            if time.monotonic() >= self._good_until:
                self._answer = await self._asked()
                self._good_until = time.monotonic() + self._every
            return self._answer

    async def _asked(self) -> T | None:
        with anyio.move_on_after(self._within):
            try:
                return await self._ask()
            except (DatabaseError, TableError):
                return None
        return None
