"""When a refused API token is checked again, by the whole fleet.

A token may be good for the account and not for the model: its check passes, and creates are refused all the same. With
a check every CHECK_EVERY, each of them would fail one token. So whoever closes the gate for a refused create, after a
check had opened it, has the fleet wait twice as long. How long stands in the gate's row: see `pause_intake.sql`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from time import monotonic, time

CHECK_EVERY = 10.0  # seconds between checks of a refused API token
LONGEST = 3600.0  # seconds
REFUSED = "Invalid API token"


class Checks:
    """What one worker knows of the checks. It begins with one at once, because its token may be a new one."""

    def __init__(self) -> None:
        self._wait = 0.0  # seconds from the closing until the first check; then one follows every CHECK_EVERY
        self._due_at = 0.0  # monotonic seconds
        self._began = True  # it saw no closed gate before
        self._reopened = False  # a check passed, and no create was accepted since

    def closed(self, wait: float) -> None:
        """The gate was closed for a refused API token, and the fleet waits so many seconds."""
        self._due_at = monotonic() + (0.0 if self._began else wait)
        self._wait, self._began, self._reopened = wait, False, False

    def reopened(self) -> None:
        """The gate was opened again, before any create showed that it may be."""
        self._reopened = True

    def accepted(self) -> None:
        """A create was accepted."""
        self._wait, self._reopened = 0.0, False

    @property
    def due(self) -> bool:
        """Whether to check now."""
        return monotonic() >= self._due_at

    @property
    def wait(self) -> float:
        """Seconds until the next check, if the gate is closed now."""
        return min(max(2 * CHECK_EVERY, 2 * self._wait), LONGEST) if self._reopened else 0.0

    @property
    def reason(self) -> str:
        """Why the gate is closed, if it is closed now. The time makes it another pause than the one before."""
        if not self._reopened:
            return REFUSED
        next_at = datetime.fromtimestamp(time() + self.wait, tz=UTC)
        return f"{REFUSED}: creates are refused although its check passes; the next check is at {next_at:%H:%M:%S} UTC"
