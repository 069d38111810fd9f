"""The events of an attempt: that it began, and how it ended."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

from reactor import events
from reactor.text.echoes import Echoes
from reactor.tokens import Failed, Released, Retry, Succeeded, became

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
        """An attempt begins: it buys a prediction, or resumes one."""
        event = events.GENERATION_RESUMED if claim.prediction_id else events.GENERATION_STARTED
        fields: dict[str, Any] = {"attempt": claim.attempts + 1, "max_attempts": self._rules.max_attempts}
        fields |= {"censored": claim.censored or None}
        fields |= {"prediction_id": claim.prediction_id, "traceparent": claim.traceparent}
        self._telemetry.emit(event, token_id=claim.token_id, epoch=claim.epoch, **_known(fields))

    def lost(self, lost: Outcome, *, settling: float | None = None) -> None:
        """This worker holds the token no longer. `lost`: what its attempt came to. `settling`: see `ended`."""
        claim, fields = lost.claim, _known({"settle_seconds": None if settling is None else round(settling, 6)})
        told = {"prediction_id": lost.prediction_id, **fields}
        self._telemetry.emit(events.LEASE_LOST, token_id=claim.token_id, epoch=claim.epoch, **told)
        self._purchase_ended(lost, "lost" if lost.prediction_id else None)

    def unsettled(self, outcome: Outcome, kind: str, message: str) -> None:
        """An outcome is not known to be written. Its prediction is named, because it may have been paid for."""
        fields = {"token_id": outcome.claim.token_id, "prediction_id": outcome.prediction_id}
        self._telemetry.emit(events.WORKER_ERROR, role="attempt", **fields, error_type=kind, error_message=message)

    def crashed(self, attempt: Attempt, error: Exception) -> None:
        """An attempt met a bug of ours. Only its place is logged, because the error's message may repeat the prompt."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        self._telemetry.emit(
            events.WORKER_ERROR,
            role="attempt",
            token_id=attempt.claim.token_id,
            prediction_id=attempt.prediction_id,
            error_type=type(error).__name__,
            error_message=f"in {place.name}, {Path(place.filename).name}:{place.lineno}",
        )

    def ended(self, outcome: Outcome, duration: float, *, settling: float) -> None:
        """The outcome is written. `duration`: seconds that the attempt took, of which writing took `settling`."""
        self._purchase_ended(outcome, became(outcome))
        claim = outcome.claim
        settled = {"token_id": claim.token_id, "epoch": claim.epoch, "settle_seconds": round(settling, 6)}
        fields: dict[str, Any] = {**settled, "duration_seconds": round(duration, 3)}
        match outcome:
            case Succeeded():
                fields |= {"image_url": self._logged_url(outcome), "prediction_id": outcome.prediction_id}
                self._telemetry.emit(events.GENERATION_SUCCEEDED, attempt=claim.attempts + 1, **fields)
            case Retry():
                event, fields["retry_in_seconds"] = events.GENERATION_RETRIED, round(outcome.due_in, 3)
                self._telemetry.emit(event, **fields, **self._error(outcome), attempt=claim.attempts + 1)
            case Failed():
                event = events.GENERATION_EXHAUSTED if outcome.exhausted else events.GENERATION_FAILED
                self._telemetry.emit(event, **fields, **self._error(outcome), attempt=claim.attempts + 1)
            case Released():
                self._telemetry.emit(events.GENERATION_RELEASED, **settled, **self._error(outcome))
            case _:
                assert_never(outcome)

    def _purchase_ended(self, outcome: Outcome, how: str | None) -> None:
        if how is not None:
            fields = {"prediction_id": outcome.prediction_id, "images": outcome.receipt.images}
            self._telemetry.emit(events.PURCHASE_ENDED, token_id=outcome.claim.token_id, outcome=how, **fields)

    def _logged_url(self, outcome: Succeeded) -> str:
        """The image's URL without the prompt, because a provider may name a file after its prompt.

        The token's row keeps the URL unchanged.
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
        return _known(fields)


def _known(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
