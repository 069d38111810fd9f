"""Logs each change of the gate, also those that other workers or an operator made."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from reactor import events

if TYPE_CHECKING:
    from reactor.telemetry import Telemetry
    from reactor.tokens import Claim


class Announcer:
    """Emits `intake.paused` and `intake.resumed` in turn, each once for a pause.

    The gate's row is read and written on one connection, so its states are reported here in their order. Claims are
    made on another connection: a claim shows that the gate is open only if it was sent after the last report.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._said: tuple[str, str] | None = None  # kind and reason of the pause; None: open
        self._said_at = 0.0  # monotonic seconds

    @property
    def paused(self) -> bool:
        """Whether the gate was closed, as far as this worker knows."""
        return self._said is not None

    def closed(self, seconds: float | None, reason: str, opens_on: str, *, was_open: bool = False) -> None:
        """Report that the gate is closed for `seconds` (None: without end). `was_open`: this worker has just closed it.

        Two pauses of one kind in a row are logged once. The kind is what opens the gate. For an operator's pause, or
        one without end, the reason is a part of it.
        """
        if was_open:
            self.opened()
        kind = f"{opens_on}: {reason}" if seconds is None or opens_on == "time" else opens_on
        news = self._said is None or self._said[0] != kind
        self._say(kind, reason)
        if news:
            self._telemetry.emit(events.INTAKE_PAUSED, reason=reason, seconds=seconds)

    def opened(self) -> None:
        """Report that the gate is open."""
        if self._said is None:
            return
        _, reason = self._said
        self._said = None
        self._telemetry.emit(events.INTAKE_RESUMED, reason=reason)

    def raised(self, reason: str, *, budget: int, bought: int) -> None:
        """Report that this worker opened the gate, because its budget is larger than the one that was spent."""
        self._said = None
        self._telemetry.emit(events.INTAKE_RESUMED, reason=reason, daily_budget=budget, bought_today=bought)

    def let_through(self, claim: Claim, probe: str | None) -> None:
        """Report that a token was claimed. Unless it is a probe, the gate was open after the claim was sent."""
        if self._said is not None and not probe and claim.asked_at > self._said_at:
            self.opened()

    def _say(self, kind: str, reason: str) -> None:
        self._said, self._said_at = (kind, reason), time.monotonic()
