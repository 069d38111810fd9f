"""Nothing lost, nothing settled twice, nothing paid twice: every fault at every place, whatever the provider does.

The cases wait more than they work, so all selected cases run together, each with its own database, provider and
workers. Then one test for each case checks what the case left behind.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import asyncpg
import pytest
from cases import CASES, FALLBACK, HOLDS_NOTHING
from conftest import command
from databases import clone, on
from doubles import is_late_renewal
from faults import InjectedError, Process, Processes, start_server

from reactor import failpoints
from reactor.sandbox import Fault, Sandbox, Timing

pytestmark = pytest.mark.timeout(500)  # the cases take 60 s on two idle cores, several times that on busy ones
TOGETHER = 14  # cases at a time
WITHIN = 30.0  # seconds, for one case
FINAL = {"uploading", "failed"}
DEAD = 12345  # the key of a worker that is dead
TOO_LATE = "a worker that freezes between its look at the lease and the socket sends when it wakes: see purchase.py"
HISTORY = """
    CREATE TABLE history (
        place bigint GENERATED ALWAYS AS IDENTITY,
        before text, after text, raised bigint, held_by bigint, worker bigint, process text
    );
    CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO history (before, after, raised, held_by, worker, process) VALUES (
            OLD.status, NEW.status, NEW.generation_epoch - OLD.generation_epoch,
            OLD.generation_worker, NEW.generation_worker, current_setting('reactor.process', true)
        );
        RETURN NULL;
    END $$;
    CREATE TRIGGER remember AFTER INSERT OR UPDATE ON tokens_s0 FOR EACH ROW EXECUTE FUNCTION remember();
"""
# Removes what the previous case left in the database.
AFRESH = """
    SELECT pg_terminate_backend(pid)
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid();
    TRUNCATE tokens_s0, authors, history RESTART IDENTITY;
    UPDATE reactor.intake SET paused_until = NULL, pause_seconds = 0, arrival_at = DEFAULT;
"""


@dataclass
class Ended:
    """What a case left behind."""

    fired: bool = False
    row: asyncpg.Record | None = None
    history: list = field(default_factory=list)
    bought: list = field(default_factory=list)
    first: Process | None = None
    second: Process | None = None
    written_late: int = 0  # writes of the first worker after the second had finished
    crash: BaseException | None = None

    @property
    def noticed(self):
        """Whether the first worker noticed that it lost its token."""
        return any(told["event"] == "token.lease_lost" for told in self.first.events)

    @property
    def workers(self):
        return [worker for worker in (self.first, self.second) if worker is not None]


@pytest.fixture(scope="module")
def case_databases(server_url, template):
    """One migrated database for each case that runs at a time; it records every write to a token."""
    remembering = anyio.run(clone, server_url, template)
    command(on(server_url, remembering), HISTORY)
    names = [anyio.run(clone, server_url, remembering) for _ in range(TOGETHER)]
    yield [on(server_url, name) for name in names]
    command(server_url, *(f"DROP DATABASE {name} WITH (FORCE)" for name in [remembering, *names]))


@pytest.fixture(scope="module")
def ended(request, case_databases):
    """Run all cases that this session selected; return how each ended."""
    given = [getattr(item, "callspec", None) for item in request.session.items if item.module is request.module]
    asked = {callspec.params.get("case") for callspec in given if callspec} & set(CASES)
    with pytest.MonkeyPatch.context() as monkeypatch:
        start_server(monkeypatch)
    processes = Processes()
    yield anyio.run(run_all, case_databases, asked, processes, backend_options={"use_uvloop": True})
    processes.close()


async def run_all(databases, cases, processes):
    ended, free, room = {case: Ended() for case in cases}, list(databases), anyio.CapacityLimiter(len(databases))

    async def run(case):
        async with room:
            database = free.pop()
            try:
                with anyio.fail_after(WITHIN):
                    await run_in(database, case, ended[case], processes)
            except Exception as error:  # noqa: BLE001  (the case's test raises it)
                ended[case].crash = error
            free.append(database)

    async with anyio.create_task_group() as group:
        # Cases without a dead worker come first, because nothing is rescued in the first 10 s after the server's start.
        for case in sorted(cases, key=lambda case: (case.action not in {"raise", "lost"}, CASES.index(case))):
            group.start_soon(run, case)
    return ended


async def run_in(database, case, ended, processes):
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(AFRESH)
        await run_case(case, ended, connection, database, processes)
    finally:
        connection.terminate()


async def run_case(case, ended, connection, database, processes):
    await make_token(case, connection)
    sandbox = Sandbox(Timing((0.0, 0.0), (0.1, 0.1)))
    stuck = sandbox.fail(Fault("stuck", times=None if case.stuck else 0))
    async with sandbox.serve() as base_url:

        def worker(fault=None):
            return Process(processes).run(database, base_url, fault, fallback_censored_prompt=FALLBACK)

        async with worker((case.place, case.action)) as ended.first:
            await ended.first.met()
            ended.fired = ended.first.fired.is_set()
            stuck.times = 0
            for prediction in sandbox.ledger:
                prediction.queue = 0.0  # predictions that were stuck run now
            if case.action == "pause":
                await take_over(ended, worker)
                written = await connection.fetchval("SELECT count(*) FROM history")
                ended.first.go_on()
            if case.action == "overtaken":
                await take_turns(ended, worker)
        if await connection.fetchval("SELECT status FROM tokens_s0") not in FINAL:
            await take_over(ended, worker)
    if case.action == "pause":
        ended.written_late = await connection.fetchval("SELECT count(*) FROM history") - written
    ended.row = await connection.fetchrow("SELECT * FROM tokens_s0")
    ended.history = await connection.fetch("SELECT * FROM history ORDER BY place")
    ended.bought = sandbox.ledger


async def take_over(ended, worker):
    """Run a second worker until it has finished what the first one left."""
    async with worker() as ended.second:
        pass


async def take_turns(ended, worker):
    """A second worker takes the token and pauses before it settles; then the first worker goes on to its end."""
    async with worker(("before_settle", "overtaken")) as ended.second:
        await ended.second.met()
        ended.first.go_on()
        await ended.first.gone.wait()
        ended.second.go_on()


async def make_token(case, connection):
    author = await connection.fetchval("INSERT INTO authors (prompt_text) VALUES ($1) RETURNING id", case.prompt)
    if not case.abandoned:
        await connection.execute("INSERT INTO tokens_s0 (author_id) VALUES ($1)", author)
        return
    await connection.execute(
        "INSERT INTO tokens_s0 (author_id, status, generation_epoch, generation_worker, generation_lease_ends_at,"
        " generation_seed, generation_seeded_at) VALUES ($1, 'generating', 1, $2, now(), 99, now() - interval '1 s')",
        author,
        DEAD,
    )


def parameter(case):
    late = case.place == "before_send" and case.action in {"pause", "overtaken"}
    # Here the second worker's create gets the 429, so only the first worker buys.
    marks = (
        [pytest.mark.xfail(strict=True, reason=TOO_LATE)] if late and case.name != "before_send-overtaken-429" else []
    )
    return pytest.param(case, id=case.name, marks=marks)


@pytest.mark.parametrize("case", [parameter(case) for case in CASES])
def test_nothing_is_lost_nor_settled_nor_paid_twice(case, ended):
    end, expected = ended[case], case.expected
    if end.crash:
        raise end.crash
    row, moves = end.row, Counter((entry["before"], entry["after"]) for entry in end.history)

    assert end.fired
    assert (row["status"], row["generation_attempts"], row["generation_error"]) == (
        expected.status, expected.attempts, expected.error,
    )  # fmt: skip
    assert row["generation_lease_ends_at"] is row["generation_worker"] is row["generation_due_at"] is None
    assert len(end.bought) == expected.bought
    assert len({prediction.seed for prediction in end.bought}) == expected.bought
    assert sum(moves[before, after] for before, after in moves if after in FINAL and before != after) == 1
    assert not [entry for entry in end.history if not is_legal(entry)]
    assert strangers(end.history) == []
    assert end.history[-1]["after"] == expected.status
    assert row["generation_rescues"] == rescues(end.history) <= 3
    assert end.noticed or case.action != "overtaken" or case.place in HOLDS_NOTHING
    assert end.written_late == 0
    assert unexpected(case, end) == []


def is_legal(entry):
    """Whether the state machine allows this write."""
    match entry["before"], entry["after"]:
        case (None, _):
            return True
        case ("detected", "generating"):
            return entry["raised"] == 1 and entry["worker"] is not None
        case ("generating", "generating"):
            return entry["raised"] in {0, 1} and entry["worker"] is not None
        case ("generating", "detected" | "uploading" | "failed"):
            return entry["raised"] == 0 and entry["worker"] is None
        case _:
            return False


def strangers(history):
    """Writes by a worker that did not hold the token. Claims and rescues in the history show who holds it."""
    processes = {abs(entry["worker"]): entry["process"] for entry in history if entry["raised"] == 1}
    return [
        entry
        for entry in history
        if entry["before"] == "generating" and entry["raised"] == 0
        if entry["process"] != processes[abs(entry["held_by"])]
    ]


def rescues(history):
    """How often the token was taken over from another worker."""
    held = [(entry["before"], entry["after"]) == ("generating", "generating") for entry in history]
    return sum(
        now["raised"] == 1 and abs(now["worker"]) != abs(before["worker"])
        for before, now, still in zip(history, history[1:], held[1:], strict=False)
        if still
    )


def unexpected(case, end):
    """Errors that were reported or raised although the fault does not explain them."""
    told = [
        event
        for worker in end.workers
        for event in worker.events
        if event["event"] == "worker.error"
        and not (event["error_type"] in excused(case) and (worker is end.first or case.action == "overtaken"))
        and not is_late_renewal(event)
    ]
    raised = [
        error
        for worker in end.workers
        for error in (worker.errors or [])
        if not (worker is end.first and case.action == "raise" and error == repr(InjectedError()))
    ]
    killed = [worker for worker in end.workers if worker.errors is None]
    return told + raised + (killed if case.action != "exit" else [worker for worker in killed if worker is end.second])


def excused(case):
    """The types of errors that the fault's worker may report."""
    match case.action:
        case "exit":
            return set()
        case "raise":
            # TimeoutError is the attempt's: the worker ends before the database has confirmed its outcome.
            return {"InjectedError", "TimeoutError"}
        case "lost":
            return {"ConnectionLostError"}
        case _:
            return {"ConnectionLostError", "RolledBackError"}  # statements under way at the freeze have timed out


def test_every_point_stands_in_the_engine_once():
    source = [path.read_text() for path in Path(failpoints.__file__).parent.rglob("*.py")]
    reached = Counter(name for text in source for name in re.findall(r'await reached\("(\w+)"\)', text))

    assert reached == Counter(failpoints.NAMES)


def test_a_point_that_there_is_not_cannot_be_switched_on():
    with pytest.raises(ValueError, match="no failpoint befor_create"), failpoints.switched_on("befor_create", None):
        pass
