"""How one worker fares: its roles as they are when somebody asks, the database by a look of its own.

Events alone would be stale: a gate that another worker closed, a database that went away while nothing was to do. So
the database is asked, on a connection of its own that is opened once somebody wants to know: neither a claim nor a wake
ever waits for that. Every look is bounded and kept for a moment: whoever asks is answered soon, however many ask.
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
from reactor.text.messages import message_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from reactor.database.session import Session

T = TypeVar("T")
LOOK_WITHIN = 2.0  # seconds
LOOK_EVERY = 1.0  # seconds that an answer, or that there was none, is good for
GAUGES_WITHIN = 1.0  # seconds; less than a look, which may have to wait for the gauges on the same connection
GAUGES_EVERY = 3.0  # seconds


class Health:
    """A sink for the listener's events, and the place where a worker's roles can be looked at."""

    def __init__(self, session: Session, tokens_table: str, *, slots: int) -> None:
        self._session = session
        self._tokens_table = tokens_table
        self._slots = slots
        self._in_use: Callable[[], int] = lambda: 0
        self._proven: Callable[[], bool] = lambda: False
        self._blocked: Callable[[], bool] = lambda: False
        self._unproven = "starting"
        self._database = Look(self._look, within=LOOK_WITHIN, every=LOOK_EVERY)
        self._counted = Look(self._count, within=GAUGES_WITHIN, every=GAUGES_EVERY)

    def __call__(self, event: str, fields: dict[str, Any]) -> None:
        del fields  # every sink gets them
        # Once degraded it is connected and lost again and again, and stays degraded until it is proven.
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
        """Look at a worker's slots, listener and locks from now on; its `stand_in` asks where the server is crowded."""
        self._in_use, self._proven, self._blocked = in_use, proven, blocked
        self._session.stand_in = stand_in

    def detach(self) -> None:
        """The worker has stopped, and its connections are closed."""
        self._in_use, self._proven, self._blocked = lambda: 0, lambda: False, lambda: False
        self._session.stand_in = None

    async def close_idle(self) -> None:
        """Close the connection if nobody has asked for a while."""
        await self._session.close_if_idle()

    async def ready(self) -> tuple[bool, dict[str, Any]]:
        """Whether the database can be worked with, and how everything stands."""
        told = await self._database()
        told = {"database": "away", "triggers": None, "intake": None} | (told or {})
        slots = {"in_use": self._in_use(), "of": self._slots}
        locks = "held by a stranger" if self._blocked() else "ok"
        return told["database"] == "ok", told | {"listener": self._listener, "locks": locks, "slots": slots}

    async def gauges(self) -> dict[str, float | None]:
        """The gauges by name; those that the database would have to tell are missing while it is away."""
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
            return {"database": "ok"} | await self._stand()
        except ReadOnlyError:
            return {"database": "read-only"}

    async def _stand(self) -> dict[str, Any]:
        if (await self._session.fetch(plain_query("inherited"), False))[0]["read_only"]:
            self._session.drop()  # a new connection finds out when that is lifted
            raise ReadOnlyError
        try:
            state = dict(await gate_state(self._session))
        except RolledBackError as error:  # the database answers, and nobody claims
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


class Look(Generic[T]):
    """A question to the database, asked at most once in `every` seconds and waited for `within`."""

    def __init__(self, ask: Callable[[], Awaitable[T]], *, within: float, every: float) -> None:
        self._ask = ask
        self._within = within
        self._every = every
        self._turn = anyio.Lock()
        self._answer: T | None = None
        self._good_until = 0.0  # monotonic seconds

    async def __call__(self) -> T | None:
        """Return the answer, at most `every` seconds old; None where there was none in time."""
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
