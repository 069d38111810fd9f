import itertools
import uuid
from datetime import UTC, datetime

import pytest

from reactor.engine.gate.blame import Blamed, Excused
from reactor.engine.generate.outcome import outcome_of
from reactor.errors import (
    AccountError,
    AmbiguousCreateError,
    ContentPolicyError,
    GenerationError,
    PermanentError,
    RateLimitedError,
    TransientError,
    UnauthorizedError,
)
from reactor.tokens import Claim, Failed, Released, Retry


def claim(attempts):
    return Claim(
        id=uuid.uuid4(),
        token_id=1,
        epoch=1,
        worker=1,
        prompt="a fox",
        attempts=attempts,
        censored=False,
        seed=1,
        seeded_at=datetime.now(UTC),
        seed_was_set=False,
        rescued=False,
        prediction_id=None,
        age=None,
        asked_at=0.0,
    )


BLAMED = Blamed()


def judged(
    error, attempts=0, max_attempts=3, *, count_rate_limits=False, prediction_id="p1", blame=BLAMED, sure_in=0.0
):
    return outcome_of(
        claim(attempts),
        error,
        blame=blame,
        sure_in=sure_in,
        prediction_id=prediction_id,
        max_attempts=max_attempts,
        count_rate_limits=count_rate_limits,
    )


# The error, COUNT_RATE_LIMITS, the outcome before the last attempt, attempts added, the outcome of the last attempt.
TABLE = [
    (TransientError, False, Retry, 1, Failed),
    (TransientError, True, Retry, 1, Failed),
    (RateLimitedError, False, Retry, 0, Retry),
    (RateLimitedError, True, Retry, 1, Failed),
    (ContentPolicyError, False, Failed, 1, Failed),
    (PermanentError, False, Failed, 0, Failed),
    (UnauthorizedError, False, Failed, 0, Failed),
    (AccountError, False, Released, 0, Released),
    (GenerationError, False, Failed, 0, Failed),
]
ROWS = [
    (*row, before, most, over)
    for row, (before, most), over in itertools.product(
        TABLE, [(0, 1), (0, 3), (1, 3), (2, 3), (5, 3), (998, 1000)], [True, False]
    )
    if not (row[0] is UnauthorizedError and not over)
]


@pytest.mark.parametrize(("kind", "count", "early", "counted", "late", "before", "most", "over"), ROWS)
def test_the_outcome_is_the_tables(kind, count, early, counted, late, before, most, over):
    named = {"retry_after": 7.0} if kind is RateLimitedError else {}
    error = kind("it was said", purchase_over=over, **named)

    outcome = judged(error, before, most, count_rate_limits=count)

    expected = late if before + counted >= most else early
    assert type(outcome) is expected
    assert (outcome.error_type, outcome.prediction_id) == (kind.__name__, "p1")
    if expected is not Released:
        assert outcome.attempts == before + counted
    if expected is not Failed:
        assert outcome.purchase_over is over


@pytest.mark.parametrize("attempts", [0, 1, 2, 3, 9])
def test_a_transient_error_waits_twice_as_long_each_time(attempts):
    outcome = judged(TransientError("it was said"), attempts, 1000)

    assert 0.9 * 2**attempts <= outcome.due_in <= 1.1 * 2**attempts
    assert outcome.error == "it was said"


@pytest.mark.parametrize("wait", [0.0, 0.1, 300.0])
@pytest.mark.parametrize("kind", [TransientError, RateLimitedError])
def test_a_wait_that_is_named_is_kept(kind, wait):
    assert judged(kind("it was said", retry_after=wait), 2, 1000).due_in == wait


@pytest.mark.parametrize(("attempts", "told"), [(1, "said after 1 attempt"), (3, "said after 3 attempts")])
def test_the_last_of_several_attempts_says_so(attempts, told):
    outcome = judged(TransientError("said"), attempts - 1, attempts)

    assert (outcome.error, outcome.exhausted) == (told, True)


@pytest.mark.parametrize("kind", [ContentPolicyError, PermanentError, UnauthorizedError])
def test_a_failure_of_the_token_itself_is_no_exhaustion(kind):
    outcome = judged(kind("said"), 2, 3)

    assert (outcome.error, outcome.exhausted) == ("said", False)


def test_a_token_is_not_lost_to_a_refused_key_while_its_image_is_under_way():
    outcome = judged(UnauthorizedError("said", purchase_over=False))

    assert (type(outcome), outcome.purchase_over, outcome.due_in) == (Released, False, 0.0)


def test_a_refused_key_fails_one_token_and_hands_back_those_that_were_under_way_with_it():
    assert type(judged(UnauthorizedError("said"))) is Failed
    assert type(judged(UnauthorizedError("said"), blame=Excused())) is Released


@pytest.mark.parametrize("kind", [TransientError, AccountError, UnauthorizedError])
def test_what_may_have_been_bought_is_not_due_before_a_single_look_can_tell(kind):
    outcome = judged(kind("said", purchase_over=False), prediction_id=None, sure_in=8.5)

    assert outcome.due_in == 8.5


def test_what_may_have_been_bought_is_never_forgotten():
    outcome = judged(AmbiguousCreateError("said"), prediction_id=None)

    assert (type(outcome), outcome.purchase_over) == (Released, False)


@pytest.mark.parametrize("attempts", [0, 2, 9])
@pytest.mark.parametrize(("kind", "named"), [(TransientError, {}), (RateLimitedError, {"retry_after": 2.0})])
def test_what_others_have_shown_to_be_the_providers_fault_counts_nothing(kind, named, attempts):
    outcome = judged(kind("said", purchase_over=False, **named), attempts, blame=Excused(6.0), count_rate_limits=True)

    assert (type(outcome), outcome.due_in, outcome.purchase_over) == (Released, 6.0, False)


def test_an_excused_token_waits_as_long_as_the_provider_says_and_until_a_look_can_tell():
    assert judged(RateLimitedError("said", retry_after=30.0), blame=Excused()).due_in == 30.0
    assert judged(TransientError("said"), blame=Excused(), sure_in=8.0).due_in == 8.0
    assert judged(AccountError("said"), blame=Excused(11.0)).due_in == 11.0
