"""A worker in a process of its own, in which one fault happens at one place.

Processes are forked from a server that has imported everything, so a process that replaces a killed one needs no new
interpreter. A process whose worker has ended by itself runs another worker later. All events of the worker go through
a pipe, so none is lost when the process is killed.
"""

import gc
import multiprocessing
import os
import signal
import ssl
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from itertools import count
from multiprocessing import forkserver
from pathlib import Path

import anyio
from cases import OF_A_RELEASE, OF_A_RENEWAL
from doubles import settings

from reactor.database import connections
from reactor.database.connections import ConnectionLostError
from reactor.database.store import Store
from reactor.engine.timings import Timings
from reactor.engine.worker import Worker
from reactor.failpoints import switched_on
from reactor.providers.replicate import ReplicateProvider
from reactor.telemetry import Telemetry
from reactor.text.redaction import Redactor

_TLS = ssl.create_default_context()  # made once: reading the authorities takes longer than most cases
_LOOP = {"use_uvloop": True}
anyio.run(anyio.sleep, 0, backend_options=_LOOP)  # imports what a loop needs
_CONNECTIONS = {"renew": "_renewals", "record": "_writes", "censor": "_writes", "settle": "_writes"} | dict.fromkeys(
    ("next_due", "ring"), "maintenance"
)

QUICK = Timings(rescue_every=0.3, steady_after=0.2, listing_every=0.1, sure_after=0.5, answer_within=0.5)

processes = multiprocessing.get_context("forkserver")


class InjectedError(Exception):
    """An error that no code expects."""


def start_server(monkeypatch):
    """Start the server that imports everything once. It does not inherit our sys.path, so it gets PYTHONPATH."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    processes.set_forkserver_preload(["faults", "pytest"])
    forkserver.ensure_running()


class Processes:
    """The processes in which no worker runs at the moment."""

    def __init__(self):
        self._idle = []

    def take(self):
        """A process and our end of its pipe."""
        if self._idle:
            return self._idle.pop()
        ours, theirs = processes.Pipe()
        process = processes.Process(target=main, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        return process, ours

    def give_back(self, process, pipe):
        """Keep a process for the next worker."""
        self._idle.append((process, pipe))

    def close(self):
        """End all idle processes."""
        for process, pipe in self._idle:
            end(process, pipe)


def end(process, pipe):
    process.kill()
    process.join()
    process.close()
    pipe.close()


class Process:
    """A worker as its test sees it: its events, when it met its fault, when it was gone."""

    def __init__(self, idle):
        self.events = []
        self.errors = None  # the exceptions that the worker ended with; None: it was killed
        self.fired = anyio.Event()
        self.gone = anyio.Event()
        self._idle = idle
        self._pipe = None

    @asynccontextmanager
    async def run(self, *arguments, **settings):
        """Run a worker; wait for its end. On an error, kill it."""
        process, self._pipe = self._idle.take()
        try:
            self._pipe.send((arguments, settings))
            async with anyio.create_task_group() as group:
                group.start_soon(self._hear)
                yield self
                await self.gone.wait()
        finally:
            if self.errors is None:
                end(process, self._pipe)
            else:
                self._idle.give_back(process, self._pipe)

    def go_on(self):
        """End the pause, if the worker has met its fault."""
        if self.fired.is_set():
            self._pipe.send(None)

    async def met(self):
        """Wait until the worker has met its fault, or is gone."""
        async with anyio.create_task_group() as group:

            async def end_after(event):
                await event.wait()
                group.cancel_scope.cancel()

            group.start_soon(end_after, self.fired)
            group.start_soon(end_after, self.gone)

    async def _hear(self):
        while self.errors is None:
            await anyio.wait_readable(self._pipe.fileno())
            try:
                kind, told = self._pipe.recv()
            except (EOFError, ConnectionResetError):
                break
            if kind == "event":
                self.events.append(told)
            elif kind == "ended":
                self.errors = told
            else:
                self.fired.set()
        self.gone.set()


def main(pipe):
    """Run one worker after another, each with a fault (a place and an action) or None."""
    ssl.create_default_context = lambda *_arguments, **_settings: _TLS
    gc.freeze()  # a collection would copy the memory that the processes share
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest alone
    for number in count():
        arguments, given = pipe.recv()
        # The history of writes notes which process wrote.
        connections.SERVER_SETTINGS["reactor.process"] = f"{os.getpid()}-{number}"
        anyio.run(partial(_work, pipe, *arguments, **given), backend_options=_LOOP)


async def _work(pipe, database_url, base_url, fault=None, **given):
    def tell(event, fields):
        pipe.send(("event", {"event": event, **fields}))

    values = settings(database_url, lease_seconds=1, poll_interval_seconds=0.2, **given)
    provider = ReplicateProvider("r8_made_up_token", base_url=base_url)
    place, action = fault or (None, None)
    store = _losing(pipe, place) if action == "lost" else Store
    worker = Worker(values, provider, Telemetry(tell), Redactor(), timings=QUICK, store=store)
    with ExitStack() as stack:
        if fault is not None:
            _arm(stack, pipe, worker, store, place, action)
        try:
            await worker.run(drain=True)
        except BaseExceptionGroup as group:
            errors = [repr(error) for error in _leaves(group)]
        else:
            errors = []
        await provider.aclose()
    pipe.send(("ended", errors))


def _arm(stack, pipe, worker, store, place, action):
    def switch_on():
        if action == "lost":
            store.losing.set()
        else:
            stack.enter_context(switched_on(place, partial(ACTIONS[action], pipe)))

    async def once_recorded():
        switch_on()
        if place in OF_A_RELEASE:
            worker.stop_now()

    if place in OF_A_RELEASE | OF_A_RENEWAL:
        stack.enter_context(switched_on("recorded", once_recorded))
    else:
        switch_on()


async def _exit(pipe):
    pipe.send(("fired", None))
    os.kill(os.getpid(), signal.SIGKILL)


async def _raise(pipe):
    pipe.send(("fired", None))
    raise InjectedError


async def _pause(pipe):
    pipe.send(("fired", None))
    pipe.recv()  # blocks the whole process: it renews no lease, reads no answer


ACTIONS = {"exit": _exit, "raise": _raise, "pause": _pause, "overtaken": _pause}


def _losing(pipe, statement):
    """A kind of store that loses its connection once, as soon as `losing` is set.

    The statement was committed by then, and its answer is not known.
    """
    ask, losing = getattr(Store, statement), anyio.Event()
    lost = []

    async def answerless(store, *arguments, **options):
        if not losing.is_set():
            return await ask(store, *arguments, **options)
        answer = await ask(store, *arguments, **options)
        if lost or answer == []:  # not when a claim or a look found nothing
            return answer
        lost.append(answer)
        pipe.send(("fired", None))
        getattr(store, _CONNECTIONS.get(statement, "_claims")).drop()
        store.availability.lost()
        raise ConnectionLostError("terminated by the test")

    return type("Losing", (Store,), {statement: answerless, "losing": losing})


def _leaves(group):
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
