"""How long to wait before trying again. Pure functions; every duration is in seconds."""

import random

# A generator of its own: a host application may seed the global one, and then all its workers would retry at once.
chance = random.Random()
_LONGEST_RETRY = 3600.0  # seconds; 2**n exceeds it from the thirteenth attempt


def retry_delay(attempts_before: int) -> float:
    """Seconds until the next attempt, with `attempts_before` counted before this one: 1, 2, 4 … ± 10 %."""
    return min(2.0 ** min(attempts_before, 32), _LONGEST_RETRY) * chance.uniform(0.9, 1.1)


def reconnect_delay(failures: int, *, first: float = 0.1, longest: float = 5.0) -> float:
    """Seconds before the next try to reach the database: up to 0.1, 0.2, 0.4 … 5, with a jitter down to a fifth.

    The wide jitter spreads out a fleet that lost its database at one instant.
    """
    return chance.uniform(0.2, 1.0) * min(first * 2.0 ** min(failures, 16), longest)


def locked_delay(failures: int) -> float:
    """Seconds before the next try at a row that another session has locked: up to 0.01, 0.02 … 1, jittered."""
    return chance.uniform(0.5, 1.0) * min(0.01 * 2.0 ** min(failures, 16), 1.0)


def jittered(seconds: float, share: float = 0.2) -> float:
    """`seconds` ± `share`, so that the workers of a fleet do not act at the same moments."""
    return seconds * chance.uniform(1.0 - share, 1.0 + share)
