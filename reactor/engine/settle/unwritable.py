"""What becomes of a token whose outcome the database refuses, again and again, also when it is written alone.

A constraint, or data that cannot be stored, refuses the same row for ever: the token fails. What a function of the
host's raises may be repaired: the token goes back with its prediction id, so that a later attempt resumes what was
bought. Each time counts one attempt, because retries are claimed before fresh tokens: a flood of refused ones must end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reactor.database.connections import HostRefusedError
from reactor.tokens import Failed, Retry, Succeeded

if TYPE_CHECKING:
    from reactor.database.connections import RowRefusedError
    from reactor.engine.timings import Timings
    from reactor.tokens import Outcome

MOST_REFUSALS = 5  # of one write in a row, by a function of the host's: 1 to 2 s, then its slot is given to others


def instead(
    outcome: Outcome, error: RowRefusedError | HostRefusedError, *, max_attempts: int, timings: Timings
) -> Failed | Retry | None:
    """The outcome to write instead of a refused one; None where the row is to be left as it is, to its lease."""
    claim, bought, reason = outcome.claim, outcome.prediction_id, f"The database refused the result ({error.kind})"
    if not isinstance(error, HostRefusedError):
        return Failed(claim, reason, "PermanentError", claim.attempts, bought)
    if not isinstance(outcome, (Succeeded, Failed)):
        return None
    attempts = claim.attempts + 1
    if attempts >= max_attempts:
        return Failed(claim, reason, "TransientError", attempts, bought, exhausted=True)
    due_in = min(timings.refused_result * 2**claim.attempts, timings.longest_refused_result)
    return Retry(claim, reason, "TransientError", attempts, due_in, bought, purchase_over=False)
