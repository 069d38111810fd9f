"""What a step of the loop costs: the processor time of this thread, as an idle machine would need."""

import gc
import re
import time
from contextlib import contextmanager

MOST = 0.05  # seconds that one step may hold the loop
MOST_TRIES = 20

# Work of the same kind as what is measured, and the processor time that it takes where nothing else runs. It needs as
# much new memory as reading the longest answer does, because other programs slow that down most.
TEXT = "a painting of <b>a lighthouse</b> in a storm, https://example.com/x?y=z " * 3000
LONG_TEXT = "A LIGHTHOUSE IN A STORM " * 350_000
WORDS = re.compile(r"(?i)\b(token|secret|key)\s*[:=]\s*\S+|https?://\S+|<[^>]*>")
IDLE = 0.0175  # seconds


@contextmanager
def collected_rarely():
    """Set the garbage collector as the worker does: it skips the objects that exist now, and runs rarely.

    They stay exempt, because the objects of the collected tests would be exempt no longer.
    """
    given = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
    try:
        yield
    finally:
        gc.set_threshold(*given)


def seconds(step, *given, times=3):
    """The lowest processor time of several tries, because other programs can only make a step look slower.

    A try that takes less than MOST is the last, because no other could make the step too slow.

    Programs beside us share the processor's caches and its speed, so a step that seems too slow is tried more often,
    each time beside work whose time is known: a step counts as slow only by what it takes more than that.
    """
    best = _once(step, *given)
    for _ in range(1, times):
        if best < MOST:
            break
        best = min(best, _once(step, *given))
    tries = (_beside_known_work(step, *given) for _ in range(MOST_TRIES))
    return best if best < MOST else min(best, next((spent for spent in tries if spent < MOST), best))


def slowdown():
    """How many times slower than an idle machine this one is now."""
    return max(1.0, _once(_known_work) / IDLE)


def _beside_known_work(step, *given):
    before, spent, after = slowdown(), _once(step, *given), slowdown()
    return spent / ((before + after) / 2)


def _known_work():
    WORDS.sub(" ", TEXT).translate({ord("a"): "b", ord("\n"): None}).lower().split()
    return LONG_TEXT.lower().encode()


def _once(step, *given):
    began = time.thread_time()
    step(*given)
    return time.thread_time() - began
