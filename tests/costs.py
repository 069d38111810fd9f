"""What a step of the loop costs: processor time of this thread, which the machine's load does not change."""

import gc
import time
from contextlib import contextmanager

MOST = 0.05  # seconds that one step may hold the loop


@contextmanager
def collected_rarely():
    """As the worker has it: the collector does not look through what is here for good."""
    given = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
    try:
        yield
    finally:
        gc.set_threshold(*given)
        gc.unfreeze()


def seconds(step, *given, times=3):
    """Processor time of a step, at its best: what it needs, and not what else was going on."""
    return min(_once(step, *given) for _ in range(times))


def _once(step, *given):
    began = time.thread_time()
    step(*given)
    return time.thread_time() - began
