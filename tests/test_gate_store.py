"""Who may close and open the gate: an operator's pause goes before every automatic pause and opening."""

import anyio
import pytest
from doubles import LOOKING, DirectedProvider, running

from reactor.errors import AccountError, UnauthorizedError

pytestmark = pytest.mark.anyio

REFUSED = "Invalid API token"
AUTOMATIC = [(30.0, "429"), (86400.0, "429"), (None, REFUSED), (None, "anything else")]


def closing(seconds, reason):
    """The statement that closes the gate for so many seconds; None: until the API token passes a check."""
    return (
        ("refuse_gate", "mark", reason, 20.0) if seconds is None else ("pause_gate", seconds, reason, False, "create")
    )


@pytest.fixture
def provider():
    return DirectedProvider()


@pytest.fixture
def gate(ask):
    """The gate's state: paused, reason, seconds until it is half-open."""

    async def gate():
        return tuple((await ask("gate_state"))[0])[:3]

    return gate


@pytest.mark.parametrize(("seconds", "reason"), AUTOMATIC)
async def test_an_operators_pause_stays_whatever_comes_later(ask, gate, seconds, reason):
    await ask("pause", "maintenance", None)

    assert await ask(*closing(seconds, reason)) == []

    assert await gate() == (True, "maintenance", None)


@pytest.mark.parametrize(("seconds", "reason"), AUTOMATIC)
async def test_an_operators_pause_takes_the_place_of_any_other(ask, gate, seconds, reason):
    await ask(*closing(seconds, reason))

    await ask("pause", "maintenance", None)

    assert await gate() == (True, "maintenance", None)
    assert await ask("open_gate", "create", None, "wake") == []
    assert await ask("open_gate", "check", reason, "wake") == []


async def test_a_passed_check_opens_no_operators_pause_not_even_of_its_own_words(ask, gate):
    await ask("refuse_gate", "mark", REFUSED, 20.0)
    await ask("pause", REFUSED, None)

    assert await ask("open_gate", "check", REFUSED, "wake") == []

    assert await gate() == (True, REFUSED, None)


async def test_a_gate_that_plain_sql_closed_is_the_operators_too(ask, connection, gate):
    await ask("refuse_gate", "mark", REFUSED, 20.0)
    await ask("open_gate", "check", REFUSED, "wake")

    await connection.execute("UPDATE reactor.intake SET paused_until = 'infinity'")

    assert await ask("open_gate", "check", REFUSED, "wake") == []


async def test_a_pause_that_waits_while_an_operator_closes_the_gate_leaves_it_his(ask, connect, gate, until_blocked):
    operator, other = await connect(), await connect()
    async with anyio.create_task_group() as group, operator.transaction():
        await ask("pause", "maintenance", None, on=operator)
        group.start_soon(lambda: ask("refuse_gate", "mark", REFUSED, 20.0, on=other))
        await until_blocked(other)

    assert await gate() == (True, "maintenance", None)


async def test_an_opening_that_waits_while_an_operator_closes_the_gate_leaves_it_closed(
    ask, connect, gate, until_blocked
):
    await ask("pause_gate", 30.0, "429", False, "create")
    operator, other = await connect(), await connect()
    async with anyio.create_task_group() as group, operator.transaction():
        await ask("pause", "maintenance", None, on=operator)
        group.start_soon(lambda: ask("open_gate", "create", None, "wake", on=other))
        await until_blocked(other)

    assert await gate() == (True, "maintenance", None)


@pytest.mark.parametrize(("seconds", "reason"), AUTOMATIC)
async def test_resume_opens_whatever_closed_the_gate(ask, gate, seconds, reason):
    await ask(*closing(seconds, reason))

    assert [row["reason"] for row in await ask("resume", "a_channel")] == [reason]

    assert await gate() == (False, None, None)
    assert await ask("resume", "a_channel") == []


async def test_resume_opens_what_an_operator_closed_and_wakes_the_fleet(database, provider, make_token, ask, table):
    await ask("pause", "maintenance", None)
    await make_token()
    async with running(database, provider, poll_interval_seconds=3600) as (_, log):
        await log.wait("intake.paused", reason="maintenance", seconds=None)
        assert provider.asked("create") == []

        await ask("resume", table.wake_channel)

        await log.wait("token.generation.succeeded")


async def test_a_refused_api_token_under_an_operators_pause_is_handed_back_and_nothing_opens(
    database, provider, make_token, ask, gate, token_row, two_looks
):
    closed = anyio.Event()

    async def refuse(_argument):
        await closed.wait()
        return UnauthorizedError("Invalid API token (401)")

    provider.script["create"] = [refuse]
    async with running(database, provider, timings=LOOKING) as (_, log):
        token_id = await make_token()
        await log.wait("token.create_sent")
        await ask("pause", "maintenance", None)
        await log.wait("intake.paused", reason="maintenance")
        closed.set()
        await log.wait("token.generation.released", token_id=token_id)
        await two_looks()

    assert await gate() == (True, "maintenance", None)
    assert len(provider.asked("check")) == 1  # the one at the start
    assert (await token_row(token_id))["generation_attempts"] == 0


async def test_a_check_that_passes_after_an_operator_paused_opens_nothing(database, provider, ask, gate, two_looks):
    asked, answer = anyio.Event(), anyio.Event()

    async def accept(_argument):
        asked.set()
        await answer.wait()

    provider.script["check"] = [None, accept]  # the first answer is for the check at the start
    await ask("refuse_gate", "mark", REFUSED, 20.0)
    async with running(database, provider, timings=LOOKING) as (_, log):
        await asked.wait()
        await ask("pause", REFUSED, None)
        answer.set()
        await two_looks()

    assert await gate() == (True, REFUSED, None)
    assert not log.of("intake.resumed")


async def test_a_probe_accepted_after_an_operator_paused_opens_nothing(
    database, provider, make_token, connection, ask, gate
):
    paused = anyio.Event()

    async def accept(_argument):
        await paused.wait()

    provider.script["create"] = [accept]
    await connection.execute(
        "UPDATE reactor.intake SET paused_until = now() - interval '1 s', pause_seconds = 30, reason = '429'"
    )
    async with running(database, provider) as (_, log):
        await make_token()
        await log.wait("token.create_sent")
        await ask("pause", "maintenance", None)
        paused.set()
        await log.wait("token.generation.succeeded")

    assert await gate() == (True, "maintenance", None)
    assert not log.of("intake.resumed")


async def test_a_probe_that_fails_after_an_operator_paused_changes_nothing(
    database, provider, make_token, connection, ask, gate
):
    paused = anyio.Event()

    async def refuse(_argument):
        await paused.wait()
        return AccountError("Insufficient credit")

    provider.script["create"] = [refuse]
    await connection.execute(
        "UPDATE reactor.intake SET paused_until = now() - interval '1 s', pause_seconds = 30, reason = '429'"
    )
    async with running(database, provider) as (_, log):
        await make_token()
        await log.wait("token.create_sent")
        await ask("pause", "maintenance", None)
        paused.set()
        await log.wait("token.generation.released")

    assert await gate() == (True, "maintenance", None)


async def test_a_gate_closed_and_opened_elsewhere_is_told_once(database, provider, ask, two_looks):
    async with running(database, provider, timings=LOOKING) as (_, log):
        for name, *arguments in [
            ("pause", "by hand", None), ("pause", "again", None), ("resume", "x"), ("pause", "once more", None),
        ]:  # fmt: skip
            await ask(name, *arguments)
            await two_looks()

    told = [(event["event"], event["reason"]) for event in log.events if event["event"].startswith("intake.")]
    assert told == [
        ("intake.paused", "by hand"),
        ("intake.paused", "again"),
        ("intake.resumed", "again"),
        ("intake.paused", "once more"),
    ]


async def test_a_pause_for_a_while_is_told_once_whatever_reasons_it_takes_on(database, provider, ask, two_looks):
    async with running(database, provider, timings=LOOKING) as (_, log):
        for number in (1, 2, 3):
            await ask("pause_gate", 30.0 * number, f"429, {number}", False, "create")
            await two_looks()

    assert [told["reason"] for told in log.of("intake.paused")] == ["429, 1"]


async def test_a_worker_that_starts_paused_says_so_once(database, provider, ask, two_looks):
    await ask("pause", "maintenance", None)
    async with running(database, provider, timings=LOOKING) as (_, log):
        await log.wait("intake.paused")
        await two_looks()

    assert [told["reason"] for told in log.of("intake.paused")] == ["maintenance"]
