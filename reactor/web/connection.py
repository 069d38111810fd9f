"""One client of the HTTP port. uvicorn speaks HTTP with it; here stands how long we wait for it.

The clock runs while the client is to do something: from the connection, or from the last answer, until a whole request
is here, body included. Single bytes do not set it back. It runs too while the client does not take an answer.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio
    import logging

    from uvicorn import Config
    from uvicorn.server import ServerState

    from reactor.web.refusals import Refusals

PATIENCE = 5.0  # seconds for a whole request, and for each part of an answer to be taken


class Connection(H11Protocol):
    """A connection that ends where its client keeps us waiting."""

    def __init__(self, config: Config, state: ServerState, refusals: Refusals, logger: logging.Logger) -> None:
        super().__init__(config, state, {})
        self.logger = logger
        self.access_log = False
        self.changed_at = time.monotonic()  # when it last began to be waited for, or answered
        self._refusals = refusals
        self._clock: asyncio.TimerHandle | None = None
        self._pressing: asyncio.TimerHandle | None = None

    @property
    def address(self) -> str | None:
        """Where the client is."""
        return self.client[0] if self.client else None

    @property
    def answering(self) -> bool:
        """Whether a whole request is here, and its answer is not finished: the client has nothing to do."""
        asked = self.conn.their_state in {h11.DONE, h11.MUST_CLOSE}
        finished = self.conn.our_state not in {h11.SEND_RESPONSE, h11.SEND_BODY}
        return asked and not finished and not self.transport.is_closing()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.server_state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        if self.cycle is not None:
            self.cycle.disconnected = True  # its answer comes too late: this one ends the connection
            self.cycle.message_event.set()
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:  # there was an answer already: what follows it makes no sense
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._pressing = self.loop.call_later(PATIENCE, self._give_up)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._pressing is not None:
            self._pressing.cancel()
            self._pressing = None

    def make_room(self) -> None:
        """End, because another client needs the place."""
        if not self._idle:
            self._refusals.met("crowded")
        self.transport.abort()

    def _watch(self) -> None:
        if self.answering:
            self._stop_clock()
        elif self._clock is None:
            self.changed_at = time.monotonic()
            self._clock = self.loop.call_later(PATIENCE, self._give_up)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
            self.changed_at = time.monotonic()

    def _give_up(self) -> None:
        if not self._idle:
            self._refusals.met("slow")
        self.transport.abort()

    @property
    def _idle(self) -> bool:
        """Whether nothing was begun, by neither side: it was kept for another request, as clients do."""
        begun = self.conn.their_state is not h11.IDLE or self.conn.trailing_data[0]
        return not begun and not self.transport.get_write_buffer_size()
