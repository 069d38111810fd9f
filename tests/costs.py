"""What a step of the loop costs: the processor time of this thread, which excludes other programs."""

import gc
import time
from contextlib import contextmanager

MOST = 0.05  # seconds that one step may hold the loop
MOST_TRIES = 20


@contextmanager
def collected_rarely():
    """Set the garbage collector as the worker does: it skips the objects that exist now, and runs rarely."""
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
    """The lowest processor time of several tries, because other programs can only make a step look slower.

    They slow the processor down for a while, so a step that seems too slow is tried more often.
    """
    best = min(_once(step, *given) for _ in range(times))
    tries = (_once(step, *given) for _ in range(MOST_TRIES))
    return best if best < MOST else min(best, next((spent for spent in tries if spent < MOST), best))


def _once(step, *given):
    began = time.thread_time()
    step(*given)
    return time.thread_time() - began
