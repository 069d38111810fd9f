"""Whether a process runs, whether a server is ready, and how a server ends if its owner was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_WATCH = (
    "import contextlib, os, sys; sys.stdin.read(); \nwith contextlib.suppress(OSError): os.kill(int(sys.argv[1]), 2)"
)


def postmaster_pid(folder: Path) -> int | None:
    """The process id that the data folder names. That process may have ended."""
    with suppress(OSError, ValueError, IndexError):
        return int((folder / "postmaster.pid").read_text().split("\n")[0])
    return None


def is_ready(folder: Path, pid: int) -> bool:
    """Whether the server `pid` is ready. A killed server leaves a file that says `ready` too, with another pid."""
    with suppress(OSError, IndexError):
        lines = (folder / "postmaster.pid").read_text().split("\n")
        return lines[0].strip() == str(pid) and lines[7].strip() == "ready"
    return False


def runs(pid: int) -> bool:
    """Whether a process runs. A zombie does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    if Path("/proc/self").exists():
        return False
    with suppress(OSError):
        os.kill(pid, 0)
        return True
    return False


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a child of ours and the processes that it started, and wait until it has ended."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # it was started in a session of its own
    process.wait()


@contextmanager
def signals_held() -> Iterator[None]:
    """Delay the handlers of SIGINT and SIGTERM until the block ends.

    The handlers are replaced for that time. Blocking the signals would not help, because another thread would take them
    and their handlers would still run in the main thread. In another thread than the main one this does nothing,
    because no handler runs there.
    """
    held: list[int] = []
    before: dict[signal.Signals, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before[number] = signal.signal(number, lambda number, _: held.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: Python did not set the handler
        for caught in held:
            signal.raise_signal(caught)


def watch(pid: int) -> subprocess.Popen[bytes] | None:
    """Start a process that stops the server when our end of its pipe closes. Linux has the parent-death signal."""
    if sys.platform == "linux":
        return None
    command = [sys.executable, "-I", "-S", "-c", _WATCH, str(pid)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
