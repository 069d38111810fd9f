"""When a refused API token is checked again."""

from __future__ import annotations

import time

CHECK_EVERY = 10.0  # seconds between checks of a refused API token
LONGEST = 3600.0  # seconds
REFUSED = "Invalid API token"


class Checks:
    """Waits twice as long each time that a check passes and creates are refused all the same.

    A token may be good for the account and not for the model: without this, one token a check would fail.
    """

    def __init__(self) -> None:
        self._wait = 0.0  # seconds after the gate was closed until the first check; then one follows every CHECK_EVERY
        self._closed_at = 0.0  # monotonic seconds
        self._reopened = False  # a check passed, and no create was accepted since

    def closed(self) -> None:
        """The gate was closed for a refused API token."""
        self._wait, self._reopened, self._closed_at = self._next(), False, time.monotonic()

    def reopened(self) -> None:
        """The gate was opened again, before any create showed that it may be."""
        self._reopened = True

    def accepted(self) -> None:
        """A create was accepted."""
        self._wait, self._reopened = 0.0, False

    @property
    def due(self) -> bool:
        """Whether to check now."""
        return time.monotonic() >= self._closed_at + self._wait

    @property
    def reason(self) -> str:
        """Why the gate is about to be closed."""
        if not self._reopened:
            return REFUSED
        return f"{REFUSED}: creates are refused although its check passes; the next check is in {self._next():g} s"

    def _next(self) -> float:
        return min(max(2 * CHECK_EVERY, 2 * self._wait), LONGEST) if self._reopened else self._wait
