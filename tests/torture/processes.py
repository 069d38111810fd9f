"""Programs that we end, and that end with us even if we are killed."""

import ctypes
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

_LIBC = ctypes.CDLL(None)
_KEPT = {"PATH", "HOME", "LANG", "SSL_CERT_FILE"}
# The tests first, then the reactor that is tested, if it is not the installed one.
_PATH = os.pathsep.join(filter(None, (str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH"))))


def _die_with_owner():
    if sys.platform == "linux":
        _LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def environment(**given):
    """Only the environment variables that a program needs."""
    return {name: value for name, value in os.environ.items() if name in _KEPT} | {"PYTHONPATH": _PATH, **given}


def start(command, *, log, **given):
    """Start a program with only the environment variables that it needs. Main thread only."""
    with log.open("wb") as out, log.with_suffix(".err").open("wb") as err:
        return subprocess.Popen(
            command,
            env=environment(**given),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            preexec_fn=_die_with_owner,  # noqa: PLW1509  (the harness has no threads that hold a lock)
        )


def reactor(*arguments):
    return [Path(sys.executable).with_name("reactor"), *arguments]


def module(name, *arguments):
    return [sys.executable, "-m", name, *arguments]


@contextmanager
def ended(popen):
    """Kill a program at the end of the block."""
    try:
        yield popen
    finally:
        popen.kill()
        popen.wait()


class Program:
    """A worker process. Every write of its connections carries its number, every token that it holds has its key."""

    def __init__(self, number, popen, log):
        self.number = number
        self.popen = popen
        self._log = log
        self._told = {}

    def told(self, event):
        """The first line of its log with this event, or None."""
        if event not in self._told:
            for line in self._log.read_bytes().splitlines(keepends=True):
                if b'"%s"' % event.encode() in line and line.endswith(b"\n"):
                    self._told[event] = json.loads(line)
                    break
        return self._told.get(event)

    @property
    def key(self):
        started = self.told("worker.started")
        return started and started["worker"]

    @property
    def listens(self):
        return self.popen.poll() is None and self.told("listener.connected") is not None

    @property
    def trouble(self):
        """Its output on stderr, where a sound worker writes nothing."""
        return self._log.with_suffix(".err").read_text(errors="replace")
