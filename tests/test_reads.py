import itertools
import statistics

import pytest
from watched import RUNNING, Limit, Workers, ages, next_poll, promised, taught, times

from reactor import backoff
from reactor.providers.limits import LIMITS
from reactor.providers.polling import REMEMBERED, PollSchedule
from reactor.providers.read_budget import ReadBudget

PER_SECOND = LIMITS.reads_per_second


@pytest.fixture(autouse=True)
def seeded():
    backoff.chance.seed(12)  # the jitter


def test_a_hundred_predictions_share_the_reads_to_spare():
    seen = Workers(times((1000, 20.0)), slots=100).run()

    minutes = max(each.at for each in seen) / 60
    assert sum(each.polls for each in seen) / minutes <= 60 * PER_SECOND + 3 * len(seen) / minutes
    assert all(each.late <= promised(each.took) + 100 / PER_SECOND for each in seen)


@pytest.mark.parametrize(("workers", "slots", "time"), [(6, 10, 6.0), (3, 50, 16.0), (1, 1000, 100.0)])
def test_a_fleet_keeps_within_the_accounts_reads_and_notices_most_ends_at_once(workers, slots, time):
    limit = Limit()
    seen = Workers(times((2000, time)), slots=slots, workers=workers, limit=limit, creates=10.0).run()

    assert limit.refused <= 0.02 * sum(each.polls for each in seen)
    assert statistics.median(each.late for each in seen) <= 0.1


@pytest.mark.parametrize(("named", "shut"), [(3.0, 3.0), (30.0, 5.0)])
def test_nobody_reads_while_a_429_asks_to_wait(named, shut):
    history = taught(*[1.0] * REMEMBERED)
    refused, other = (PollSchedule(history, 0.0, bought_in=0.1) for _ in range(2))
    refused.failed(0.9, 0.95, wait=named, throttled=True)

    assert next_poll(refused, 0.95) >= 0.95 + named
    assert next_poll(other, 0.95) == pytest.approx(0.95 + shut, abs=0.1)


def test_a_wait_that_is_not_a_429_holds_up_its_own_prediction_alone():
    history = taught(*[1.0] * REMEMBERED)
    refused, other = (PollSchedule(history, 0.0, bought_in=0.1) for _ in range(2))
    refused.failed(0.9, 0.95, wait=7.0, throttled=False)

    assert next_poll(refused, 0.95) >= 7.95
    assert next_poll(other, 0.95) == 0.95


def used_up():
    """A history that is empty, and a read budget that is used up for an hour."""
    history = taught()
    for _ in range(100_000):
        history.reads.book(0.0, 0.0)
    return history


def test_a_shortage_of_reads_delays_a_poll_by_ten_seconds_and_the_age_at_most():
    polled = ages(used_up(), 1000.0)

    gaps = [later - age - max(0.5, age / 7) <= 10.0 + age for age, later in itertools.pairwise(polled)]
    assert all(gaps)
    assert len(polled) < 15


def test_what_is_learnt_while_a_poll_waits_for_the_budget_brings_it_forward():
    history = used_up()
    schedule = PollSchedule(history, 0.0, bought_in=0.1)
    schedule.answered(1.0, 1.0, RUNNING)
    schedule.answered(2.0, 2.0, RUNNING)

    pause = schedule.pause(2.0)
    history.learn(9.0)

    assert next_poll(schedule, 2.0 + pause) == pytest.approx(9.0, abs=0.1)


def rate(reads, now):
    """The budget's reads per second, once its burst is used up."""
    booked = [reads.book(now, now) for _ in range(1000)]
    return 1 / (booked[-1] - booked[-2])


def test_the_rate_is_halved_once_for_all_that_were_refused_together_and_recovers_in_two_minutes():
    reads = ReadBudget()
    for moment in (0.0, 0.1, 0.9, 1.0):  # each asks to wait a second
        reads.refused(moment, 1.0)

    rates = [rate(reads, now) for now in (1.0, 31.0, 121.0)]
    assert rates == pytest.approx([PER_SECOND / 4, PER_SECOND / 2, PER_SECOND], rel=0.02)


def test_a_read_that_is_given_back_is_to_spare_again():
    reads = ReadBudget()
    rate(reads, 0.0)
    booked = reads.book(0.0, 0.0)
    reads.give_back()

    assert reads.book(0.0, 0.0) == pytest.approx(booked)
