"""A worker in a process of its own, in which one thing goes wrong at one place.

Forked from a server that has imported everything: a death by SIGKILL costs no start of an interpreter. Everything that
the worker tells goes through a pipe, so that nothing is lost with it.
"""

import gc
import multiprocessing
import os
import signal
import ssl
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from multiprocessing import forkserver
from pathlib import Path

import anyio
from cases import OF_A_RELEASE, OF_A_RENEWAL
from doubles import settings

from reactor import attempt, database, purchase, rescuer, settler
from reactor.database import ConnectionLostError
from reactor.failpoints import switched_on
from reactor.providers.replicate import ReplicateProvider
from reactor.redaction import Redactor
from reactor.store import Store
from reactor.telemetry import Telemetry
from reactor.worker import Worker

_TLS = ssl.create_default_context()  # reading the authorities takes longer than most cases
_CONNECTIONS = {"renew": "_renewals", "record": "_writes", "censor": "_writes", "settle": "_writes"} | dict.fromkeys(
    ("next_due", "ring"), "_rest"
)

processes = multiprocessing.get_context("forkserver")


class InjectedError(Exception):
    """Nobody expects it."""


def start_server(monkeypatch):
    """Have everything imported once. The server does not take over our sys.path, so that it is told by environment."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    processes.set_forkserver_preload(["faults", "pytest"])
    forkserver.ensure_running()


class Process:
    """A worker as its test sees it: what it told, when it met its fault, when it was gone."""

    def __init__(self):
        self.events = []
        self.errors = None  # the exceptions that it ended with; None: it was killed
        self.fired = anyio.Event()
        self.gone = anyio.Event()
        self._pipe, self._theirs = processes.Pipe()

    @asynccontextmanager
    async def run(self, *arguments, **settings):
        """Killed at the end, unless it has ended before."""
        process = processes.Process(target=main, args=(self._theirs, *arguments), kwargs=settings)
        process.start()
        self._theirs.close()
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._hear)
                yield self
                await self.gone.wait()
        finally:
            process.kill()
            process.join()
            process.close()
            self._pipe.close()

    def go_on(self):
        """End a pause."""
        self._pipe.send(None)

    async def met(self):
        """Wait until it has met its fault, or is gone."""
        async with anyio.create_task_group() as group:

            async def end_after(event):
                await event.wait()
                group.cancel_scope.cancel()

            group.start_soon(end_after, self.fired)
            group.start_soon(end_after, self.gone)

    async def _hear(self):
        while True:
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


def main(pipe, database_url, base_url, fault, **given):
    """What runs in the process. `fault`: a place and an action, or None."""
    rescuer.RESCUE_EVERY, rescuer.STEADY_AFTER = 0.1, 0.2
    purchase.LOOK_EVERY, purchase.SURE_AFTER = 0.1, 0.5
    settler.ANSWER_WITHIN = attempt.CENSOR_WITHIN = 0.5
    ssl.create_default_context = lambda *_arguments, **_settings: _TLS
    database.SERVER_SETTINGS["reactor.process"] = str(os.getpid())  # so that a write tells whose it was
    gc.disable()  # it would copy what the processes share
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the tests'
    anyio.run(partial(_work, pipe, database_url, base_url, fault, **given), backend_options={"use_uvloop": True})


async def _work(pipe, database_url, base_url, fault, **given):
    def tell(event, fields):
        pipe.send(("event", {"event": event, **fields}))

    values = settings(database_url, lease_seconds=1, poll_interval_seconds=0.2, **given)
    provider = ReplicateProvider("r8_made_up_token", base_url=base_url)
    worker = Worker(values, provider, Telemetry(tell), Redactor())
    with ExitStack() as stack:
        if fault is not None:
            _arm(stack, pipe, worker, *fault)
        try:
            await worker.run(drain=True)
        except BaseExceptionGroup as group:
            pipe.send(("ended", [repr(error) for error in _leaves(group)]))
        else:
            pipe.send(("ended", []))
        await provider.aclose()


def _arm(stack, pipe, worker, place, action):
    def switch_on():
        if action == "lost":
            _lose(pipe, place)
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
    pipe.recv()  # blocks the whole process: no lease is renewed, no answer read


ACTIONS = {"exit": _exit, "raise": _raise, "pause": _pause, "overtaken": _pause}


def _lose(pipe, statement):
    """Lose the connection once, after the statement was committed and before its answer is known."""
    ask = getattr(Store, statement)
    lost = []

    async def answerless(store, *arguments, **options):
        answer = await ask(store, *arguments, **options)
        if lost or answer == []:  # a claim or a look that found nothing is not what is meant
            return answer
        lost.append(answer)
        pipe.send(("fired", None))
        getattr(store, _CONNECTIONS.get(statement, "_claims")).drop()
        store.reach.lost()
        raise ConnectionLostError("terminated by the test")

    setattr(Store, statement, answerless)


def _leaves(group):
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
