import uuid
from types import SimpleNamespace

import pytest

from reactor.engine.gate.breaker import Breaker
from reactor.engine.timings import TIMINGS

FENCE, OTHER = (uuid.uuid4(), 1), (uuid.uuid4(), 1)


@pytest.fixture
def clock():
    """A clock that only the test moves."""
    return SimpleNamespace(now=1000.0)


@pytest.fixture
def breaker(clock):
    return Breaker(3, timings=TIMINGS, clock=lambda: clock.now)


def failures(breaker, times, *, bought=False):
    return [breaker.failed(bought=bought) for _ in range(times)]


@pytest.mark.parametrize("bought", [False, True])
def test_so_many_failures_in_a_row_break_and_all_that_follow(breaker, bought):
    assert failures(breaker, 5, bought=bought) == [False, False, True, True, True]


def test_none_breaks_where_the_threshold_is_zero():
    assert not any(failures(Breaker(0, timings=TIMINGS), 100))


def test_an_accepted_create_ends_a_row_of_refused_ones_and_no_row_of_failed_predictions(breaker):
    failures(breaker, 2)
    failures(breaker, 2, bought=True)

    breaker.accepted()

    assert failures(breaker, 2) == [False, False]
    assert failures(breaker, 1, bought=True) == [True]


def test_an_image_ends_a_row_of_failed_predictions(breaker):
    failures(breaker, 2, bought=True)

    breaker.succeeded()

    assert failures(breaker, 2, bought=True) == [False, False]


def test_all_failures_of_one_prompt_that_may_be_the_reason_count_as_one(breaker):
    assert not any(breaker.failed(bought=True, prompt="a fox") for _ in range(100))
    assert [breaker.failed(bought=True, prompt=prompt) for prompt in ("", "an owl", "a fox")] == [False, True, True]


def test_a_prompt_may_be_the_reason_again_after_an_image(breaker):
    breaker.failed(bought=True, prompt="a fox")
    breaker.succeeded()

    assert [breaker.failed(bought=True, prompt=prompt) for prompt in ("a fox", None, None)] == [False, False, True]


def test_a_worker_that_rests_fills_no_slot_and_then_one(breaker, clock):
    assert breaker.room(10) == 10

    breaker.rest(FENCE)
    at_first = breaker.room(10)
    clock.now += 5.0

    assert (at_first, breaker.room(10), breaker.room(0)) == (0, 1, 0)


def test_one_token_is_tried_per_rest(breaker, clock):
    breaker.rest(FENCE)
    clock.now += 5.0

    breaker.remember_trial(OTHER)

    assert (breaker.room(10), breaker.resting) == (0, 5.0)
    clock.now += 5.0
    assert breaker.room(10) == 1


def test_each_failed_try_doubles_the_rest_up_to_a_minute(breaker, clock):
    rests = [breaker.rest(FENCE)]
    for _ in range(5):
        clock.now += breaker.resting
        breaker.remember_trial(OTHER)
        rests.append(breaker.rest(OTHER))

    assert rests == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]


def test_failures_of_what_was_under_way_prolong_no_rest(breaker, clock):
    breaker.rest(FENCE)
    clock.now += 2.0

    assert breaker.rest(OTHER) is None
    assert breaker.resting == 3.0


def test_failures_of_what_was_under_way_prolong_no_rest_that_has_passed_either(breaker, clock):
    breaker.rest(FENCE)
    clock.now += 5.0

    assert breaker.rest(OTHER) is None
    assert breaker.room(10) == 1


def test_an_accepted_create_ends_the_rest(breaker):
    breaker.rest(FENCE)

    assert breaker.accepted()
    assert (breaker.room(10), breaker.resting) == (10, 0.0)
    assert not breaker.accepted()


def test_a_try_that_asked_for_nothing_lets_another_follow_at_once(breaker, clock):
    breaker.rest(FENCE)
    clock.now += 5.0
    breaker.remember_trial(OTHER)

    assert not breaker.cancel_trial(FENCE)
    assert breaker.room(10) == 0
    assert breaker.cancel_trial(OTHER)
    assert breaker.room(10) == 1


def test_a_claim_that_was_made_while_all_is_well_is_no_try(breaker):
    breaker.remember_trial(FENCE)

    assert not breaker.cancel_trial(FENCE)
    assert breaker.room(10) == 10
