"""A worker that says `intake.paused` says `intake.resumed` once it sees the gate open, whoever opened it."""

import itertools
import time
from dataclasses import replace

import pytest
from doubles import LOOKING, Barrier, DirectedProvider, Log, running
from hypothesis import given
from hypothesis import strategies as st
from test_outcome import claim

from reactor.engine.gate.announcer import Announcer
from reactor.engine.gate.checks import REFUSED
from reactor.errors import RateLimitedError
from reactor.telemetry import Telemetry

pytestmark = pytest.mark.anyio


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def announcer(log):
    return Announcer(Telemetry(log))


@pytest.fixture
def provider():
    return DirectedProvider()


def said(log):
    names = {"intake.paused": "paused", "intake.resumed": "resumed"}
    return [(names[told["event"]], told["reason"]) for told in log.events if told["event"] in names]


def test_a_pause_is_said_once_and_its_end_once(announcer, log):
    for _ in range(2):
        announcer.closed(30.0, "429", "create")
        announcer.closed(60.0, "429, again", "create")
        announcer.opened()
        announcer.opened()

    assert said(log) == [("paused", "429"), ("resumed", "429, again")] * 2


def test_a_pause_that_this_worker_begins_anew_ends_the_one_before(announcer, log):
    announcer.closed(30.0, "first", "create")

    announcer.closed(30.0, "second", "create", was_open=True)

    assert said(log) == [("paused", "first"), ("resumed", "first"), ("paused", "second")]


@pytest.mark.parametrize(
    "pause", [(30.0, "others", "image"), (None, "other", "time"), (5.0, "another", "time"), (None, REFUSED, "check")]
)
def test_a_pause_that_opens_on_something_else_is_said_too(announcer, log, pause):
    announcer.closed(30.0, "429", "create")

    announcer.closed(*pause)

    assert said(log) == [("paused", "429"), ("paused", pause[1])]


def test_a_claim_that_was_sent_after_the_pause_shows_that_it_is_over(announcer, log):
    announcer.closed(None, "by hand", "time")

    announcer.let_through(replace(claim(0), asked_at=time.monotonic() + 1), None)

    assert said(log) == [("paused", "by hand"), ("resumed", "by hand")]


@pytest.mark.parametrize(("later", "probe"), [(-1, None), (1, "create")], ids=["sent before", "a probe"])
def test_a_claim_that_was_sent_before_or_is_a_probe_shows_nothing(announcer, log, later, probe):
    announcer.closed(30.0, "429", "create")

    announcer.let_through(replace(claim(0), asked_at=time.monotonic() + later), probe)

    assert said(log) == [("paused", "429")]


NEWS = st.one_of(
    st.tuples(st.sampled_from([None, 5.0]), st.sampled_from("ab"), st.sampled_from(["create", "image", "time"])),
    st.none(),
)


@given(st.lists(st.tuples(NEWS, st.booleans())))
def test_a_worker_never_says_resumed_without_a_pause_and_knows_what_it_said(news):
    log = Log()
    announcer = Announcer(Telemetry(log))
    for pause, was_open in news:
        if pause is None:
            announcer.opened()
        else:
            announcer.closed(*pause, was_open=was_open)

        kinds = [kind for kind, _ in said(log)]
        assert announcer.paused is (kinds[-1:] == ["paused"])
        assert kinds[:1] != ["resumed"]
        assert ("resumed", "resumed") not in itertools.pairwise(kinds)


async def test_an_operators_resume_is_said_before_the_first_token_starts(database, provider, make_token, ask, table):
    provider.script["create"] = [RateLimitedError("throttled", retry_after=300.0)]
    async with running(database, provider) as (_, log):
        await make_token()
        await log.wait("intake.paused")
        await make_token()
        await ask("resume", table.wake_channel)
        await log.wait("token.generation.succeeded")

    told = [event["event"] for event in log.events]
    assert told.count("intake.resumed") == 1
    assert told.index("intake.resumed") < told.index("token.generation.started", told.index("intake.paused"))


async def test_a_pause_that_another_worker_ended_is_said_by_both(database, provider, make_token, two_looks):
    generating = Barrier()
    provider.script["create"] = [RateLimitedError("throttled", retry_after=0.1), generating]
    async with running(database, provider, timings=LOOKING, worker_batch_size=1) as (_, log):
        await make_token()
        await log.wait("intake.paused")
        async with running(database, DirectedProvider(), timings=LOOKING) as (_, other):
            await make_token()
            await other.wait("token.generation.succeeded", times=1)
            await two_looks()
            generating.open()
            await log.wait("intake.resumed")

    assert [len(each.of("intake.resumed")) for each in (log, other)] == [
        len(each.of("intake.paused")) for each in (log, other)
    ]
