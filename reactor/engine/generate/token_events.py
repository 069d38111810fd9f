"""What an attempt tells of its token: that it began, and how it ended."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

from reactor import events
from reactor.text.echoes import Echoes
from reactor.tokens import Failed, Released, Retry, Succeeded

if TYPE_CHECKING:
    from reactor.engine.generate.attempt import Attempt, Rules
    from reactor.telemetry import Telemetry
    from reactor.tokens import Claim, Outcome


class TokenEvents:
    """Emits the events of the attempts of one worker."""

    def __init__(self, telemetry: Telemetry, rules: Rules) -> None:
        self._telemetry = telemetry
        self._rules = rules

    def began(self, claim: Claim) -> None:
        """An attempt buys, or resumes what was bought."""
        event = events.GENERATION_RESUMED if claim.prediction_id else events.GENERATION_STARTED
        fields: dict[str, Any] = {"prediction_id": claim.prediction_id} if claim.prediction_id else {}
        attempt = claim.attempts + 1
        self._telemetry.emit(
            event, token_id=claim.token_id, attempt=attempt, max_attempts=self._rules.max_attempts, **fields
        )

    def lost(self, claim: Claim, prediction_id: str | None) -> None:
        """The token is another worker's now."""
        self._telemetry.emit(events.LEASE_LOST, token_id=claim.token_id, prediction_id=prediction_id)

    def unsettled(self, outcome: Outcome, kind: str, message: str) -> None:
        """An outcome is not written down. Its prediction is named, because it may have been paid for."""
        told = {"token_id": outcome.claim.token_id, "prediction_id": outcome.prediction_id}
        self._telemetry.emit(events.WORKER_ERROR, role="attempt", **told, error_type=kind, error_message=message)

    def crashed(self, attempt: Attempt, error: Exception) -> None:
        """A bug of ours. Only the place of the error is told, because its message may repeat the prompt."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        self._telemetry.emit(
            events.WORKER_ERROR,
            role="attempt",
            token_id=attempt.claim.token_id,
            prediction_id=attempt.prediction_id,
            error_type=type(error).__name__,
            error_message=f"in {place.name}, {Path(place.filename).name}:{place.lineno}",
        )

    def ended(self, outcome: Outcome, duration: float) -> None:
        """The outcome is written. `duration`: seconds that the attempt took."""
        claim = outcome.claim
        told: dict[str, Any] = {"token_id": claim.token_id, "duration_seconds": round(duration, 3)}
        match outcome:
            case Succeeded():
                told |= {"image_url": self._told_url(outcome), "prediction_id": outcome.prediction_id}
                self._telemetry.emit(events.GENERATION_SUCCEEDED, attempt=claim.attempts + 1, **told)
            case Retry():
                event, told["retry_in_seconds"] = events.GENERATION_RETRIED, round(outcome.due_in, 3)
                self._telemetry.emit(event, **told, **self._error(outcome), attempt=claim.attempts + 1)
            case Failed():
                event = events.GENERATION_EXHAUSTED if outcome.exhausted else events.GENERATION_FAILED
                self._telemetry.emit(event, **told, **self._error(outcome), attempt=claim.attempts + 1)
            case Released():
                self._telemetry.emit(events.GENERATION_RELEASED, token_id=claim.token_id, **self._error(outcome))
            case _:
                assert_never(outcome)

    def _told_url(self, outcome: Succeeded) -> str:
        """The image's URL as the log may have it, because a provider can name a file after its prompt.

        The row has it as it is.
        """
        return Echoes(outcome.claim.prompt, *self._rules.prompts).hide(outcome.image_url)

    def _error(self, outcome: Retry | Failed | Released) -> dict[str, Any]:
        message = outcome.reason if isinstance(outcome, Released) else outcome.error
        fields = {
            "max_attempts": self._rules.max_attempts,
            "error_type": outcome.error_type,
            "error_message": message,
            "prediction_id": outcome.prediction_id,
        }
        return {name: value for name, value in fields.items() if value is not None}
