"""A worker's link to the database, which can go half-open, be held up, or be cut."""

from contextlib import suppress

import anyio
from anyio import TASK_STATUS_IGNORED
from anyio.abc import SocketAttribute

NOTICED_AFTER = 11.0  # seconds until a real server's keepalives would end the session of a vanished client
_NAMED = b"application_name\0"
_BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)


class _Wire:
    """One connection. Data that it loses never arrives at the other end."""

    def __init__(self, near, far):
        self.near, self.far = near, far
        self.name = ""  # its application_name, once the client has sent it
        self.lost = set()  # of "questions" and "answers"

    async def carry(self, link):
        async with anyio.create_task_group() as group:
            group.start_soon(self._pipe, self.near, self.far, "questions", link, group.cancel_scope)
            group.start_soon(self._pipe, self.far, self.near, "answers", link, group.cancel_scope)

    async def _pipe(self, source, sink, what, link, scope):
        with suppress(*_BROKEN):
            async for data in source:
                if not self.name and _NAMED in data:
                    self.name = data.partition(_NAMED)[2].partition(b"\0")[0].decode()
                    link.meet(self)
                await link.open.wait()
                if what not in self.lost:
                    await sink.send(data)
        if self.lost:
            await anyio.sleep(NOTICED_AFTER)
        scope.cancel()


class Link:
    """Forwards connections to the database's port."""

    def __init__(self, server_port):
        self._server_port = server_port
        self._wires = set()
        self._lost = ()
        self._losing = ""
        self._refusing = False
        self.open = anyio.Event()
        self.open.set()
        self.port = 0

    async def run(self, *, task_status=TASK_STATUS_IGNORED):
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            self.port = listener.extra(SocketAttribute.local_port)  # noqa: S610  (not Django's)
            task_status.started()
            await listener.serve(self._accept)

    async def half_open(self, seconds, how, *, of=""):
        """Let connections from before and during this time lose all data, or only the answers, for ever.

        That holds for all connections, or for those `of` one application_name.
        """
        self._lost, self._losing = ("questions", "answers") if how == "both" else ("answers",), of
        for wire in self._wires:
            self.meet(wire)
        await anyio.sleep(seconds)
        self._lost = ()

    def meet(self, wire):
        """Apply the link's fault to a connection, if the fault is for its application_name."""
        if self._losing in {"", wire.name}:
            wire.lost |= set(self._lost)

    async def hold(self, seconds):
        """Delay all data by this time and then deliver it, as TCP does after a break of the network."""
        self.open = anyio.Event()
        await anyio.sleep(seconds)
        self.open.set()

    async def cut(self, seconds):
        """End all connections, and refuse new ones during this time."""
        self._refusing = True
        for wire in list(self._wires):
            await wire.near.aclose()
        await anyio.sleep(seconds)
        self._refusing = False

    async def _accept(self, near):
        async with near:
            if self._refusing:
                return
            with suppress(*_BROKEN):
                async with await anyio.connect_tcp("127.0.0.1", self._server_port) as far:
                    wire = _Wire(near, far)
                    self._wires.add(wire)
                    self.meet(wire)
                    try:
                        await wire.carry(self)
                    finally:
                        self._wires.discard(wire)
