"""The one sentence on top, and its figures."""

import pytest

from reactor.operations.overview import overview
from reactor.operations.verdict import ALSO_SPENT, SPENT, duration, verdict_on

pytestmark = pytest.mark.anyio

CALM = {
    "tokens": {"uploading": 3},
    "estimated": [],
    "intake": {"paused": False, "reason": None, "resumes_in": None, "opens_on": None},
    "workers": 1,
    "listening": 1,
    "triggers": True,
    "row_security": None,
    "queue_depth": 0,
    "oldest_seconds": None,
    "uploading_oldest_seconds": None,
    "notify_queue_usage": 0.0,
}
CLOSED = {"paused": True, "reason": "402: no credit", "resumes_in": None, "opens_on": "create", "budget_spent": False}


@pytest.mark.parametrize(
    ("state", "level", "said"),
    [
        ({}, "ok", "All is well: a mint starts at once."),
        ({"tokens": {}}, "ok", "All is well, and no token has been minted yet."),
        ({"tokens": {"generating": 2}, "queue_depth": 5}, "ok", "All is well: 2 being made, 5 waiting."),
        ({"tokens": {"failed": 1}}, "note", "1 token has failed; all else is well."),
        ({"tokens": {"failed": 12_000}, "estimated": ["failed"]}, "note", "About 12,000 tokens have failed"),
        ({"workers": 0, "listening": 0, "queue_depth": 1}, "alarm", "No worker runs, and 1 token waits."),
        ({"workers": 0, "listening": 0}, "warning", "No worker runs."),
        ({"listening": 0}, "warning", "The worker does not hear mints"),
        ({"workers": 3, "listening": 1}, "warning", "2 of 3 workers do not hear mints"),
        ({"triggers": False}, "warning", "The wake triggers are missing or disabled"),
        ({"oldest_seconds": 700.0, "queue_depth": 9}, "warning", "9 tokens wait, the oldest for 12 min."),
        ({"uploading_oldest_seconds": 3000.0}, "warning", "leaves the provider in 10 min"),
        ({"uploading_oldest_seconds": 4000.0}, "alarm", "may be gone by now"),
        ({"notify_queue_usage": 0.7}, "alarm", "notification queue is more than half full"),
        ({"row_security": "row security hides all tokens"}, "alarm", "Row security hides all tokens."),
        ({"intake": CLOSED}, "alarm", "The gate is closed: 402: no credit."),
        ({"intake": CLOSED | {"opens_on": "check"}}, "alarm", "The gate is closed: 402: no credit."),
        (
            {"intake": CLOSED | {"opens_on": "time"}, "queue_depth": 2},
            "warning",
            "until `reactor resume`: 402: no credit; 2 tokens wait",
        ),
        ({"intake": CLOSED | {"opens_on": "time", "resumes_in": 65.0}}, "warning", "closed for 65 s"),
        ({"intake": CLOSED | {"reason": "a\x1b[2J\nb"}}, "alarm", "a\ufffd[2J b."),
    ],
)
def test_the_worst_is_said_first_and_in_one_sentence(state, level, said):
    verdict = verdict_on(CALM | state)

    assert verdict.level == level
    assert said in verdict.sentence
    assert "\n" not in verdict.sentence


@pytest.mark.parametrize(("seconds", "trial"), [(17.0, "tries one token in 17 s"), (0.0, "tries one token at a time")])
def test_a_gate_that_opens_by_itself_says_what_to_do_and_how_long_it_takes(seconds, trial):
    verdict = verdict_on(CALM | {"intake": CLOSED | {"resumes_in": seconds}})

    assert verdict.todo == (
        f"Correct that if you can. The fleet {trial}, and opens the gate by itself; `reactor resume` opens it now."
    )


@pytest.mark.parametrize(
    ("gate", "todo"),
    [
        ({"opens_on": "image", "resumes_in": 7200.0}, "tries one token in 2 h, and opens the gate by itself. "),
        ({"opens_on": "time"}, "Resume it when you are ready. "),
        ({"opens_on": "create"}, "Correct that, then resume. "),
    ],
)
def test_a_resume_is_said_to_leave_the_pause_of_a_spent_budget(gate, todo):
    verdict = verdict_on(CALM | {"intake": CLOSED | gate | {"budget_spent": True}})

    assert verdict.todo.endswith(todo + ALSO_SPENT)


def test_the_pause_of_a_spent_budget_is_not_said_twice():
    gate = CLOSED | {"opens_on": "time", "resumes_in": 60.0, "reason": f"{SPENT}is spent", "budget_spent": True}

    assert ALSO_SPENT not in verdict_on(CALM | {"intake": gate}).todo


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (0.2, "1 s"), (89, "89 s"), (90, "2 min"), (5400, "2 h"), (200_000, "3 d"), (1e9, "11,575 d")],
)
def test_a_duration_has_one_unit(seconds, said):
    assert duration(seconds) == said


async def test_the_figures_come_from_the_table(database, open_session, table, make_token):
    await make_token(status="failed", generation_error="no")
    await make_token(status="generating", generation_worker=-77, generation_epoch=1)
    await make_token()

    seen = await overview(open_session(database), table)

    assert seen.tokens["failed"] == seen.tokens["generating"] == seen.tokens["detected"] == seen.queue_depth == 1
    assert (seen.workers, seen.listening, seen.verdict.level) == (0, 0, "alarm")
    assert [(token.token_id, token.lease_ends_in) for token in seen.held["77"]] == [(2, None)]
    assert seen.as_json()["held"] == {"77": {"tokens": 1, "token_ids": [2]}}
    assert seen.sentence.endswith("Start one: `reactor run`.")
