from hypothesis import given
from hypothesis import strategies as st

from reactor import backoff
from reactor.backoff import jittered, reconnect_delay, retry_delay

counts = st.integers(0, 10**9)
dice = st.integers()  # the same numbers in every run, unless hypothesis gets another seed


@given(counts, dice)
def test_a_retry_waits_for_a_power_of_two_give_or_take_a_tenth(attempts, seed):
    backoff.chance.seed(seed)
    expected = min(2.0 ** min(attempts, 100), 3600.0)

    assert 0.9 * expected <= retry_delay(attempts) <= 1.1 * expected


def test_the_first_retries_come_after_one_two_and_four_seconds():
    assert [round(retry_delay(attempts) / 2**attempts) for attempts in range(3)] == [1, 1, 1]


@given(counts, dice)
def test_a_reconnection_waits_at_most_five_seconds_and_never_not_at_all(failures, seed):
    backoff.chance.seed(seed)
    most = min(0.1 * 2.0 ** min(failures, 100), 5.0)

    assert 0.2 * most <= reconnect_delay(failures) <= most


@given(st.floats(0, 1e6), st.floats(0, 1), dice)
def test_jitter_stays_within_its_share(seconds, share, seed):
    backoff.chance.seed(seed)
    assert seconds * (1 - share) * 0.999 <= jittered(seconds, share) <= seconds * (1 + share) * 1.001


def test_jitter_is_a_fifth_unless_told_otherwise():
    drawn = [jittered(10.0) for _ in range(500)]

    assert 8.0 <= min(drawn) < 8.5
    assert 11.5 < max(drawn) <= 12.0


def test_two_that_fail_together_do_not_come_back_together():
    assert len({delay(3) for delay in (retry_delay, reconnect_delay, jittered) for _ in range(50)}) == 150
