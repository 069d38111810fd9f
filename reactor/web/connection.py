"""One client of the HTTP port. uvicorn handles HTTP; this module limits how long we wait for the client.

The request clock runs from the connection, or from the last answer, until a whole request has arrived, body included.
Single bytes do not restart it. The write clock runs while the client does not read an answer.
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

CLIENT_TIMEOUT = 5.0  # seconds to send a whole request, and to read each part of an answer


class Connection(H11Protocol):
    """A connection that closes if its client keeps us waiting."""

    def __init__(
        self,
        config: Config,
        state: ServerState,
        refusals: Refusals,
        logger: logging.Logger,
        *,
        client_timeout: float = CLIENT_TIMEOUT,
    ) -> None:
        super().__init__(config, state, {})
        self.logger = logger
        self.access_log = False
        self.changed_at = time.monotonic()  # when we last began to wait for it, or to answer it
        self._refusals = refusals
        self._client_timeout = client_timeout
        self._request_clock: asyncio.TimerHandle | None = None
        self._write_clock: asyncio.TimerHandle | None = None

    @property
    def address(self) -> str | None:
        """The client's IP address."""
        return self.client[0] if self.client else None

    @property
    def answering(self) -> bool:
        """Whether a whole request has arrived and its answer is not finished, so that we do not wait for the client."""
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
            self.cycle.disconnected = True  # its answer comes too late, because this error ends the connection
            self.cycle.message_event.set()
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:  # an answer was sent already, and the bytes after it are no request
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_clock = self.loop.call_later(self._client_timeout, self._give_up)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_clock is not None:
            self._write_clock.cancel()
            self._write_clock = None

    def make_room(self) -> None:
        """Close, because another client needs the place."""
        if not self._idle:
            self._refusals.met("crowded")
        self.transport.abort()

    def _watch(self) -> None:
        if self.answering:
            self._stop_clock()
        elif self._request_clock is None:
            self.changed_at = time.monotonic()
            self._request_clock = self.loop.call_later(self._client_timeout, self._give_up)

    def _stop_clock(self) -> None:
        if self._request_clock is not None:
            self._request_clock.cancel()
            self._request_clock = None
            self.changed_at = time.monotonic()

    def _give_up(self) -> None:
        if not self._idle:
            self._refusals.met("slow")
        self.transport.abort()

    @property
    def _idle(self) -> bool:
        """Whether neither side has begun anything: clients keep a connection open for a later request."""
        begun = self.conn.their_state is not h11.IDLE or self.conn.trailing_data[0]
        return not begun and not self.transport.get_write_buffer_size()
