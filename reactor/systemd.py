"""Tells systemd, or another service manager, about `reactor run`: ready, status, watchdog, stopping (sd_notify(3)).

The process is ready once it listens for mints, or once it has failed to reach the database. So a start of the service
does not time out while the database is away, and the status says what the worker waits for. But if the table is not
migrated, the process ends before it is ready, and the start fails.

The event loop feeds the watchdog, so a stuck loop sends nothing, and systemd ends the process. Every user of the
machine can read the status, so it has states and numbers, and no text of an error, a provider or an operator.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import anyio

from reactor import events
from reactor.engine.wake.wake import Wake

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reactor.engine.health import Health

STATUS_EVERY = 1.0  # seconds between looks whether the status has changed
_LISTENER = {
    "proven": "listening",
    "starting": "starting to listen",
    "lost": "the listener's connection to the database is lost",
    "degraded": "no notifications arrive, so tokens wait for the sweep",
}


class ServiceManager:
    """The process that set NOTIFY_SOCKET. A sink for events; `run` reports to it."""

    def __init__(self, address: str, *, watchdog: float | None) -> None:
        """Report to the socket at `address`, where @ begins an abstract name. `watchdog` is in seconds."""
        name = os.fsencode(address)
        self._address = b"\0" + name[1:] if name.startswith(b"@") else name
        self._watchdog = watchdog
        self._news = Wake()
        self._told: dict[str, str] = {}
        self._ready = False
        self._stopping = False
        self._found_table = False
        self._pauses: set[str] = set()

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """The service manager that these environment variables name."""
        return cls(environment["NOTIFY_SOCKET"], watchdog=_watchdog(environment))

    def __call__(self, event: str, fields: dict[str, Any]) -> None:
        """Note an event. It is reported in the loop's next turn."""
        match event:
            case events.LISTENER_CONNECTED | events.LISTENER_LOST:
                self._ready = True
            case events.WORKER_ERROR if fields.get("role") == "worker":  # the database is away
                self._ready = True
            case events.WORKER_STARTED:
                self._found_table = True
            case events.WORKER_STOPPING:
                self._stopping = True
            case events.INTAKE_PAUSED:
                self._pauses.add(_pause(fields))
            case events.INTAKE_RESUMED:
                self._pauses.discard(_pause(fields))
            case _:
                return
        self._news.ring()

    async def run(self, health: Health) -> None:
        """Report until cancelled; then report that the process stops."""
        async with anyio.create_task_group() as group:
            if self._watchdog is not None:
                group.start_soon(self._feed, self._watchdog / 2)
            try:
                while True:
                    self._news.clear()
                    self._report(health)
                    with anyio.move_on_after(STATUS_EVERY):
                        await self._news.wait()
            finally:
                self._stopping = True
                self._report(health)

    async def _feed(self, every: float) -> None:
        while True:
            self._send("WATCHDOG=1")
            await anyio.sleep(every)

    def _report(self, health: Health) -> None:
        """Send what has changed. If the socket does not take it now, the next report sends it."""
        state = {"STATUS": self._status(health)}
        if self._ready:
            state["READY"] = "1"
        if self._stopping:
            state["STOPPING"] = "1"
        news = [f"{name}={value}" for name, value in state.items() if self._told.get(name) != value]
        if news and self._send("\n".join(news)):
            self._told = state

    def _send(self, text: str) -> bool:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)  # a busy receiver must not hold up the loop
            sender.sendto(text.encode(), self._address)
            return True
        return False

    def _status(self, health: Health) -> str:
        slots = f"{health.in_use} of {health.slots} slots in use"
        if self._stopping:
            return f"stopping; {slots}"
        if not self._found_table:
            return "waiting for the database; the log says why" if self._ready else "starting"
        return "; ".join([slots, _LISTENER[health.listener], *sorted(self._pauses)])


def _watchdog(environment: Mapping[str, str]) -> float | None:
    """Seconds within which this process must send a sign of life; None if nobody waits for one."""
    if environment.get("WATCHDOG_PID") not in {None, "", str(os.getpid())}:
        return None
    microseconds = environment.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 or None if microseconds.isdecimal() else None


def _pause(fields: dict[str, Any]) -> str:
    return "this worker does not reach the provider" if fields.get("worker_only") else "the gate is closed"
