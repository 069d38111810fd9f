"""Tells readers *that* something changed, as server-sent events. They then read again what they show.

One connection per process listens for all readers, and only while there are readers. Mints and settled tokens ring a
channel; claims and the gate ring none, so a small statement looks for them each second. Many changes at once are told
as one.

A stream ends by itself after a while, and the page asks for the next one: a server that shuts down waits for the
answers that it has begun.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from reactor.database.listening import Listening
from reactor.database.search_path import connect, within
from reactor.web.reads import READS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from reactor.database.search_path import Inherited
    from reactor.web.reads import Reads

NAME = "reactor page events"  # the application_name of the connection
MOST_READERS = 24  # at once; each keeps one of the port's connections
DEBOUNCE = 0.25  # seconds in which further changes are told with the first
LOOK_EVERY = 1.0  # seconds
MOST_HELD = 1_000  # tokens under way that a look takes into account
_BEGIN = b"retry: 1000\n\n: ok\n\n"
_CHANGED, _QUIET, _ENDS = b"event: changed\ndata:\n\n", b": still here\n\n", b"event: ends\ndata:\n\n"


@dataclass(frozen=True, slots=True)
class StreamTimings:
    """Seconds.

    `lasts`: until a stream ends. `keep_alive`: without a change until a comment is sent, because proxies close silent
    connections. `lingers`: after the last reader until nobody listens, because most readers come back at once.
    """

    lasts: float = 20.0
    keep_alive: float = 15.0
    lingers: float = 3.0


STREAMS = StreamTimings()


class Changes:
    """The readers, and the connection that listens for them."""

    def __init__(self, reads: Reads, timings: StreamTimings = STREAMS) -> None:
        self._reads = reads
        self._timings = timings
        self._readers: set[asyncio.Event] = set()
        # After a loss the readers are told, so that their pages say what is wrong.
        self._listening = Listening(self._listen, name=NAME, lingers=timings.lingers, lost=self.changed)
        self._telling: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def full(self) -> bool:
        """Whether no more readers are taken."""
        return self._closed or len(self._readers) >= MOST_READERS

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield an event for each change, until the reader goes, we close, or the stream has lasted long enough."""
        if self._closed:  # since the request was taken
            return
        changed, ends_at = asyncio.Event(), time.monotonic() + self._timings.lasts
        self._readers.add(changed)
        try:
            with self._listening.awaited():
                yield _BEGIN
                while not self._closed and (left := ends_at - time.monotonic()) > 0:
                    with anyio.move_on_after(min(left, self._timings.keep_alive)):
                        await changed.wait()
                    if not self._closed:
                        yield _CHANGED if changed.is_set() else _QUIET
                    changed.clear()
                if not self._closed:
                    yield _ENDS
        finally:
            self._readers.discard(changed)

    def changed(self) -> None:
        """Tell all readers soon."""
        if self._telling is None and self._readers:
            self._telling = asyncio.get_running_loop().call_later(DEBOUNCE, self._tell)

    def end(self) -> None:
        """End all streams, and take no more readers."""
        self._closed = True
        self._tell()
        self._listening.stop()

    def _tell(self) -> None:
        self._telling = None
        for reader in self._readers:
            reader.set()

    async def _listen(self) -> None:
        """Listen, and look each second, until the connection is lost."""
        table = await self._reads.state_table()
        connection, inherited = await connect(self._reads.listening, name=NAME, timings=READS)
        try:
            for channel in (table.wake_channel, table.status_channel):
                await connection.add_listener(channel, lambda *_: self.changed())
            self.changed()
            look, mark = table.query("changes"), None
            while True:
                seen = await _mark(connection, inherited, look)
                if mark not in {None, seen}:
                    self.changed()
                mark = seen
                await asyncio.sleep(LOOK_EVERY)
        finally:
            connection.terminate()


async def _mark(connection: asyncpg.Connection[Any], inherited: Inherited | None, look: str) -> str:
    async with within(connection, inherited) if inherited else nullcontext():
        mark: str = await connection.fetchval(look, MOST_HELD)
    return mark
