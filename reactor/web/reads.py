"""Reads the database for the page and the API: bounded in time, and once for all who ask at the same moment.

Two connections, opened at the first request and closed when idle: one for what every reader sees again and again, one
for searches and actions, so that a slow search keeps no page waiting. Neither is a worker's, so that no claim waits for
a page.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

import anyio

from reactor.database.connections import ConnectionLostError
from reactor.database.discovery import discover
from reactor.database.session import Session
from reactor.database.shared import Shared
from reactor.database.timings import ConnectionTimings
from reactor.operations.history import today
from reactor.operations.overview import overview
from reactor.operations.pulse import pulse
from reactor.operations.recent_errors import recent_errors
from reactor.operations.tokens import failures_by_cause

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from reactor.database.table import TokensTable
    from reactor.operations.history import Purchases
    from reactor.operations.overview import Overview
    from reactor.operations.pulse import Pulse
    from reactor.operations.recent_errors import RecentErrors
    from reactor.operations.tokens import Causes, TokenFilter
    from reactor.settings import DatabaseSettings

T = TypeVar("T")
READS = ConnectionTimings(connect_within=2.0, answer_within=4.0, statement_timeout=3.0, lock_timeout=1.0)
WITHIN = 6.0  # seconds for all that one request reads
TABLE_FOR = 5.0  # seconds until the table is looked up again
RANGES = (1, 24)  # hours of the charts
ERROR_PERIODS = {1: 12, 24: 24}  # of five minutes, and of an hour
HISTORY_FOR = 5.0  # seconds for which sums over the history are kept, because they read many entries
CAUSES_OF = 1_000  # failed tokens that are looked at for their causes, and half as many texts
MOST_FILTERS = 16  # whose causes are kept
STATE_FOR = 0.25  # seconds for which readers share an answer


class Reads:
    """The database, as the page and the API see it."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self.redact = settings.redact
        self.listening = settings.listening
        self._settings = settings
        pooled = settings.listen_database_url is not None
        dsn = settings.secret("database_url")
        self._state, self.session = (
            Session(dsn, name=f"reactor page {role}", pooled=pooled, timings=READS) for role in ("state", "search")
        )
        self.state_table = Shared(lambda: self._discovered(self._state), every=TABLE_FOR)
        self.table = Shared(lambda: self._discovered(self.session), every=TABLE_FOR)
        self._kept = kept = settings.history_days > 0
        self.bought: Shared[Purchases | str] = Shared(lambda: today(self._state, kept=kept), every=HISTORY_FOR)
        self.overview: Shared[Overview] = Shared(self._overview, every=STATE_FOR)
        self._causes: dict[TokenFilter, Shared[Causes]] = {}
        self.errors = {hours: Shared(partial(self._errors, hours), every=HISTORY_FOR) for hours in RANGES}
        self.pulses = {hours: Shared(partial(self._pulse, hours), every=HISTORY_FOR) for hours in RANGES}

    async def _discovered(self, session: Session) -> TokensTable:
        return await discover(session, self._settings.tokens_table, prompt_sql=self._settings.prompt_sql)

    async def _overview(self) -> Overview:
        budget = self._settings.daily_budget
        return await overview(self._state, await self.state_table(), budget=budget, bought=self.bought)

    async def _pulse(self, hours: int) -> Pulse | str:
        return await pulse(self._state, await self.state_table(), seconds=hours * 3600.0)

    async def _errors(self, hours: int) -> RecentErrors | str | None:
        if not self._kept:
            return None
        table = await self.state_table()
        return await recent_errors(self._state, table, seconds=hours * 3600.0, periods=ERROR_PERIODS[hours])

    async def causes(self, wanted: TokenFilter) -> Causes:
        """Why the newest of the failed tokens that match failed."""
        if wanted not in self._causes:
            if len(self._causes) >= MOST_FILTERS:
                del self._causes[next(iter(self._causes))]
            self._causes[wanted] = Shared(partial(self._caused, wanted), every=HISTORY_FOR)
        return await self._causes[wanted]()

    async def _caused(self, wanted: TokenFilter) -> Causes:
        table = await self.table()
        return await failures_by_cause(self.session, table, wanted, look=CAUSES_OF, texts=CAUSES_OF // 2)

    async def within(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work of one request. Raises ConnectionLostError if it takes too long."""
        with anyio.move_on_after(WITHIN):
            return await work()
        raise ConnectionLostError("the database did not answer in time")

    async def close_idle(self) -> None:
        """Close the connections that nobody has used for a while."""
        for session in (self._state, self.session):
            await session.close_if_idle()

    async def aclose(self) -> None:
        """Close the connections."""
        for session in (self._state, self.session):
            await session.aclose()
