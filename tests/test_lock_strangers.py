"""When a stranger that holds one of the bell's locks is reported."""

import itertools

import pytest

from reactor.database.strangers import LONGEST_GAP, MOST_NAMED, Strangers
from reactor.engine.timings import TIMINGS

SHORTEST_GAP, LOOKS = TIMINGS.strangers_apart, TIMINGS.stranger_looks

TRY = 2.0  # seconds between two looks


def told(looks, every=TRY):
    """The reports, each with the number of its look. Holders None: the lock was ours or another worker's."""
    strangers = Strangers(needed=LOOKS, apart=SHORTEST_GAP)
    said = []
    for number, holders in enumerate(looks):
        if holders is None:
            strangers.none()
        elif news := strangers.found(holders, 1000.0 + number * every):
            said.append((number, news))
    return said


def test_a_stranger_that_stays_is_said_once():
    assert told([{"mallory": 7}] * 4 * LOOKS) == [(LOOKS - 1, "mallory (process 7)")]


def test_sessions_of_one_role_that_take_turns_are_one_stranger():
    assert told([{"mallory": pid} for pid in range(LOOKS)]) == [(LOOKS - 1, f"mallory (process {LOOKS - 1})")]


def test_roles_that_take_turns_are_said_the_one_that_was_seen_most_first():
    turns = itertools.cycle([{"eve": 1}, {"mallory": 2}, {"mallory": 2}])

    assert told(itertools.islice(turns, LOOKS)) == [(LOOKS - 1, "mallory (process 2), eve (process 1)")]


@pytest.mark.parametrize(
    "looks",
    [[*[{"producer": 1}] * (LOOKS - 1), None] * 3, [{"producer": 1}, {}, {}] * (LOOKS - 1), [{}] * 50],
    ids=["until it was a worker's", "now and then", "never"],
)
def test_producers_that_hold_it_for_a_moment_are_no_news(looks):
    assert told(looks) == []


def test_looks_that_are_far_apart_do_not_add_up():
    assert told([{"producer": 1}] * 3 * LOOKS, every=LONGEST_GAP + 1) == []


def test_looks_in_quick_succession_count_as_one():
    assert told([{"producer": 1}] * LOOKS, every=SHORTEST_GAP / LOOKS) == []


def test_a_stranger_that_comes_back_is_said_again():
    stays = [{"mallory": 7}] * LOOKS

    assert [number for number, _ in told([*stays, None, *stays])] == [LOOKS - 1, 2 * LOOKS]


def test_a_crowd_is_not_named_whole():
    ((_, said),) = told([{f"role{number}": number for number in range(100)}] * LOOKS)

    assert said.count("process") == MOST_NAMED
