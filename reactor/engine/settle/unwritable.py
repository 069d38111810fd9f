"""What is written instead of an outcome that the database refuses even when it is written alone.

If a constraint refuses the row, or its data cannot be stored, that never changes: the token fails. If a function of the
host's raises an error, somebody may repair it: the token goes back with its prediction id, so that a later attempt
resumes the prediction. Each time counts as an attempt, so that a flood of refused tokens ends: as retries they are
claimed before fresh tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reactor.database.connections import HostRefusedError
from reactor.tokens import Failed, Retry, Succeeded

if TYPE_CHECKING:
    from reactor.database.connections import RowRefusedError
    from reactor.engine.timings import Timings
    from reactor.tokens import Outcome

MOST_REFUSALS = 5  # in a row, of one write by a function of the host's; they take 1 to 2 s, then the slot is freed


def replacement_for(
    outcome: Outcome, error: RowRefusedError | HostRefusedError, *, max_attempts: int, timings: Timings
) -> Failed | Retry | None:
    """Return the outcome to write instead of a refused one; None: the row stays as it is, until its lease is over."""
    claim, bought, reason = outcome.claim, outcome.prediction_id, f"The database refused the result ({error.kind})"
    receipt = outcome.receipt
    if not isinstance(error, HostRefusedError):
        return Failed(claim, reason, "PermanentError", claim.attempts, bought, receipt=receipt)
    if not isinstance(outcome, (Succeeded, Failed)):
        return None
    attempts = claim.attempts + 1
    if attempts >= max_attempts:
        return Failed(claim, reason, "TransientError", attempts, bought, exhausted=True, receipt=receipt)
    due_in = min(timings.refused_result * 2**claim.attempts, timings.longest_refused_result)
    return Retry(claim, reason, "TransientError", attempts, due_in, bought, purchase_over=False, receipt=receipt)
