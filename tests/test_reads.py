import random
import statistics

import pytest
from watched import Limit, Workers, promised, taught, times

from reactor.providers.looks import REMEMBERED, Watch
from reactor.providers.reads import PER_SECOND


@pytest.fixture(autouse=True)
def seeded():
    random.seed(12)  # the jitter


def test_a_hundred_predictions_share_the_reads_to_spare():
    seen = Workers(times((1000, 20.0)), slots=100).run()

    minutes = max(told.at for told in seen) / 60
    assert sum(told.looks for told in seen) / minutes <= 60 * PER_SECOND + 3 * len(seen) / minutes
    assert all(told.late <= promised(told.took) + 100 / PER_SECOND for told in seen)


@pytest.mark.parametrize(("workers", "slots", "time"), [(6, 10, 6.0), (3, 50, 16.0), (1, 1000, 100.0)])
def test_a_fleet_keeps_within_the_accounts_reads_and_notices_most_ends_at_once(workers, slots, time):
    limit = Limit()
    seen = Workers(times((3000, time)), slots=slots, workers=workers, limit=limit, creates=10.0).run()

    assert limit.refused <= 0.05 * sum(told.looks for told in seen)
    assert statistics.median(told.late for told in seen) <= 0.1


def test_nobody_reads_while_a_429_asks_to_wait():
    learning = taught(*[1.0] * REMEMBERED)
    refused, other = (Watch(learning, 0.0, bought_in=0.1) for _ in range(2))
    refused.failed(0.9, 0.95, wait=7.0, throttled=True)

    assert all(watch.pause(0.95) >= 7.0 for watch in (refused, other))


def test_only_the_one_that_is_asked_to_waits_where_the_account_is_not_throttled():
    learning = taught(*[1.0] * REMEMBERED)
    refused, other = (Watch(learning, 0.0, bought_in=0.1) for _ in range(2))
    refused.failed(0.9, 0.95, wait=7.0, throttled=False)

    assert refused.pause(0.95) >= 7.0
    assert other.pause(0.95) <= 0.5
