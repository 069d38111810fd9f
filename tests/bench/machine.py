"""What the machine does beside us: a figure that others disturbed is marked."""

import os
import time
from contextlib import suppress
from pathlib import Path

DISTURBED = 0.10  # of the machine's CPU, taken by others or stolen by its host
_TICKS = os.sysconf("SC_CLK_TCK")


class Guard:
    """Measures others' share of the CPU, from its making to `foreign()`."""

    def __init__(self):
        self._began, self._busy, self._ours = time.monotonic(), _busy(), _ours()

    def foreign(self):
        """The share of all CPUs, 0 to 1, that neither we nor our children had."""
        seconds = max(time.monotonic() - self._began, 0.01)
        foreign = (_busy() - self._busy) - (_ours() - self._ours)
        return max(0.0, foreign / seconds / os.cpu_count())


def load_now(seconds=1.0):
    """Others' share while we do nothing."""
    guard = Guard()
    time.sleep(seconds)
    return guard.foreign()


def wait_for_quiet(most):
    """Wait up to `most` seconds until others leave the machine alone; return their share."""
    deadline = time.monotonic() + most
    while (foreign := load_now()) > DISTURBED and time.monotonic() < deadline:
        pass
    return foreign


def cpu_seconds(pid):
    """What a process and the children that it waited for have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


def resident_megabytes(pid):
    """The memory that a process has in RAM."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def _busy():
    """Seconds of CPU used since boot: all but idle and waiting, what the host stole included."""
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
