"""A short fuzz run; `make fuzz` runs for minutes."""

import asyncio
import json
import threading
import time

import hypothesis
import pytest
from databases import on
from fuzz.cases import CASES, FORMS, KNOWN_CASES
from fuzz.findings import wrong_line
from fuzz.house import house
from fuzz.measures import LONGEST_STEP, MOST_GROWTH, Growth, Steps

AT_ONCE = 8  # cases


@pytest.fixture(scope="module")
def playing(server_url, databases):
    name = databases.take()
    with house(on(server_url, name)) as played:
        yield played
    databases.give_back(name)


@pytest.mark.parametrize("case", KNOWN_CASES, ids=["echoes", "bodies", "characters", "rows"])
def test_what_was_seen_to_break_a_worker_does_not(playing, case):
    assert playing.play(case) == []


@hypothesis.settings(max_examples=AT_ONCE, suppress_health_check=list(hypothesis.HealthCheck), database=None)
@hypothesis.given(CASES)
def test_no_prompt_row_or_answer_slows_the_worker_or_gets_into_its_log(playing, case):
    assert playing.play(case) == []


def test_a_step_that_is_too_long_is_found():
    steps = Steps()
    steps.thread = threading.get_ident()

    async def main():
        until = time.thread_time() + 2 * LONGEST_STEP
        while time.thread_time() < until:
            pass

    with steps.measured():
        asyncio.run(main())

    assert steps.longest > LONGEST_STEP
    assert "Task" in steps.what


def test_memory_that_grows_is_found_also_once_it_is_free():
    growth = Growth()
    growth.begin()

    content = bytes(range(256)) * (MOST_GROWTH * 2**20 // 256 + 50_000)
    del content

    assert growth.most > MOST_GROWTH


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_prompt_in_a_line_is_found_in_any_spelling(form):
    mark = "zebrafish7quilt7xylophone"
    line = json.dumps({"event": "x", "error_message": f"no: {form(mark)}!"})

    assert wrong_line(line, ["another7mark7of7the7case", mark], "r8_secret")[0].startswith(f"tells the prompt {mark}")
    assert wrong_line(line, ["another7mark7of7the7case"], "r8_secret") == []


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("Traceback (most recent call last):", "is no JSON: "),
        ("[1]", "is no JSON object: "),
        ('{"event": "a r8_secret"}', "tells the API token: "),
        ('{"event": "a\x9b"}', "has ['\\x9b']: "),
        ('{"event": "a\u202eb"}', "has ['\\u202e']: "),
        ('{"event": "worker.error", "role": "attempt"}', "is an error of ours: "),
    ],
)
def test_what_is_wrong_with_a_line_is_found(line, what):
    (found,) = wrong_line(line, ["zebrafish7quilt7xylophone"], "r8_secret")

    assert found.startswith(what)
