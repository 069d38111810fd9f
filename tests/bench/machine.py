"""The load of other programs on the machine, to mark figures that it disturbed."""

import os
import time
from contextlib import suppress
from pathlib import Path

DISTURBED = 0.10  # share of the machine's CPU that other programs used or its host stole
_TICKS = os.sysconf("SC_CLK_TCK")


class Guard:
    """Measures other programs' share of the CPU, from its construction to `foreign()`."""

    def __init__(self):
        self._began, self._busy, self._ours = time.monotonic(), _busy(), _ours()

    def foreign(self):
        """The share of all CPUs, 0 to 1, that was used neither by us nor by our children."""
        seconds = max(time.monotonic() - self._began, 0.01)
        foreign = (_busy() - self._busy) - (_ours() - self._ours)
        return max(0.0, foreign / seconds / os.cpu_count())


def load_now(seconds=1.0):
    """Other programs' share of the CPUs while we do nothing."""
    guard = Guard()
    time.sleep(seconds)
    return guard.foreign()


def wait_for_quiet(most):
    """Wait up to `most` seconds until other programs' share is small; return that share."""
    deadline = time.monotonic() + most
    while (foreign := load_now()) > DISTURBED and time.monotonic() < deadline:
        pass
    return foreign


def cpu_seconds(pid):
    """Seconds of CPU that a process used, with the children that it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


def resident_megabytes(pid):
    """The memory that a process has in RAM."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def _busy():
    """Seconds of CPU used since boot: without idle and waiting time, but with the time that the host stole."""
    user, nice, system, _idle, _wait, irq, softirq, steal, *_ = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return (user + nice + system + irq + softirq + steal) / _TICKS


def _ours():
    """Seconds used by this process, its descendants, and those of them that ended."""
    children = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    total, pids = 0.0, [os.getpid()]
    while pids:
        pid = pids.pop()
        pids += children.get(pid, [])
        with suppress(OSError):
            total += cpu_seconds(pid)
    return total
