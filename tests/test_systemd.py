"""What a service manager, such as systemd, receives from `reactor run` on a datagram socket."""

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import anyio
import pytest
from test_end_to_end import Lines, complete

from reactor.database.session import Session
from reactor.engine.health import Health
from reactor.systemd import ServiceManager

AWAY = "postgresql://nobody:hidden_password@127.0.0.1:1/nowhere"
WITHIN = 20  # seconds for a state that must come
WATCHDOG = 0.2  # seconds
MICROSECONDS = f"{WATCHDOG * 1e6:.0f}"
# `reactor run`, whose loop SIGUSR1 blocks until a line comes on stdin. At its end it says whether it loaded the module.
PROGRAM = """
import json, signal, sys
from reactor.__main__ import main
def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)
signal.signal(signal.SIGUSR1, lambda *_: say("stuck") or sys.stdin.readline())
sys.argv = ["reactor", "run"]
try:
    main()
finally:
    say("ended", loaded="reactor.systemd" in sys.modules)
"""


class Manager:
    """Receives the states, each as NAME=VALUE."""

    def __init__(self, address):
        self.name = address.replace("\0", "@")
        self.received = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)

    def until(self, state):
        """Receive until a state begins with this text; return it."""
        deadline = time.monotonic() + WITHIN
        while not (found := [each for each in self.received if each.startswith(state)]):
            assert self.more(deadline - time.monotonic()), f"no {state} in {self.received}"
        return found[-1]

    def more(self, seconds):
        """Receive one datagram within so many seconds; return its states."""
        self.socket.settimeout(max(seconds, 0.001))
        try:
            states = self.socket.recv(4096).decode().split("\n")
        except TimeoutError:
            return []
        self.received += states
        return states

    def rest(self):
        """Receive every datagram that was sent before now; return their states."""
        before = len(self.received)
        while self.more(0):
            pass
        return self.received[before:]


@pytest.fixture
def manager():
    with tempfile.TemporaryDirectory(prefix="r") as folder:  # pytest's folders are too long for the name of a socket
        listening = Manager(f"{folder}/notify")
        with listening.socket:
            yield listening


@pytest.fixture
def abstract_manager():
    listening = Manager(f"\0reactor-{uuid.uuid4().hex}")
    with listening.socket:
        yield listening


@contextlib.contextmanager
def running(database, **environment):
    """A process of PROGRAM, in these tests' copy of the code; killed at the end, unless it ended before."""
    given = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "DATABASE_URL": database,
        "REPLICATE_API_TOKEN": "r8_x",
        "REPLICATE_BASE_URL": "http://127.0.0.1:1",
        "FALLBACK_CENSORED_PROMPT": "a calm sea",
        "HTTP_PORT": "0",
        **environment,
    }
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=given, cwd="/", stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )
    try:
        yield process, Lines(process)
    finally:
        process.kill()
        process.communicate()


def stop(process, lines):
    process.send_signal(signal.SIGTERM)
    lines.until("ended")
    assert process.wait(WITHIN) == 0


def test_it_is_ready_once_it_listens_and_says_when_it_stops(database, manager):
    with running(database, NOTIFY_SOCKET=manager.name) as (process, lines):
        manager.until("READY=1")
        lines.until("listener.connected")
        manager.until("STATUS=0 of 10 slots in use; listening")
        before = list(manager.received)
        stop(process, lines)
        manager.until("STATUS=stopping; 0 of 10 slots in use")

    assert "STOPPING=1" not in before
    assert manager.received[-1] == "STOPPING=1"
    assert manager.received.count("READY=1") == 1


def test_a_start_without_a_database_is_ready_and_says_what_it_waits_for(manager):
    with running(AWAY, NOTIFY_SOCKET=manager.name) as (process, lines):
        manager.until("READY=1")
        manager.until("STATUS=waiting for the database; the log says why")
        told = lines.until("worker.error")
        stop(process, lines)
        manager.until("STOPPING=1")
        err = process.stderr.read()

    assert "refused" in told["error_message"] or "Connect" in told["error_message"]
    assert err == ""
    assert lines.of("listener.connected") == []
    assert "hidden_password" not in "".join(manager.received)


def test_a_start_without_our_tables_is_never_ready(empty_database, manager):
    with running(empty_database, NOTIFY_SOCKET=manager.name) as (process, _):
        assert process.wait(WITHIN) == 1

    assert "READY=1" not in manager.rest()


@pytest.mark.anyio
async def test_the_status_counts_the_slots_in_use_until_the_last_is_free(database, manager, make_token):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        provider = {"REPLICATE_BASE_URL": f"http://127.0.0.1:{silent.getsockname()[1]}", "SHUTDOWN_GRACE_SECONDS": "60"}
        with running(database, NOTIFY_SOCKET=manager.name, **provider) as (process, lines):
            manager.until("STATUS=0 of 10 slots in use; listening")
            await make_token()
            manager.until("STATUS=1 of 10 slots in use; listening")
            process.send_signal(signal.SIGTERM)
            manager.until("STATUS=stopping; 1 of 10 slots in use")
            manager.until("STOPPING=1")
            stop(process, lines)


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
def test_an_abstract_name_is_a_socket_too(database, abstract_manager):
    with running(database, NOTIFY_SOCKET=abstract_manager.name) as (process, lines):
        abstract_manager.until("READY=1")
        stop(process, lines)


def test_the_status_tells_of_a_closed_gate_and_not_why(database, manager):
    complete("pause", "--reason", "a private reason", DATABASE_URL=database)
    with running(database, NOTIFY_SOCKET=manager.name) as (process, lines):
        manager.until("STATUS=0 of 10 slots in use; listening; the gate is closed")
        stop(process, lines)

    assert "private" not in "".join(manager.received)


def test_a_stuck_loop_sends_no_watchdog(database, manager):
    with running(database, NOTIFY_SOCKET=manager.name, WATCHDOG_USEC=MICROSECONDS) as (process, lines):
        manager.until("READY=1")
        manager.until("WATCHDOG=1")
        process.send_signal(signal.SIGUSR1)
        lines.until("stuck")
        manager.rest()
        stuck = manager.more(3 * WATCHDOG)
        process.stdin.write("\n")
        process.stdin.flush()
        manager.received.clear()
        manager.until("WATCHDOG=1")
        process.send_signal(signal.SIGTERM)

        assert lines.until("ended")["loaded"] is True
    assert stuck == []


def test_without_a_service_manager_its_module_is_not_loaded(database):
    with running(database, NOTIFY_SOCKET="", WATCHDOG_USEC=MICROSECONDS) as (process, lines):
        lines.until("listener.connected")
        process.send_signal(signal.SIGTERM)

        assert lines.until("ended")["loaded"] is False


@pytest.fixture
def reporting(manager):
    """Report to the manager, as `run` does for a worker whose database is away, until the block is left."""

    @contextlib.asynccontextmanager
    async def reporting(**environment):
        ours = ServiceManager.of({"NOTIFY_SOCKET": manager.name, **environment})
        health = Health(Session(AWAY, name="test"), "tokens_s0", slots=10)
        async with anyio.create_task_group() as group:
            group.start_soon(ours.run, health)
            yield ours
            group.cancel_scope.cancel()

    return reporting


async def received(manager, state, times=1):
    with anyio.fail_after(WITHIN):
        while manager.received.count(state) < times:
            manager.rest()
            await anyio.sleep(0.01)


@pytest.mark.anyio
async def test_a_sign_of_life_comes_twice_within_the_watchdogs_limit(manager, reporting):
    async with reporting(WATCHDOG_USEC=MICROSECONDS, WATCHDOG_PID=f"{os.getpid()}"):
        times = []
        for count in range(1, 8):
            await received(manager, "WATCHDOG=1", times=count)
            times.append(time.monotonic())

    assert times[-1] - times[0] > 2 * WATCHDOG
    assert min(after - before for before, after in itertools.pairwise(times)) < WATCHDOG * 0.9


@pytest.mark.anyio
@pytest.mark.parametrize(
    "given",
    [
        {"WATCHDOG_USEC": MICROSECONDS, "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": ""},
        {},
    ],
    ids=str,
)
async def test_who_waits_for_no_sign_of_life_gets_none(manager, reporting, given):
    async with reporting(**given):
        await received(manager, "STATUS=starting")
        await anyio.sleep(WATCHDOG)

    assert "WATCHDOG=1" not in manager.received + manager.rest()


@pytest.mark.anyio
async def test_what_a_busy_manager_does_not_take_is_sent_again(manager, reporting):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                other.sendto(b"X=1", manager.name)
        async with reporting() as ours:
            ours("listener.connected", {})
            began = time.monotonic()
            await anyio.wait_all_tasks_blocked()
            assert time.monotonic() - began < 3  # the loop did not wait for the manager
            assert set(manager.rest()) == {"X=1"}
            await received(manager, "READY=1")


@pytest.mark.anyio
async def test_a_manager_that_is_gone_ends_nothing(manager, reporting):
    manager.socket.close()
    async with reporting(WATCHDOG_USEC=MICROSECONDS) as ours:
        ours("listener.connected", {})
        await anyio.wait_all_tasks_blocked()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("told", "status"),
    [
        ([], "0 of 10 slots in use; starting to listen"),
        ([("listener.lost", {})], "0 of 10 slots in use; the listener's connection to the database is lost"),
        ([("listener.degraded", {})], "0 of 10 slots in use; no notifications arrive, so tokens wait for the sweep"),
        (
            [("intake.paused", {"worker_only": True}), ("intake.paused", {}), ("intake.resumed", {})],
            "0 of 10 slots in use; starting to listen; this worker does not reach the provider",
        ),
        ([("worker.stopping", {})], "stopping; 0 of 10 slots in use"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_each_state_is_one_plain_sentence(manager, told, status):
    ours = ServiceManager.of({"NOTIFY_SOCKET": manager.name})
    health = Health(Session(AWAY, name="test"), "tokens_s0", slots=10)
    async with anyio.create_task_group() as group:
        group.start_soon(ours.run, health)
        for event, fields in [("worker.started", {}), *told]:
            health(event, fields)
            ours(event, fields)
        await received(manager, f"STATUS={status}")
        group.cancel_scope.cancel()
