"""The outcome table: what an error does to the token. No side effects; what it does to the gate is in `gate.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reactor.backoff import retry_delay
from reactor.engine.gate.blame import Blamed, Excused
from reactor.errors import (
    AccountError,
    AmbiguousCreateError,
    ContentPolicyError,
    RateLimitedError,
    TransientError,
    UnauthorizedError,
)
from reactor.text.messages import message_of
from reactor.tokens import Failed, Released, Retry

if TYPE_CHECKING:
    from reactor.engine.gate.blame import Blame
    from reactor.errors import GenerationError
    from reactor.tokens import Claim


def outcome_of(
    claim: Claim,
    error: GenerationError,
    *,
    blame: Blame,
    sure_in: float,
    prediction_id: str | None,
    max_attempts: int,
    count_rate_limits: bool,
) -> Retry | Failed | Released:
    """Return what becomes of a token whose attempt ended in `error`.

    A content rejection gets here only if the fallback prompt was rejected too. `sure_in`: seconds until one look at
    the provider's list tells what was bought.
    """
    wait = blame.wait if isinstance(blame, Excused) else 0.0
    match error:
        case TransientError() if isinstance(blame, Blamed):
            delay = retry_delay(claim.attempts) if error.retry_after is None else error.retry_after
            due_in = max(delay, sure_in)
            return _again(claim, error, prediction_id, max_attempts, count_rate_limits=count_rate_limits, due_in=due_in)
        case TransientError():
            return _released(claim, error, prediction_id, due_in=max(wait, error.retry_after or 0.0, sure_in))
        case AccountError() | AmbiguousCreateError():
            # An ambiguous create is normally looked for before it gets here. If not, its seed stays on the token.
            return _released(claim, error, prediction_id, due_in=max(wait, sure_in))
        case UnauthorizedError() if isinstance(blame, Excused) or not error.purchase_over:
            # One failed token shows that the API token is refused, so the others under way need not fail too. And a
            # prediction that was bought is not thrown away.
            return _released(claim, error, prediction_id, due_in=sure_in)
        case ContentPolicyError():
            return Failed(claim, message_of(error), error.kind, claim.attempts + 1, prediction_id)
        case _:
            return Failed(claim, message_of(error), error.kind, claim.attempts, prediction_id)


def _again(
    claim: Claim,
    error: TransientError,
    prediction_id: str | None,
    max_attempts: int,
    *,
    count_rate_limits: bool,
    due_in: float,
) -> Retry | Failed:
    counted = count_rate_limits or not isinstance(error, RateLimitedError)
    attempts = claim.attempts + counted
    if counted and attempts >= max_attempts:
        message = f"{message_of(error)} after {attempts} attempt{'s' if attempts > 1 else ''}"
        return Failed(claim, message, error.kind, attempts, prediction_id, exhausted=True)
    return Retry(
        claim, message_of(error), error.kind, attempts, due_in, prediction_id, purchase_over=error.purchase_over
    )


def _released(claim: Claim, error: GenerationError, prediction_id: str | None, *, due_in: float) -> Released:
    return Released(claim, message_of(error), error.kind, due_in, prediction_id, purchase_over=error.purchase_over)
