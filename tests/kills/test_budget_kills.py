"""DAILY_BUDGET holds for a fleet of processes, whoever of them is killed."""

import anyio
import pytest
from doubles import until
from faults import Process, Processes, start_server

from reactor.sandbox import Fault, Sandbox, Timing

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_day"), pytest.mark.timeout(300)]

NOBODY_WORKS = "SELECT count(*) = 0 FROM tokens_s0 WHERE status = 'generating'"
CLOSED = "SELECT paused_until > now() AND opens_on = 'time' FROM reactor.intake"
SET_BACK = "UPDATE reactor.intake SET budget_day = budget_day + 1, paused_until = paused_until + interval '1 day'"
KILLED_AT = ("request_sent", "created", "recorded")
SLOTS = 10  # of a worker


@pytest.fixture
def processes(monkeypatch):
    start_server(monkeypatch)
    idle = Processes()
    yield idle
    idle.close()


async def test_a_fleet_of_processes_exceeds_it_by_what_is_in_flight_across_kills_and_a_clock_set_back(
    database, connection, make_token, ask, processes
):
    """Three of four workers die as a create is answered or recorded; each is replaced, and the clock is set back.

    No prediction ends before the three are dead. So the others buy too little to spend the budget, and each of the
    three claims tokens and meets its failpoint.
    """
    budget, tokens = 30, 150
    for _ in range(tokens):
        await make_token()
    sandbox = Sandbox(Timing((0.0, 0.0), (0.1, 0.1)))
    stuck = sandbox.fail(Fault("stuck", times=None))
    alive, dead = set(KILLED_AT), anyio.Event()
    async with sandbox.serve() as base_url, anyio.create_task_group() as fleet:

        async def work(place=None):
            fault = None if place is None else (place, "exit")
            limits = {"daily_budget": budget, "rate_limit_per_minute": 0, "worker_batch_size": SLOTS}
            async with Process(processes).run(database, base_url, fault, **limits) as worker:
                await worker.gone.wait()
            if place is None:
                return
            assert worker.errors is None
            alive.remove(place)
            if not alive:
                dead.set()
            await dead.wait()
            await work()

        for place in (*KILLED_AT, None):
            fleet.start_soon(work, place)
        await dead.wait()
        await connection.execute(SET_BACK)
        stuck.times = 0
        for prediction in sandbox.ledger:
            prediction.queue = 0.0  # those that were stuck run now
        await until(lambda: connection.fetchval(f"SELECT ({NOBODY_WORKS}) AND ({CLOSED})"), 120)
        creates, counted = len(sandbox.ledger), await connection.fetchval("SELECT budget_bought FROM reactor.intake")
        await ask("resume", "public_tokens_s0_wake")

    workers = 4 + len(KILLED_AT)
    assert budget <= creates <= budget + workers * SLOTS
    assert counted == creates
    assert await connection.fetchval("SELECT count(*) FROM tokens_s0 WHERE status = 'uploading'") == tokens
    assert len(sandbox.ledger) == await connection.fetchval("SELECT budget_bought FROM reactor.intake") == tokens
