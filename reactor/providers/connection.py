"""One HTTP/1.1 connection: asyncio moves the bytes, llhttp (by httptools) reads them.

    connected ─▶ idle ──ask──▶ asked ──whole answer──▶ idle
                  │              └─ error, timeout, cancelled, surplus bytes ─▶ closed
                  └─ any byte, or the peer's end ─▶ closed

What matters is the moment of the first write. Before it nothing was bought, for certain: `httpx.ConnectError`,
`ConnectTimeout`. After it anything may have been, whatever went wrong: every other `httpx.TransportError`. A request is
never repeated here, and a connection on which one went wrong, or was cancelled, never carries another.
"""

from __future__ import annotations

import asyncio
import selectors
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import anyio
import anyio.lowlevel
import httptools
import httpx

from reactor.messages import message_of

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUTS = {"connect": 5.0, "answer": 30.0}  # seconds; the last from the first write to the whole answer
_Poll: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)  # for Windows
LARGEST_HEAD = 64 * 1024  # bytes; the API's are about 1,000
_FRAMING = {b"content-length", b"transfer-encoding"}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came; `body` is not decoded."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class TooLargeError(Exception):
    """An answer beyond the limit."""


class Connection(asyncio.Protocol):
    """Asks one request at a time. `largest` is in bytes, head and body; `made` and `lost` hear of its two ends."""

    def __init__(self, *, largest: int, made: Callable[[Connection], None], lost: Callable[[Connection], None]) -> None:
        self._largest = largest
        self._made, self._lost = made, lost
        self._transport: asyncio.Transport
        self._socket = _Poll()  # has no descriptor of its own
        self._parser: httptools.HttpResponseParser | None = None
        self._ended: asyncio.Future[None] | None = None
        self._forget()

    async def usable(self) -> bool:
        """Whether a request may be written: the peer has neither left nor said anything unasked.

        The socket is asked too. What is there to be read, its end or no more than a ticket of TLS's, goes to whom it
        concerns in the loop's next turns.
        """
        try:
            for _ in range(4):
                if self._transport.is_closing() or not self._socket.select(0):
                    return not self._transport.is_closing()
                await anyio.lowlevel.checkpoint()
        except BaseException:
            self.close()
            raise
        return False

    @property
    def reusable(self) -> bool:
        """Whether it may be asked again after its last answer."""
        return self._again and not self._transport.is_closing()

    async def ask(self, request: bytes) -> Reply:
        """Send a request and return its answer. Where that fails, or is cancelled, the connection is closed.

        Raises ConnectError where nothing was written, another TransportError where something may have been, and
        TooLargeError.
        """
        if self._transport.is_closing():
            raise httpx.ConnectError("the connection was closed before anything was sent")
        self._forget()
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        self._parser = httptools.HttpResponseParser(self)
        late = loop.call_later(TIMEOUTS["answer"], self._late)
        try:
            self._transport.write(request)
            await self._ended
        except BaseException:
            self.close()
            raise
        finally:
            late.cancel()
            self._parser = self._ended = None
        if not self._again:
            self.close()
        if self._error is not None:
            raise self._error
        reply = Reply(self._status, self._headers, bytes(self._body))
        self._body.clear()  # a connection may be kept for hours
        return reply

    def close(self) -> None:
        """Close it at once, with whatever is under way."""
        self._transport.abort()

    def _forget(self) -> None:
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = bytearray()
        self._came = 0
        self._head_ended = self._whole = self._again = False
        self._error: Exception | None = None

    def _late(self) -> None:
        self._end(httpx.ReadTimeout("no whole answer in time"))

    def _end(self, error: Exception | None = None) -> None:
        if self._ended is not None and not self._ended.done():
            self._error = error
            self._ended.set_result(None)  # not an exception: of one that nobody fetches, asyncio complains

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._socket.register(transport.get_extra_info("socket").fileno(), selectors.EVENT_READ)
        self._made(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol. Bytes that nobody asked for (a 408, say) must not become the next answer."""
        if self._parser is None or self._whole:
            self._again = False
            self.close()
            return
        self._came += len(data)
        if self._came > self._largest:
            self._end(TooLargeError(f"more than {self._largest:,} bytes"))
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._again = False
            if not self._whole:
                self._end(httpx.RemoteProtocolError(message_of(error)))
        if not self._head_ended and self._came > LARGEST_HEAD:  # of each byte of headers, Python makes 25
            self._end(TooLargeError(f"more than {LARGEST_HEAD:,} bytes of headers"))

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol. An answer without a length ends with its connection."""
        self._again = False
        framed = any(name.lower() in _FRAMING for name, _ in self._headers)
        if exc is not None:
            self._end(httpx.ReadError(message_of(exc)))
        elif not self._head_ended or framed:
            self._end(httpx.RemoteProtocolError("it ended before its answer did"))
        else:
            self._end()
        self._lost(self)

    # What httptools calls

    def on_message_begin(self) -> None:
        """Begin anew; what follows a whole answer belongs to nobody."""
        if self._whole:
            self._again = False
        else:
            self._headers, self._head_ended = [], False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; trailers are not wanted."""
        if not self._head_ended:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Keep the status."""
        if not self._whole and self._parser is not None:
            self._head_ended, self._status = True, self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """Keep a piece."""
        if not self._whole:
            self._body += body

    def on_message_complete(self) -> None:
        """End, unless it is one of the answers that come before the answer."""
        if self._whole or self._parser is None or 100 <= self._status < 200:
            return
        unsent = self._transport.get_write_buffer_size()  # a refusal may come before the whole request was taken
        self._whole, self._again = True, self._parser.should_keep_alive() and not unsent
        self._end()
