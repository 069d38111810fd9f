"""Whether a mint rings, and which worker answers.

A commit that rings waits for every other that does, and a fleet in which all answer claims once per worker for one
token. So mints ring only where somebody waits for them, and one answers:

    a slot is free      ──▶ on watch: mints ring, and this worker answers; one of a fleet is, and tells when it leaves
    every slot is taken ──▶ quiet: as long as nobody is on watch, mints do not ring

Two advisory locks say so, on the connection that listens, and go with it: nobody who died keeps the bell from ringing.
The triggers look at them as they write. They are silent while somebody is quiet and nobody on watch; else they ring,
also where there is no worker at all.

No wake is lost. A worker that goes on watch claims once more, because mints that were committed before did not ring. A
transaction that minted before and commits later does not ring either. So the worker looks which transactions had begun
by then, until all of them are over, and claims again whenever one has ended. It never waits for a lock: a waiter would
keep a snapshot open, and with it all dead rows.

A worker that is on watch and hangs answers nothing. The others hear it ring too: their sweeps look a little later.

Any role that may connect can hold these two locks. The triggers are silent only for a quiet lock that a worker holds. A
worker that finds the watch taken by a stranger keeps a watch of its own, under a random key that no stranger can hold
before: mints ring for that too, and it answers. Nobody is elected then, so several workers may look for one mint.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Literal

import anyio
import asyncpg

from reactor import events
from reactor.backoff import jittered
from reactor.database.connections import LOST
from reactor.database.strangers import Strangers
from reactor.database.table import plain_query
from reactor.failpoints import reached

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from reactor.database.table import TokensTable
    from reactor.engine.timings import Timings
    from reactor.engine.wake.sweep import Sweep
    from reactor.engine.wake.wake import Wake
    from reactor.telemetry import Telemetry

    Ask = Callable[..., Awaitable[asyncpg.Record]]

LOOK_SHARE = 1 / 8  # of the time since the watch was taken: a mint waits no longer than that after its transaction
# The triggers hold the lock that they look at for some microseconds: taken means taken when it stays so.
_TRIES = (0.0, 0.001, 0.005, 0.02)  # seconds before each

Wanted = Literal["watch", "quiet", "nothing"]


@dataclass(slots=True)
class _Doubt:
    """About the transactions that had begun when the watch was taken, and may have minted without a ring."""

    upto: int  # a transaction id above all of theirs
    since: float  # the loop's clock
    under_way: float = inf

    def pause(self, timings: Timings) -> float:
        """Seconds until the next look."""
        share = LOOK_SHARE * (anyio.current_time() - self.since)
        return min(max(timings.shortest_look, share), timings.longest_look)


class Bell:
    """Follows what the dispatcher wants, and rings the wake for what this worker has to answer."""

    def __init__(self, table: TokensTable, wake: Wake, sweep: Sweep, telemetry: Telemetry, *, timings: Timings) -> None:
        self._channels = table.wake_channel, table.bell_channel
        self._relation = table.relation
        self._wake = wake
        self._sweep = sweep
        self._telemetry = telemetry
        self._timings = timings
        self._wanted: Wanted = "nothing"
        self._ask: Ask | None = None
        self._news = anyio.Event()
        self._reset()

    def _reset(self) -> None:
        self.watching = False
        self._quiet = False
        self._elsewhere = False
        self._doubt: _Doubt | None = None
        self._own: int | None = None  # the key of a watch of this worker's own
        self._ring_at = 0.0  # the loop's clock: when to look under it though nothing rang
        self._strangers = {"watch": Strangers(), "quiet": Strangers()}

    @property
    def blocked(self) -> bool:
        """Whether a stranger keeps this worker from one of the two locks."""
        return any(strangers.told for strangers in self._strangers.values())

    def rung(self) -> None:
        """A mint rang: answer, unless another worker is known to be on watch."""
        if self._elsewhere:
            self._sweep.look_within(jittered(self._timings.stand_in))
        else:
            self._wake.ring()

    def left(self) -> None:
        """Whoever was on watch has left it."""
        if self._elsewhere:
            self._elsewhere = False
            self._news.set()

    def want(self, wanted: Wanted) -> None:
        """Be on watch with a free slot, quiet with none, and nothing where this worker cannot or may not claim."""
        if wanted != self._wanted:
            self._wanted = wanted
            self._news.set()

    def attach(self, ask: Ask) -> None:
        """Go by this connection, which is proven to hear; locks through a pooler would stay with a stranger's."""
        if self._ask is not ask:
            self._ask = ask
            self._news.set()

    def detach(self) -> None:
        """The connection is gone, and its locks with it."""
        self._ask = None
        self._reset()
        self._news.set()

    async def run(self) -> None:
        """Follow what is wanted, until cancelled."""
        while True:
            self._news = anyio.Event()
            pause = await self._follow(self._ask) if self._ask is not None else None
            with anyio.move_on_after(pause):
                await self._news.wait()

    async def _follow(self, ask: Ask) -> float | None:
        """Do what is wanted; return the seconds after which to look again, None: at the next news."""
        try:
            if self._wanted == "watch":
                return await (self._look_again(ask) if self.watching else self._go_on_watch(ask))
            if self._on_watch or self._quiet != (self._wanted == "quiet"):
                return await self._leave(ask)
        except (*LOST, asyncpg.PostgresError):
            return self._timings.watch_every  # the listener finds out, and brings another connection
        return None

    @property
    def _on_watch(self) -> bool:
        return self.watching or self._own is not None

    async def _go_on_watch(self, ask: Ask) -> float | None:
        await reached("before_watch")
        known = self._elsewhere or self._own is not None  # to be taken: one try is enough
        for pause in _TRIES[:1] if known else _TRIES:
            await anyio.sleep(pause)
            found = await ask(plain_query("watch"), self._channels[0], self._quiet, self._relation)
            self._quiet = False
            if taken := found["upto"] is not None:
                break
        if self._ask is not ask:
            return None
        self._tell_blocked("watch", found, held=taken)
        if not taken and not found["ours"]:
            return await self._watch_alone(ask)
        await self._end_own_watch(ask)
        if not taken and not self._elsewhere:
            self._telemetry.emit(events.WATCH_TAKEN_ELSEWHERE)
        self._elsewhere, self.watching = not taken, taken
        if not taken:
            return jittered(self._timings.watch_every)
        self._telemetry.emit(events.WATCH_TAKEN)
        self._doubt = _Doubt(found["upto"], anyio.current_time())
        await reached("on_watch")
        return await self._look_again(ask)

    async def _watch_alone(self, ask: Ask) -> float:
        """Keep a watch of our own while strangers hold the common one's lock, and look besides."""
        self._elsewhere = False
        if self._own is None:
            key = secrets.randbelow(2**32) - 2**31
            upto = (await ask(plain_query("own_watch"), self._channels[0], key, True))["upto"]
            if upto is None or self._ask is not ask:
                return jittered(self._timings.watch_every)
            self._own, self._doubt = key, _Doubt(upto, anyio.current_time())
            self._ring_at = anyio.current_time() + self._timings.watch_every
        elif anyio.current_time() >= self._ring_at:
            # A session may have remembered for a moment that mints are silent, as this watch began.
            self._ring_at = anyio.current_time() + self._timings.watch_every
            self._wake.ring()
        pause, look = jittered(self._timings.watch_every), await self._look_again(ask)
        return pause if look is None else min(pause, look)

    def _tell_blocked(self, lock: str, found: asyncpg.Record, *, held: bool) -> None:
        strangers = self._strangers[lock]
        if held or found["ours"]:
            strangers.none()
            return
        holders = dict(zip(found["strangers"] or (), found["processes"] or (), strict=True))
        if held_by := strangers.found(holders, anyio.current_time()):
            self._telemetry.emit(events.LOCK_BLOCKED, lock=lock, held_by=held_by)

    async def _end_own_watch(self, ask: Ask) -> None:
        if self._own is not None:
            await ask(plain_query("own_watch"), self._channels[0], self._own, False)
            self._own = None

    async def _look_again(self, ask: Ask) -> float | None:
        """Have a claim made if a transaction has ended that may have minted without a ring."""
        doubt = self._doubt
        if doubt is None:
            return None
        under_way = (await ask(plain_query("under_way"), doubt.upto))["transactions"]
        if under_way < doubt.under_way:
            self._wake.ring()
        doubt.under_way = under_way
        if under_way:
            return doubt.pause(self._timings)
        self._doubt = None
        return None

    async def _leave(self, ask: Ask) -> float | None:
        hush = self._wanted == "quiet"
        if hush and self._on_watch:
            with anyio.move_on_after(self._timings.full_for):
                await self._news.wait()
                return 0.0
        await self._end_own_watch(ask)
        found = await ask(plain_query("leave"), *self._channels, self.watching, self._quiet, hush, self._relation)
        quiet = found["quiet"]
        if hush:
            self._tell_blocked("quiet", found, held=quiet)
        if self._ask is ask:
            if self.watching:
                self._telemetry.emit(events.WATCH_LEFT, quiet=quiet)
            self.watching, self._quiet, self._doubt = False, quiet, None
        return None if quiet == hush else jittered(self._timings.watch_every)
