"""What a step of the loop costs: processor time of this thread, in which no other program has a part."""

import gc
import time
from contextlib import contextmanager

MOST = 0.05  # seconds that one step may hold the loop
MOST_TRIES = 20


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
    """Processor time of a step, at its best: what it needs, and not what else was going on.

    Programs beside us slow the processor down for a while, so a step that seems too slow is tried more often.
    """
    best = min(_once(step, *given) for _ in range(times))
    tries = (_once(step, *given) for _ in range(MOST_TRIES))
    return best if best < MOST else min(best, next((spent for spent in tries if spent < MOST), best))


def _once(step, *given):
    began = time.thread_time()
    step(*given)
    return time.thread_time() - began
