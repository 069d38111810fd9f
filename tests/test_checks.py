"""A refused API token: when it is checked again, how that is said, and what it costs."""

import itertools
import re

import pytest
from doubles import DirectedProvider, Log, running
from test_intake import two_looks  # noqa: F401  (a fixture)

from reactor.announcer import Announcer
from reactor.checks import CHECK_EVERY, LONGEST, REFUSED, Checks
from reactor.errors import UnauthorizedError
from reactor.telemetry import Telemetry

pytestmark = pytest.mark.anyio

WAITS = [0, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600]  # seconds until the next check
IN_VAIN = re.compile(rf"{REFUSED}: creates are refused although its check passes; the next check is at [0-9:]+ UTC")


@pytest.fixture
def provider():
    return DirectedProvider()


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

    monkeypatch.setattr("reactor.checks.monotonic", lambda: Clock.now)
    monkeypatch.setattr("reactor.checks.time", lambda: Clock.now)
    return Clock


def test_a_token_that_passes_its_check_and_is_refused_is_checked_half_as_often_each_time_down_to_an_hour(clock):
    checks, waits = Checks(), []
    for _ in WAITS:
        checks.closed(checks.wait)
        waits.append(0.0)
        while not checks.due:
            clock.now += CHECK_EVERY
            waits[-1] += CHECK_EVERY
        checks.reopened()

    assert waits == WAITS


def test_an_accepted_create_forgets_that_checks_passed_in_vain():
    checks = Checks()
    for _ in range(3):
        checks.closed(checks.wait)
        checks.reopened()

    checks.accepted()

    assert (checks.wait, checks.reason) == (0.0, REFUSED)


def test_a_worker_that_finds_the_gate_closed_as_it_begins_checks_its_token_at_once(clock):
    checks = Checks()
    checks.closed(LONGEST)
    assert checks.due

    checks.reopened()
    checks.closed(LONGEST)
    assert not checks.due


async def test_a_fleet_checks_as_rarely_as_one_worker_whoever_closes_and_opens(ask, clock):
    """Every worker looks every CHECK_EVERY. Behind each opening another one has a create refused at once."""
    fleet = [Announcer(Telemetry(Log()), Checks()) for _ in range(3)]
    closing, opened_at, reasons = itertools.cycle(fleet), [], []

    async def refuse(worker):
        worker.opened()
        wait, reason = worker.checks.wait, worker.checks.reason
        await ask("pause_intake", wait, reason, False, "check")
        worker.closed(None, reason, "check", check_wait=wait, was_open=True)
        reasons.append(reason)

    async def look(worker):
        (state,) = await ask("intake")
        worker.closed(state["resumes_in"], state["reason"], state["opens_on"], check_wait=state["check_wait"])
        if worker.checks.due and await ask("open_intake", "check", state["reason"], "wake"):
            worker.opened()
            opened_at.append(clock.now)
            await refuse(next(closing))

    for worker in fleet:  # each has seen it closed once: none of them is new
        await refuse(worker)
        await ask("open_intake", "check", reasons[-1], "wake")
    await refuse(fleet[0])
    while len(opened_at) < len(WAITS):
        clock.now += CHECK_EVERY
        for worker in fleet:
            await look(worker)

    waits = [after - before for before, after in itertools.pairwise(opened_at)]
    assert waits == [wait for wait in WAITS if wait > 20] + [LONGEST] * (len(waits) - len([w for w in WAITS if w > 20]))
    assert all(map(IN_VAIN.fullmatch, reasons[-len(waits) :]))


async def test_one_that_is_refused_though_its_check_passes_is_said_and_costs_one_token_a_check(
    database, provider, make_token, ask, monkeypatch
):
    monkeypatch.setattr("reactor.checks.CHECK_EVERY", 0.02)
    provider.script["create"] = [UnauthorizedError("Invalid API token (403)")] * 2
    async with running(database, provider) as (_, log):
        for _ in range(3):
            await make_token()
            await log.wait("intake.resumed") if log.of("intake.paused") else await log.wait("intake.paused")
        await log.wait("intake.paused", times=2)
        await log.wait("token.generation.succeeded")
        await log.wait("intake.resumed", times=2)

    first, second = [event["reason"] for event in log.of("intake.paused")]
    assert first == REFUSED
    assert IN_VAIN.fullmatch(second)


async def test_workers_wait_as_long_as_the_gates_row_says(database, provider, ask, clock, two_looks):  # noqa: F811
    async with running(database, provider) as (_, log):
        for number in range(2):  # the first is checked at once
            await ask("pause_intake", LONGEST, f"{REFUSED} {number}", False, "check")
            await log.wait("intake.paused", times=number + 1)
            await (log.wait("intake.resumed") if number == 0 else two_looks())
        checked = len(provider.asked("check"))
        clock.now += LONGEST
        await log.wait("intake.resumed", times=2)

    assert (checked, len(provider.asked("check"))) == (2, 3)  # and one at the start


@pytest.mark.parametrize(("wait", "stored"), [(0.0, 0.0), (20.0, 20.0), (1e9, 3600.0), (-1.0, 0.0), (None, 0.0)])
async def test_the_gates_row_says_how_long_the_fleet_waits_and_closes_without_end(ask, wait, stored):
    ((was_open, seconds),) = await ask("pause_intake", wait, REFUSED, False, "check")
    (state,) = await ask("intake")

    assert (was_open, seconds) == (True, None)
    assert (state["paused"], state["resumes_in"], state["check_wait"]) == (True, None, stored)


async def test_only_a_pause_for_a_check_has_a_wait_for_one(ask):
    await ask("pause_intake", 30.0, "429", False, "create")

    assert (await ask("intake"))[0]["check_wait"] is None
