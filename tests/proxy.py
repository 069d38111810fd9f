"""A TCP proxy before PostgreSQL that loses data when a test wants it to."""

import socket
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import anyio
from anyio.abc import SocketAttribute

_GONE = (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError, OSError)
_READY = b"Z\0\0\0\5I"  # ReadyForQuery: the end of an answer
# Messages of the server for `Proxy.interject`.
NOTICE = b"N\0\0\0\x1fSNOTICE\0VNOTICE\0C00000\0Mx\0\0"
ROW = b"D\0\0\0\6\0\0"  # without columns
_HEAD = 1024  # bytes of a session's start: they hold the client's application_name


class _Link:
    """One client's connection."""

    def __init__(self, client):
        self.client = client
        self.head = b""
        self.swallows = False
        self.before = self.after = b""
        self.scope = anyio.CancelScope()

    def is_of(self, name):
        return name.encode() in self.head

    def cut(self):
        # Close with a reset instead of an orderly end.
        raw = self.client.extra(SocketAttribute.raw_socket)  # noqa: S610  (not Django's)
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.scope.cancel()


class Proxy:
    """Passes everything on by default. A connection that was half-open once stays so for ever, as in real networks."""

    def __init__(self, target):
        self._target = urlsplit(target)
        self._links = set()
        self._mode = "pass"
        self._port = 0
        self._lingers = False
        self.ended = anyio.Event()  # the server has closed a connection

    @property
    def url(self):
        at = f"{self._target.username}@127.0.0.1:{self._port}"
        return self._target._replace(netloc=at).geturl()

    def swallow(self, name=""):
        """Make connections half-open: those of one application_name; or all, with all new ones until `heal`."""
        for link in self._links:
            link.swallows |= link.is_of(name)
        if not name:
            self._mode = "swallow"

    def interject(self, *, before=b"", after=b"", name=""):
        """Add messages to the server's next answer: to the connections of one application_name, or to all."""
        for link in self._links:
            if link.is_of(name):
                link.before, link.after = before, after

    def linger(self):
        """When the server closes a connection, pass on its last data, but not the end."""
        self._lingers = True

    def cut(self):
        """Reset every connection."""
        for link in self._links:
            link.cut()

    def refuse(self):
        """Reset every connection, and all new ones until `heal`."""
        self._mode = "refuse"
        self.cut()

    def heal(self):
        """Pass new connections on again."""
        self._mode = "pass"

    async def serve(self, listener):
        self._port = listener.extra(SocketAttribute.local_port)  # noqa: S610  (not Django's)
        await listener.serve(self._handle)

    async def _handle(self, client):
        link = _Link(client)
        link.swallows = self._mode == "swallow"
        async with client:
            if self._mode == "refuse":
                link.cut()
                return
            self._links.add(link)
            try:
                with suppress(*_GONE), link.scope:
                    async with await anyio.connect_tcp("127.0.0.1", self._target.port) as server:
                        await self._pass_on(link, server)
            finally:
                self._links.discard(link)

    async def _pass_on(self, link, server):
        async with anyio.create_task_group() as group:
            group.start_soon(self._pump, link, link.client, server)
            group.start_soon(self._pump, link, server, link.client)

    async def _pump(self, link, source, sink):
        with suppress(*_GONE):
            while True:
                data = await source.receive()
                if source is link.client and len(link.head) < _HEAD:
                    link.head += data
                if source is not link.client:
                    data, link.before = link.before + data, b""
                    if data.endswith(_READY):
                        data, link.after = data + link.after, b""
                if not link.swallows:
                    await sink.send(data)
        if source is not link.client:
            self.ended.set()
        if link.swallows or (self._lingers and source is not link.client):
            await anyio.sleep_forever()  # the opposite side sees no end either
        link.scope.cancel()


@asynccontextmanager
async def proxied(target):
    """A proxy before a database, as long as the block lasts."""
    proxy = Proxy(target)
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(proxy.serve, listener)
        await anyio.wait_all_tasks_blocked()
        yield proxy
        group.cancel_scope.cancel()
