"""Decides whether a mint rings (its trigger sends a NOTIFY), and which worker of the fleet answers it.

Rings are not free. A commit that rings waits for every other commit that rings. And if a whole fleet answers, each
worker makes a claim for the same token. So mints ring only while a worker has a free slot, and one worker answers:

    a slot is free      ──▶ on watch: mints ring, and this worker answers. It is the only one, until it leaves the watch
    every slot is taken ──▶ quiet: mints do not ring as long as no worker is on watch

Details. Each of the two states is an advisory lock. A worker holds it on its listener's connection and loses it with
that connection, so a dead worker silences no mint. The triggers look at both locks when a mint is written. They are
silent if a worker is quiet and no worker is on watch. In every other case they ring, even if there is no worker at all.

No mint is missed. A worker that goes on watch claims once more, because mints that were committed before did not ring.
A transaction that minted before and commits later does not ring either. So the worker notes which transactions are
under way when it takes the watch, and claims again whenever one of them has ended. It looks repeatedly and does not
wait for them: a statement that waits keeps a snapshot open, and meanwhile no dead row can be removed.

If the worker on watch hangs, nobody answers at once. The other workers hear the ring too: their sweeps look 5 s later.

Any role that may connect can take these two locks. A session that holds one and is no worker is called a stranger. A
stranger's quiet lock does not silence the triggers, only a worker's does. If a stranger holds the watch lock, a worker
keeps a watch of its own, under a random key that a stranger cannot have taken in advance. Mints ring for that watch
too, and its worker answers. No worker is elected then, so several may claim for one mint.
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

# The pause between two looks is this part of the time since the watch was taken: a mint waits for no longer pause.
LOOK_SHARE = 1 / 8
# Pauses in seconds before each try to take the watch. A trigger holds the lock for some microseconds when it looks at
# it, so one failed try does not show that somebody is on watch.
_TRIES = (0.0, 0.001, 0.005, 0.02)

Wanted = Literal["watch", "quiet", "nothing"]


@dataclass(slots=True)
class _Earlier:
    """The transactions that were under way when the watch was taken. They may have minted without a ring."""

    upto: int  # a transaction id above all of theirs
    since: float  # the loop's clock
    under_way: float = inf  # how many of them had not ended at the last look

    def pause(self, timings: Timings) -> float:
        """Seconds until the next look."""
        share = LOOK_SHARE * (anyio.current_time() - self.since)
        return min(max(timings.shortest_look, share), timings.longest_look)


class Bell:
    """Takes and leaves the two locks as the dispatcher wants, and rings the wake for mints that this worker answers."""

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
        self._elsewhere = False  # another worker is on watch
        self._earlier: _Earlier | None = None
        self._own_key: int | None = None  # of a watch of this worker's own
        self._ring_at = 0.0  # the loop's clock: when to claim under an own watch although nothing rang
        self._strangers = {lock: self._nobody() for lock in ("watch", "quiet")}

    def _nobody(self) -> Strangers:
        return Strangers(needed=self._timings.stranger_looks, apart=self._timings.strangers_apart)

    @property
    def blocked(self) -> bool:
        """Whether a stranger keeps this worker from one of the two locks."""
        return any(strangers.told for strangers in self._strangers.values())

    def wake_rang(self) -> None:
        """Answer a mint, a retry or the gate. If another worker is on watch, only have the sweep look a bit later."""
        if self._elsewhere:
            self._sweep.look_within(jittered(self._timings.stand_in))
        else:
            self._wake.ring()

    def watch_was_left(self) -> None:
        """Another worker has left the watch: try to take it."""
        if self._elsewhere:
            self._elsewhere = False
            self._news.set()

    def want(self, wanted: Wanted) -> None:
        """Set the wanted state: watch with a free slot, quiet without one, nothing if this worker cannot claim."""
        if wanted != self._wanted:
            self._wanted = wanted
            self._news.set()

    def attach(self, ask: Ask) -> None:
        """Use this connection, which is proven to hear. Through a pooler the locks would stay with a stranger."""
        if self._ask is not ask:
            self._ask = ask
            self._news.set()

    def detach(self) -> None:
        """Forget the connection: it is gone, and its locks with it."""
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
        """Take or leave the locks as wanted; return the seconds until the next look, None: wait for news."""
        try:
            if self._wanted == "watch":
                return await (self._look_again(ask) if self.watching else self._go_on_watch(ask))
            if self._on_watch or self._quiet != (self._wanted == "quiet"):
                return await self._leave(ask)
        except (*LOST, asyncpg.PostgresError):
            return self._timings.watch_every  # the listener notices too, and attaches another connection
        return None

    @property
    def _on_watch(self) -> bool:
        return self.watching or self._own_key is not None

    async def _go_on_watch(self, ask: Ask) -> float | None:
        """Try to take the watch; if only strangers hold its lock, keep a watch of this worker's own."""
        await reached("before_watch")
        known_taken = self._elsewhere or self._own_key is not None  # so one try is enough
        for pause in _TRIES[:1] if known_taken else _TRIES:
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
        self._earlier = _Earlier(found["upto"], anyio.current_time())
        await reached("on_watch")
        return await self._look_again(ask)

    async def _watch_alone(self, ask: Ask) -> float:
        """Keep a watch of this worker's own while a stranger holds the common watch lock; claim now and then too."""
        self._elsewhere = False
        if self._own_key is None:
            key = secrets.randbelow(2**32) - 2**31
            upto = (await ask(plain_query("own_watch"), self._channels[0], key, True))["upto"]
            if upto is None or self._ask is not ask:
                return jittered(self._timings.watch_every)
            self._own_key, self._earlier = key, _Earlier(upto, anyio.current_time())
            self._ring_at = anyio.current_time() + self._timings.watch_every
        elif anyio.current_time() >= self._ring_at:
            # When this watch began, a producer's session could remember for 0.1 s that mints are silent.
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
        if self._own_key is not None:
            await ask(plain_query("own_watch"), self._channels[0], self._own_key, False)
            self._own_key = None

    async def _look_again(self, ask: Ask) -> float | None:
        """Ring the wake if a transaction has ended that may have minted without a ring; return the next pause."""
        earlier = self._earlier
        if earlier is None:
            return None
        under_way = (await ask(plain_query("under_way"), earlier.upto))["transactions"]
        if under_way < earlier.under_way:
            self._wake.ring()
        earlier.under_way = under_way
        if under_way:
            return earlier.pause(self._timings)
        self._earlier = None
        return None

    async def _leave(self, ask: Ask) -> float | None:
        """Leave the watch, unless a slot is freed at once, and take or release the quiet lock."""
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
            self.watching, self._quiet, self._earlier = False, quiet, None
        return None if quiet == hush else jittered(self._timings.watch_every)
