"""A refused API token: when it is checked again, how that is reported, and what it costs."""

import re
import time

import pytest
from doubles import LOOKING, SECRET, DirectedProvider, running

from reactor.engine.gate.checks import REFUSED, Checks, mark_of
from reactor.engine.timings import Timings
from reactor.errors import UnauthorizedError

pytestmark = pytest.mark.anyio

WAITS = [0, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600]  # seconds until the next check
IN_VAIN = re.compile(rf"{REFUSED}: creates are refused although its check passes; the next check is at [0-9:]+ UTC")
OURS, OTHERS = mark_of(SECRET), "another"
OPEN = {"paused": False, "opens_on": None, "check_in": None, "refused_token": OURS}
REFUSED_TWICE = {"paused": True, "opens_on": "check", "check_in": 3600.0}


@pytest.fixture
def provider():
    return DirectedProvider()


@pytest.fixture
def refuse(ask, connection):
    """Close the gate as after a create refused for a token; return the row's seconds to the check, and its reason."""

    async def refuse(token=OURS):
        began = time.monotonic()
        rows = await ask("refuse_gate", token, REFUSED, 20.0)
        (state,) = await ask("gate_state")
        wait, took = await connection.fetchval("SELECT check_wait FROM reactor.intake"), time.monotonic() - began
        assert [row["was_open"] for row in rows] == [True]
        assert (state["paused"], state["resumes_in"], state["refused_token"]) == (True, None, token)
        assert state["reason"] == rows[0]["reason"]
        assert wait - took <= state["check_in"] <= wait
        return wait, state["reason"]

    return refuse


@pytest.fixture
def check(ask):
    """Open the gate, as a check that passed does."""

    async def check():
        (state,) = await ask("gate_state")
        assert await ask("open_gate", "check", state["reason"], "wake")

    return check


async def test_a_token_that_passes_its_check_and_is_refused_is_checked_half_as_often_each_time_down_to_an_hour(
    refuse, check
):
    told = []
    for _ in WAITS:
        told.append(await refuse())
        await check()

    assert [wait for wait, _ in told] == WAITS
    assert told[0][1] == REFUSED
    assert all(IN_VAIN.fullmatch(reason) for _, reason in told[1:])


async def test_no_other_pause_shortens_the_wait(ask, refuse, check):
    for _ in range(4):
        await refuse()
        await check()
    await ask("pause_gate", 5.0, "429", False, "create")
    await ask("open_gate", "create", None, "wake")
    await ask("pause", "by hand", 600.0)
    await ask("pause", "by hand", 0.0)

    assert (await refuse())[0] == 160


FORGETS = {
    "an accepted create": (["prove_gate", OURS], 0),
    "another token's accepted create": (["prove_gate", OTHERS], 80),
    "an operator": (["resume", "wake"], 0),
}


@pytest.mark.parametrize(("what", "wait"), FORGETS.values(), ids=FORGETS)
async def test_what_forgets_that_checks_passed_in_vain(ask, refuse, check, what, wait):
    for number in range(3):
        await refuse()
        if number < 2 or what[0] == "prove_gate":
            await check()

    await ask(*what)

    assert (await refuse())[0] == wait


async def test_a_create_that_was_accepted_before_the_gate_closed_forgets_nothing(ask, refuse, check):
    for number in range(3):
        await refuse()
        await ask("prove_gate", OURS)
        if number < 2:
            await check()

    assert 30 < (await ask("gate_state"))[0]["check_in"] <= 40


async def test_another_token_that_is_refused_is_checked_at_once(refuse, check):
    for _ in range(3):
        await refuse()
        await check()

    assert (await refuse(OTHERS))[0] == 0


async def test_a_gate_that_is_closed_for_a_refused_token_stays_as_it_is(ask, refuse, check):
    await refuse()
    await check()
    await refuse()

    assert await ask("refuse_gate", OURS, REFUSED, 20.0) == []
    assert 10 < (await ask("gate_state"))[0]["check_in"] <= 20


BEGINS = {
    "with the token that was refused": ([REFUSED_TWICE | {"refused_token": OURS}], False),
    "with another token": ([REFUSED_TWICE | {"refused_token": OTHERS}], True),
    "where none is kept": ([REFUSED_TWICE | {"refused_token": None}], True),
    "with another token that does not pass at once": ([REFUSED_TWICE | {"refused_token": OTHERS}] * 3, True),
    "with the gate open": ([OPEN, REFUSED_TWICE | {"refused_token": OTHERS}], False),
    "with the wait over": ([REFUSED_TWICE | {"refused_token": OURS, "check_in": 0.0}], True),
    "with the gate closed for something else": ([REFUSED_TWICE | {"opens_on": "time", "check_in": None}], False),
}


@pytest.mark.parametrize(("states", "due"), BEGINS.values(), ids=BEGINS)
def test_a_worker_that_begins_checks_at_once_only_a_token_that_may_be_new(states, due):
    checks = Checks(SECRET)
    for state in states:
        told = {"refused_token": OTHERS} | state
        checks.looked(told)

    assert checks.due(told) is due


def test_a_mark_tells_tokens_apart_and_nothing_of_them():
    marks = {mark_of(f"r8_{number}") for number in range(1000)}

    assert len(marks) == 1000
    assert {len(mark) for mark in marks} == {6}


async def test_processes_that_start_over_and_over_cost_no_token_before_the_check_is_due(
    database,
    provider,
    make_token,
    refuse,
    check,
    connection,
    two_looks,
):
    for _ in range(3):
        await refuse()
        await check()
    await refuse()
    await make_token()
    for _ in range(2):
        async with running(database, provider, timings=LOOKING) as (_, log):
            await log.wait("intake.paused")
            await two_looks()
        assert not log.of("intake.resumed")

    assert await connection.fetchval("SELECT status FROM tokens_s0") == "detected"


async def test_a_worker_that_starts_with_another_token_is_served_at_once(database, provider, make_token, refuse, check):
    for _ in range(3):
        await refuse(OTHERS)
        await check()
    await refuse(OTHERS)
    await make_token()
    async with running(database, provider) as (_, log):
        await log.wait("token.generation.succeeded")


async def test_a_worker_that_starts_behind_a_check_in_vain_knows_how_long_the_fleet_waited(
    database, provider, make_token, refuse, check
):
    for _ in range(3):
        await refuse()
        await check()
    provider.script["create"] = [UnauthorizedError("Invalid API token (403)")]
    await make_token()
    async with running(database, provider) as (_, log):
        (paused,) = [await log.wait("intake.paused")]

    assert IN_VAIN.fullmatch(paused["reason"])


async def test_an_accepted_create_is_kept_in_the_gates_row(
    database, provider, make_token, refuse, check, connection, two_looks
):
    await refuse()
    await check()
    async with running(database, provider, timings=LOOKING) as (_, log):
        await two_looks()
        await make_token()
        await log.wait("token.generation.succeeded")

    assert await connection.fetchval("SELECT refused_token FROM reactor.intake") is None


async def test_one_that_is_refused_though_its_check_passes_is_said_and_costs_one_token_a_check(
    database, provider, make_token, ask, monkeypatch
):
    provider.script["create"] = [UnauthorizedError("Invalid API token (403)")] * 2
    async with running(database, provider, timings=Timings(check_every=0.02)) as (_, log):
        for _ in range(3):
            await make_token()
            await log.wait("intake.resumed") if log.of("intake.paused") else await log.wait("intake.paused")
        await log.wait("intake.paused", times=2)
        await log.wait("token.generation.succeeded")
        await log.wait("intake.resumed", times=2)

    first, second = [event["reason"] for event in log.of("intake.paused")]
    assert first == REFUSED
    assert IN_VAIN.fullmatch(second)


async def test_workers_check_once_the_gates_row_says(database, provider, connection, ask, two_looks):
    async with running(database, provider, timings=LOOKING) as (_, log):
        await two_looks()
        await ask("refuse_gate", OURS, REFUSED, 20.0)
        await log.wait("intake.resumed")
        await ask("refuse_gate", OURS, REFUSED, 20.0)
        await log.wait("intake.paused", times=2)
        await two_looks()
        checked = len(provider.asked("check"))
        await connection.execute("UPDATE reactor.intake SET check_at = clock_timestamp()")
        await log.wait("intake.resumed", times=2)

    assert (checked, len(provider.asked("check"))) == (2, 3)  # one of them at the start


async def test_only_a_pause_for_a_check_has_a_time_for_one(ask, refuse, check):
    await refuse()
    await check()
    await ask("pause_gate", 30.0, "429", False, "create")

    assert (await ask("gate_state"))[0]["check_in"] is None
