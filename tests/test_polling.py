import itertools
import math
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from watched import RUNNING, Sleep, Workers, ages, promised, taught, times

from reactor import backoff
from reactor.providers import Prediction
from reactor.providers.limits import LIMITS
from reactor.providers.polling import REMEMBERED, PollHistory, PollSchedule


@pytest.fixture(autouse=True)
def seeded():
    backoff.chance.seed(12)  # the jitter


# The bound


@given(
    st.lists(st.floats(0, 1e5), max_size=REMEMBERED), st.floats(0, 2000), st.sampled_from([0.1, None]), st.integers()
)
def test_an_end_is_noticed_in_half_a_second_or_a_seventh_of_its_time_whatever_was_learnt(ends, time, bought_in, seed):
    backoff.chance.seed(seed)

    noticed = next(age for age in ages(taught(*ends), time + 1.0, bought_in=bought_in) if age >= time)

    assert noticed - time <= max(0.5, time / 7)


@settings(max_examples=30)
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=100), st.integers(1, 10), st.booleans(), st.integers())
def test_the_bound_holds_for_ten_slots_whatever_the_times_are_and_whether_they_are_told(drawn, slots, tells, seed):
    backoff.chance.seed(seed)

    seen = Workers(times(*((1, time) for time in drawn)), slots=slots, tells=tells).run()

    assert all(each.late <= promised(each.took) for each in seen)


def evenly():
    """Numbers between 0 and 1, evenly spread, in an order that looks random."""
    return ((number * 0.618034) % 1 for number in itertools.count(1))


def upto(count, take):
    """`take` for `count` predictions, then None."""
    left = iter(range(count))
    return lambda now: None if next(left, None) is None else take(now)


# What is learnt


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("time", [0.1, 0.3, 0.5, 1.0, 1.25, 2.0, 8.0, 30.0, 300.0])
def test_a_model_that_always_takes_as_long_costs_one_poll_more_than_the_bound_does(time, tells):
    bound = statistics.mean(sum(age < time for age in ages(taught(1e6), time)) for _ in range(20))

    seen = Workers(times((100, time)), tells=tells).run()[50:]

    assert statistics.mean(each.polls for each in seen) <= bound + (1.2 if tells else 2.2)
    assert statistics.median(each.late for each in seen) <= max(0.1, time / 100)


@pytest.mark.parametrize("time", [0.05, 0.5, 0.8, 1.0, 1.25])
def test_a_model_that_always_takes_a_second_or_so_costs_three_polls(time):
    seen = Workers(times((100, time))).run()[50:]

    assert max(each.polls for each in seen) <= 3


def test_pictures_after_a_cold_start_are_settled_as_quickly_as_without():
    seen = Workers(upto(40, lambda now: 20.0 if now < 1 else 0.5)).run()

    assert max(each.at for each in seen) < 20 + 4
    assert all(each.late <= promised(each.took) for each in seen)
    assert statistics.median(each.late for each in seen[20:]) <= 0.1


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("slow", [20.0, 60.0, 600.0])
def test_a_slow_spell_is_not_felt_by_the_first_picture_after_it(slow, tells):
    seen = Workers(times((40, slow), (100, 2.0)), tells=tells).run()

    quick = [each for each in seen if each.took == 2.0]
    assert max(each.late for each in quick) <= promised(2.0)
    assert statistics.median(each.late for each in quick[2 * REMEMBERED :]) <= 0.1


@pytest.mark.parametrize(("quick", "slow"), [(0.5, 8.0), (1.0, 30.0), (2.0, 120.0)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_of_two_speeds_the_usual_ones_are_noticed_at_once_and_all_within_the_bound(quick, slow, share):
    one = evenly()
    seen = Workers(times((300, lambda: quick if next(one) < share else slow))).run()[100:]

    usual = [each.late for each in seen if each.took == (slow if share < 0.5 else quick)]
    assert statistics.median(usual) <= 0.1
    assert all(each.late <= promised(each.took) for each in seen)


@pytest.mark.parametrize(("median", "sigma"), [(1.0, 0.2), (2.0, 0.5), (8.0, 0.3), (30.0, 0.05)])
def test_times_that_vary_are_noticed_within_half_the_bound_at_the_median(median, sigma):
    one, spread = evenly(), statistics.NormalDist(math.log(median), sigma)
    seen = Workers(times((300, lambda: math.exp(spread.inv_cdf(next(one)))))).run()[100:]

    assert all(each.late <= promised(each.took) for each in seen)
    assert statistics.median(each.late / promised(each.took) for each in seen) <= 0.5


def test_what_is_learnt_takes_no_more_room_than_the_last_predictions():
    history = taught(*range(1000))

    assert list(history._ends) == list(range(1000 - REMEMBERED, 1000))


# Clocks


@pytest.mark.parametrize("clock_goes_on", [True, False])
def test_a_host_that_slept_has_learnt_nothing_from_it(clock_goes_on):
    workers = Workers(times((40, 2.0)), sleep=Sleep(5.0, 3600.0, clock_goes_on))
    seen = workers.run()

    assert sum(each.late > 3000 for each in seen) == workers.slots  # the host did sleep
    assert list(workers.histories[0]._ends) == pytest.approx([2.0] * REMEMBERED, abs=0.1)
    assert all(each.late <= promised(2.0) for each in seen[-10:])


def learnt(took, *, running_at=0.0, seen_at, bought_in=0.1):
    history = PollHistory()
    schedule = PollSchedule(history, 0.0, bought_in=bought_in)
    schedule.answered(running_at, running_at, RUNNING)
    schedule.answered(seen_at, seen_at, Prediction("p1", "https://x/1.webp", took=took))
    return list(history._ends)


@pytest.mark.parametrize(
    ("took", "running_at", "seen_at", "ends"),
    [
        (5.0, 4.0, 6.0, [4.95]),  # the provider's time is more exact than our looks
        (5.0, 4.97, 6.0, [4.985]),
        (5.0, 4.0, 4.92, [4.91]),
        (5.0, 1.0, 3601.0, [4.95]),  # the host slept, and its clock went on
        (5.0, 1.0, 1.4, []),  # the host slept, and its clock stood still
        (3600.0, 1.0, 1.4, []),  # the provider's clock was changed
        (1.0, 1.1, 1.3, [1.2]),  # after its end it was shown as running for a while
        (None, 1.0, 1.4, [1.2]),
        (None, 1.0, 3601.0, []),
    ],
)
def test_an_end_is_learnt_from_what_the_provider_tells_as_far_as_our_polls_agree(took, running_at, seen_at, ends):
    assert learnt(took, running_at=running_at, seen_at=seen_at) == pytest.approx(ends)


@pytest.mark.parametrize("found", [Prediction("p1", error=ValueError()), RUNNING])
def test_what_ended_without_an_image_teaches_nothing(found):
    history = PollHistory()
    PollSchedule(history, 0.0, bought_in=0.1).answered(1.0, 1.0, found)

    assert history.is_empty


def test_what_somebody_else_bought_is_polled_soon_and_teaches_nothing():
    history = taught(0.3)
    schedule = PollSchedule(history, 0.0, bought_in=None)
    pause = schedule.pause(0.0)
    schedule.answered(0.2, 0.2, Prediction("p1", "https://x/1.webp", took=5.0))

    assert pause == LIMITS.first_poll
    assert list(history._ends) == [0.3]
