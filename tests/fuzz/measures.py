"""The worker's costs: the processor time of each step of its loop, whatever the machine's load is, and memory."""

import asyncio
import gc
import re
import threading
import time
from contextlib import contextmanager
from pathlib import Path

LONGEST_STEP = 0.05  # seconds
MOST_GROWTH = 64  # MB


class Steps:
    """The longest step of one thread's loop. It must be asyncio's loop: uvloop's steps cannot be measured."""

    def __init__(self):
        self.thread = None
        self.begin()

    def begin(self):
        self.longest, self.what = 0.0, ""

    @contextmanager
    def measured(self):
        run = asyncio.Handle._run

        def measuring(handle):
            if threading.get_ident() != self.thread:
                return run(handle)
            began = time.thread_time()
            try:
                return run(handle)
            finally:
                cost = time.thread_time() - began
                if cost > self.longest:
                    self.longest, self.what = cost, repr(handle)[:300]

        asyncio.Handle._run = measuring
        try:
            yield self
        finally:
            asyncio.Handle._run = run


def memory(name):
    """VmRSS or VmHWM of this process, in MB."""
    told = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(rf"^{name}:\s+(\d+) kB", told, re.MULTILINE)[1]) / 1024


class Growth:
    """How far the peak of memory lies above its size at the beginning."""

    def begin(self):
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM, the peak
        self._before = memory("VmRSS")

    @property
    def most(self):
        return memory("VmHWM") - self._before
