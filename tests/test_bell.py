from contextlib import asynccontextmanager
from functools import partial

import anyio
import anyio.lowlevel
import pytest
from doubles import Barrier, DirectedProvider, until
from doubles import running as running_with
from proxy import proxied
from strangers import stranger

from reactor.database.store import Store
from reactor.database.table import plain_query
from reactor.engine.timings import Timings
from reactor.engine.wake.bell import Bell, _Earlier
from reactor.engine.wake.wake import Wake
from reactor.failpoints import switched_on
from reactor.telemetry import Telemetry

pytestmark = pytest.mark.anyio

WAKE, QUIET, WATCH = "public_tokens_s0_wake", 1, 0
LOCK = f"SELECT pg_advisory_lock(hashtextextended('{WAKE}', $1))"
TAKE = f"SELECT pg_try_advisory_lock(hashtextextended('{WAKE}', $1))"
MINT = "INSERT INTO tokens_s0 (author_id) SELECT id FROM authors LIMIT 1"


class NothingDue(Store):
    """Its sweep does not serve what the bell has to."""

    async def next_due(self):
        return None


@pytest.fixture
def provider():
    return DirectedProvider()


timed = partial(Timings, stranger_looks=1)  # a stranger is said at once
SELDOM = timed(watch_every=3600.0)  # nobody tries for the watch again while a test goes on
running = partial(running_with, timings=SELDOM, store=NothingDue)
LOOKS_OFTEN = timed(watch_every=3600.0, longest_look=0.001)


@pytest.fixture
def timings():
    return SELDOM


@pytest.fixture
async def authors(connection):
    await connection.execute("INSERT INTO authors (wallet_address, prompt_text) VALUES ('0x1', 'a lighthouse')")


@pytest.fixture
async def rung(connect):
    """The number of wakes heard since the last call."""
    ear, heard = await connect(), []
    await ear.add_listener(WAKE, lambda *_: heard.append(1))

    async def take():
        await ear.execute("SELECT 1")  # its answer arrives after all earlier notifications
        taken = len(heard)
        heard.clear()
        return taken

    return take


RINGS = {"nobody": ([], 1), "quiet": ([QUIET], 0), "watch": ([WATCH], 1), "both": ([QUIET, WATCH], 1)}


@pytest.mark.parametrize("mint", [MINT, "UPDATE tokens_s0 SET status = 'detected'"], ids=["insert", "update"])
@pytest.mark.parametrize(("held", "expected"), RINGS.values(), ids=RINGS.keys())
async def test_a_mint_is_silent_only_while_somebody_is_quiet_and_nobody_on_watch(
    connection, connect, rung, make_token, held, expected, mint
):
    await make_token(status="failed")
    worker = await connect()
    for lock in held:
        await worker.execute(LOCK.replace("$1", str(lock)))
    await rung()

    await connection.execute(mint)

    assert await rung() == expected


async def test_a_mint_only_looks_at_the_locks(connection, connect, authors):
    worker = await connect()
    await connection.execute("BEGIN")
    await connection.execute(MINT)

    assert await worker.fetchval(TAKE, QUIET)
    await connection.execute(MINT)
    assert await worker.fetchval(TAKE, WATCH)


async def test_a_mint_rings_where_it_may_not_look(connection, connect, rung, authors):
    worker = await connect()
    await worker.execute(LOCK.replace("$1", str(QUIET)))
    await connection.execute(
        "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_try_advisory_xact_lock_shared(bigint) FROM PUBLIC;"
        "CREATE ROLE bell_reader; GRANT INSERT, SELECT ON tokens_s0, authors TO bell_reader; SET ROLE bell_reader"
    )
    try:
        await connection.execute(MINT)
        heard = await rung()
    finally:
        await connection.execute(
            "RESET ROLE; DROP OWNED BY bell_reader; DROP ROLE bell_reader;"
            "GRANT EXECUTE ON FUNCTION pg_catalog.pg_try_advisory_xact_lock_shared(bigint) TO PUBLIC"
        )

    assert heard == 1


async def full(log, make_token, gate, provider):
    """Take the worker's only slot, and wait until mints are quiet."""
    provider.script["wait"] = [gate]
    await make_token()
    await gate.entered()
    await log.wait("watch.left", quiet=True)


async def test_mints_are_quiet_while_every_slot_is_taken_and_are_claimed_as_one_is_free(
    database, provider, connection, make_token, rung
):
    gate = Barrier()
    async with running(database, provider, worker_batch_size=1) as (_, log):
        await full(log, make_token, gate, provider)
        await rung()
        for _ in range(3):
            await make_token()
        silent = await rung()
        gate.open()
        await log.wait("token.generation.succeeded", times=4)
        await log.wait("watch.taken", times=2)
        await make_token()
        await log.wait("token.generation.succeeded", times=5)

    assert silent == 0
    assert await rung() >= 1


@pytest.mark.parametrize("point", ["before_watch", "on_watch"])
async def test_a_mint_at_the_moment_in_which_a_worker_goes_on_watch_is_claimed(
    database, provider, connection, make_token, authors, point
):
    gate, at_point, go_on = Barrier(), anyio.Event(), anyio.Event()

    async def pause():
        at_point.set()
        await go_on.wait()

    async with running(database, provider, worker_batch_size=1) as (_, log):
        await full(log, make_token, gate, provider)
        # For on_watch the mint is committed earlier, at before_watch: it is silent, and no claim has followed yet.
        if point == "before_watch":
            with switched_on(point, pause):
                gate.open()
                await meet(at_point)
                await connection.execute(MINT)
                go_on.set()
                await log.wait("token.generation.succeeded", times=2)
        else:
            with switched_on("before_watch", lambda: _mint(connection)), switched_on(point, pause):
                gate.open()
                await meet(at_point)
                go_on.set()
                await log.wait("token.generation.succeeded", times=2)


async def meet(event):
    with anyio.fail_after(10):
        await event.wait()


async def _mint(connection):
    await connection.execute(MINT)


@pytest.mark.parametrize("another_under_way", [False, True])
async def test_a_mint_whose_transaction_outlasts_the_quiet_is_claimed_soon(
    database, provider, connection, connect, make_token, authors, another_under_way
):
    gate, long = Barrier(), await connect()
    async with running(database, provider, worker_batch_size=1) as (_, log):
        await full(log, make_token, gate, provider)
        await connection.execute("BEGIN")
        await connection.execute(MINT)
        if another_under_way:  # it stays open: the token must be found by a look before all transactions have ended
            await long.execute("BEGIN")
            await long.execute("INSERT INTO authors (wallet_address) VALUES ('0x2')")
        gate.open()
        await log.wait("watch.taken", times=2)
        await log.wait("tokens.claimed", times=len(log.of("tokens.claimed")) + 1)
        await connection.execute("COMMIT")
        with anyio.fail_after(5):
            await log.wait("token.generation.succeeded", times=2)
        await long.execute("ROLLBACK" if another_under_way else "SELECT 1")


class Looks:
    """Runs queries on a connection. `tries` counts those for the watch, `count` those for transactions under way."""

    def __init__(self, ear):
        self._ear = ear
        self._news = anyio.Event()
        self.count = self.tries = 0

    async def ask(self, query, *arguments):
        row = await self._ear.fetchrow(query, *arguments)
        self.tries += query == plain_query("watch")
        if query == plain_query("under_way"):
            self.count += 1
            news, self._news = self._news, anyio.Event()
            news.set()
        return row

    async def more(self, times):
        wanted = self.count + times
        with anyio.fail_after(10):
            while self.count < wanted:
                await self._news.wait()


@pytest.fixture
async def bell(connect, table, timings):
    """A bell without a worker, on a connection that listens to nothing; with its wake and its looks."""
    wake, looks = Wake(), Looks(await connect())
    bell = Bell(table, wake, None, Telemetry(), timings=timings)
    async with anyio.create_task_group() as group:
        group.start_soon(bell.run)
        bell.attach(looks.ask)
        yield bell, wake, looks
        group.cancel_scope.cancel()


@pytest.mark.parametrize("timings", [timed(watch_every=0.001)])
async def test_a_watch_that_is_known_to_be_taken_is_asked_for_once_each_time(bell, connection):
    bell, _, looks = bell
    turns = []

    await connection.execute(LOCK.replace("$1", str(WATCH)))
    for _ in range(10):
        turn = anyio.Event()

        async def count(turn=turn):
            turns.append(looks.tries)
            turn.set()
            await anyio.lowlevel.checkpoint()

        with switched_on("before_watch", count):
            bell.want("watch")
            await meet(turn)

    assert turns == [0, *range(4, 13)]


async def under_way(connection):
    """Begin a transaction that writes. It is then the newest one."""
    await connection.execute("BEGIN; INSERT INTO authors (wallet_address) VALUES (gen_random_uuid()::text)")


@pytest.mark.parametrize("timings", [LOOKS_OFTEN])
async def test_looks_go_on_as_long_as_a_transaction_that_had_begun(bell, connection):
    bell, wake, looks = bell
    await under_way(connection)
    bell.want("watch")
    await looks.more(200)
    wake.clear()
    await connection.execute("COMMIT")
    with anyio.fail_after(10):
        await wake.wait()


@pytest.mark.parametrize("timings", [LOOKS_OFTEN])
async def test_a_claim_is_made_only_when_a_transaction_has_ended(bell, connection, connect):
    bell, wake, looks = bell
    stays = await connect()
    await under_way(connection)
    await under_way(stays)
    bell.want("watch")
    await looks.more(1)
    wake.clear()
    await looks.more(20)
    silent = not wake._rung.is_set()
    await connection.execute("COMMIT")
    with anyio.fail_after(10):
        await wake.wait()
    await stays.execute("COMMIT")

    assert silent


@pytest.mark.parametrize("timings", [LOOKS_OFTEN])
async def test_looks_end_with_the_transactions_that_had_begun(bell, connection, connect):
    bell, wake, looks = bell
    after = await connect()
    await under_way(connection)
    bell.want("watch")
    await looks.more(1)
    await under_way(after)  # its mints would find the watch taken, and ring
    wake.clear()
    await connection.execute("COMMIT")
    with anyio.fail_after(10):
        await wake.wait()
    ended = looks.count
    for _ in range(20):
        await connection.execute("SELECT pg_sleep(0.001)")
    await after.execute("COMMIT")

    assert looks.count == ended


@pytest.mark.parametrize(("seconds", "pause"), [(0.0, 0.002), (0.8, 0.1), (24.0, 3.0), (3600.0, 5.0)])
def test_a_mint_waits_an_eighth_longer_than_its_transaction_took(monkeypatch, seconds, pause):
    monkeypatch.setattr("reactor.engine.wake.bell.anyio.current_time", lambda: 1000.0 + seconds)

    assert _Earlier(1, since=1000.0).pause(Timings()) == pytest.approx(pause)


@pytest.mark.parametrize("between", ["quiet", "nothing"])
@pytest.mark.parametrize("timings", [LOOKS_OFTEN])
async def test_looks_go_on_after_a_moment_with_no_free_slot(bell, connection, between):
    bell, wake, looks = bell
    await under_way(connection)
    bell.want("watch")
    await looks.more(1)
    bell.want(between)
    bell.want("watch")
    await looks.more(2)
    wake.clear()
    await connection.execute("COMMIT")
    with anyio.fail_after(10):
        await wake.wait()


@asynccontextmanager
async def two(database, on_watch, idle, timings=SELDOM, store=NothingDue, idle_store=None, **settings):
    """Two workers with their providers; give the first, which is on watch, and both logs."""
    async with running(database, on_watch, timings=timings, store=store, **settings) as (first, log):
        await log.wait("watch.taken")
        await log.wait("tokens.claimed", times=2)
        async with running(database, idle, timings=timings, store=idle_store or store) as (_, other):
            await other.wait("watch.taken_elsewhere")
            yield first, log, other


async def test_of_two_workers_that_wait_one_claims_a_mint(database, provider, make_token):
    async with two(database, provider, provider) as (_, log, other):
        before = len(other.of("tokens.claimed"))
        for number in range(1, 6):
            await make_token()
            await log.wait("token.generation.succeeded", times=number)

    assert [told["count"] for told in log.of("tokens.claimed")[2:]] == [1] * 5
    assert len(other.of("tokens.claimed")) == before


async def test_who_has_no_free_slot_leaves_the_watch_to_another(database, provider, make_token):
    gate, idle = Barrier(), DirectedProvider()
    async with two(database, provider, idle, worker_batch_size=1) as (_, _log, other):
        provider.script["wait"] = [gate]
        await make_token()
        await gate.entered()
        await other.wait("watch.taken")
        await make_token()
        await other.wait("token.generation.succeeded")
        gate.open()


async def test_who_stops_leaves_the_watch_at_once(database, provider, make_token):
    gate, idle = Barrier(), DirectedProvider()
    async with two(database, provider, idle) as (first, log, other):
        provider.script["wait"] = [gate]
        await make_token()
        await gate.entered()
        first.stop()
        await other.wait("watch.taken")
        await make_token()
        await other.wait("token.generation.succeeded")
        gate.open()

    assert log.of("watch.left", quiet=False)


async def test_a_worker_that_dies_on_watch_is_relieved(database, provider, make_token):
    timings = timed(watch_every=0.2)
    async with proxied(database) as proxy, running(proxy.url, DirectedProvider(), timings=timings) as (_, log):
        await log.wait("watch.taken")
        async with running(database, provider, timings=timings) as (_, other):
            await other.wait("watch.taken_elsewhere")
            proxy.refuse()
            await other.wait("watch.taken")
            await make_token()
            await other.wait("token.generation.succeeded")


async def test_a_worker_that_hangs_on_watch_is_stood_in_for(database, provider, make_token):
    idle, timings = DirectedProvider(), timed(watch_every=3600.0, stand_in=0.3)
    hangs, over = anyio.Event(), anyio.Event()

    class Hanging(NothingDue):
        async def claim(self, *arguments):
            if hangs.is_set():
                await over.wait()
            return await super().claim(*arguments)

    async with two(database, provider, idle, timings=timings, store=Hanging, idle_store=Store) as (_, log, other):
        hangs.set()
        try:
            await make_token()
            await other.wait("token.generation.succeeded")
        finally:
            over.set()

    assert not log.of("token.generation.started")


async def test_a_listener_that_comes_back_goes_on_watch_again(database, provider, connection, make_token):
    async with running(database, provider) as (_, log):
        await log.wait("watch.taken")
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'reactor listener' AND datname = current_database()"
        )
        await log.wait("watch.taken", times=2)
        await make_token()
        await log.wait("token.generation.succeeded")


async def test_a_lock_that_was_taken_without_an_answer_is_let_go(database, provider, connect, make_token, monkeypatch):
    gate, wrong = Barrier(), ["watch"]

    def fails_once(name):
        if name not in wrong:
            return plain_query(name)
        wrong.remove(name)
        after_the_lock = "1 / (length($1::text) - 21)"  # the length of the channel's name
        return plain_query(name).replace("END AS let_go", f"ELSE {after_the_lock} > 0 END AS let_go")

    monkeypatch.setattr("reactor.engine.wake.bell.plain_query", fails_once)
    async with running(database, provider, timings=timed(watch_every=0.05), worker_batch_size=1) as (_, log):
        await log.wait("watch.taken")
        await full(log, make_token, gate, provider)
        free = await (await connect()).fetchval(TAKE, WATCH)
        gate.open()

    assert free
    assert wrong == []
    assert len(log.of("listener.connected")) == 2


# Strangers: roles that may only connect, and hold the bell's locks.


@pytest.fixture
async def strange(database, connect_to):
    """Open clients of a role that may only connect."""
    async with stranger(database) as url:
        yield lambda: connect_to(url)


OWN_WATCHES = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
QUIETS = f"""
    SELECT count(*) FROM pg_locks
    WHERE locktype = 'advisory' AND (classid::bigint << 32) | objid::bigint = hashtextextended('{WAKE}', {QUIET})
"""
HELD = {"exclusively": "pg_advisory_lock", "shared": "pg_advisory_lock_shared"}


@pytest.mark.parametrize("lock", HELD.values(), ids=HELD.keys())
@pytest.mark.parametrize("mint", [MINT, "UPDATE tokens_s0 SET status = 'detected'"], ids=["insert", "update"])
async def test_no_stranger_makes_a_mint_silent(connection, strange, rung, make_token, lock, mint):
    await make_token(status="failed")
    await (await strange()).execute(f"SELECT {lock}(hashtextextended('{WAKE}', {QUIET}))")
    await rung()

    await connection.execute(mint)

    assert await rung() == 1


async def test_no_stranger_that_waits_for_the_quiet_lock_makes_a_mint_ring_late(
    connection, connect, strange, rung, authors, until_blocked
):
    worker, waits = await connect(), await strange()
    await worker.execute(LOCK.replace("$1", str(QUIET)))
    async with anyio.create_task_group() as group:
        group.start_soon(waits.execute, LOCK.replace("$1", str(QUIET)))
        await until_blocked(waits)
        await connection.execute(MINT)
        silent = await rung()
        await worker.execute("SELECT pg_advisory_unlock_all()")

    await connection.execute(f"SELECT pg_sleep(0.1); {MINT}")
    assert (silent, await rung()) == (0, 1)


@pytest.mark.parametrize("until", ["99999999999", "-1", "soon"])
async def test_a_session_remembers_a_silence_for_a_moment_only(connection, strange, rung, authors, until):
    await (await strange()).execute(LOCK.replace("$1", str(QUIET)))
    relation = await connection.fetchval("SELECT 'tokens_s0'::regclass::oid")
    await connection.execute(f"SET reactor.silence_{relation} = '{until} true'")

    await connection.execute(MINT)

    assert await rung() == 1


@pytest.mark.parametrize("remembered", [True, False])
async def test_a_session_goes_by_what_it_remembers_for_a_moment(
    connection, connect, strange, rung, authors, remembered
):
    """The lock's holder would lead to the opposite result."""
    await (await (strange if remembered else connect)()).execute(LOCK.replace("$1", str(QUIET)))
    relation = await connection.fetchval("SELECT 'tokens_s0'::regclass::oid")
    within = False
    while not within:  # tried again, because on a loaded machine the moment may pass before the mint
        await rung()
        async with connection.transaction():
            until = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8 + 0.099")
            await connection.execute(f"SET reactor.silence_{relation} = '{until!r} {remembered}'")
            await connection.execute(MINT)
            within = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp()) < $1::float8", until)

    assert await rung() == (0 if remembered else 1)


@pytest.mark.parametrize("mint", [MINT, "UPDATE tokens_s0 SET status = 'detected'"], ids=["insert", "update"])
@pytest.mark.parametrize("silent", [True, False])
async def test_a_session_remembers_what_it_has_found_out(connection, connect, strange, make_token, mint, silent):
    await make_token(status="failed")
    await (await (connect if silent else strange)()).execute(LOCK.replace("$1", str(QUIET)))
    relation = await connection.fetchval("SELECT 'tokens_s0'::regclass::oid")
    before = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")

    await connection.execute(mint)

    until, remembered = (await connection.fetchval(f"SELECT current_setting('reactor.silence_{relation}')")).split()
    assert (remembered == "true", float(until) > before + 0.1) == (silent, True)


async def test_a_session_that_holds_many_locks_is_looked_up_once(connection, connect, strange, rung, authors):
    """The limit is on sessions, not on locks: this session holds more locks than the limit."""
    await (await connect()).execute(LOCK.replace("$1", str(QUIET)))
    await (await strange()).execute(f"SELECT pg_advisory_lock(hashtext('{WAKE}'), n) FROM generate_series(1, 40) AS n")

    await connection.execute(MINT)

    assert await rung() == 0


@pytest.mark.parametrize(("sessions", "expected"), [(31, 0), (32, 1)])
async def test_a_mint_rings_where_more_sessions_hold_locks_than_are_looked_up(
    connection, connect, strange, rung, authors, sessions, expected
):
    await (await connect()).execute(LOCK.replace("$1", str(QUIET)))

    async def hold(number):
        await (await strange()).execute(f"SELECT pg_advisory_lock(hashtext('{WAKE}'), {number})")

    async with anyio.create_task_group() as group:
        for number in range(sessions):
            group.start_soon(hold, number)

    await connection.execute(MINT)

    assert await rung() == expected


async def test_a_mint_rings_for_a_worker_with_a_watch_of_its_own(connection, connect, rung, authors):
    quiet, alone = await connect(), await connect()
    await quiet.execute(LOCK.replace("$1", str(QUIET)))
    ((upto,),) = await alone.fetch(plain_query("own_watch"), WAKE, -(2**31), True)
    await connection.execute(MINT)
    heard = await rung()
    ((ended,),) = await alone.fetch(plain_query("own_watch"), WAKE, -(2**31), False)
    await (await connect()).execute(MINT)

    assert (upto > 0, ended, heard, await rung()) == (True, None, 1, 0)


@pytest.mark.parametrize("lock", HELD.values(), ids=HELD.keys())
async def test_a_mint_is_claimed_at_once_although_strangers_hold_the_watch_and_the_quiet_lock(
    database, provider, connect, strange, make_token, lock
):
    mallory, quiet = await strange(), await connect()
    await mallory.execute(f"SELECT {lock}(hashtextextended('{WAKE}', {WATCH}))")
    await quiet.execute(LOCK.replace("$1", str(QUIET)))  # as a worker without a free slot holds it
    async with running(database, provider) as (_, log):
        (blocked,) = [await log.wait("lock.blocked")]
        before = len(log.of("token.generation.succeeded"))
        await make_token()
        await log.wait("token.generation.succeeded", times=before + 1)

    assert blocked["lock"] == "watch"
    assert blocked["held_by"].startswith("stranger_")
    assert len(log.of("lock.blocked")) == 1
    assert not log.of("watch.taken_elsewhere")


async def test_a_watch_of_ones_own_ends_as_the_common_one_is_free(database, provider, connection, strange, monkeypatch):
    mallory = await strange()
    await mallory.execute(LOCK.replace("$1", str(WATCH)))
    async with running(database, provider, timings=timed(watch_every=0.05)) as (_, log):
        await until(lambda: connection.fetchval(OWN_WATCHES))
        await mallory.execute("SELECT pg_advisory_unlock_all()")
        await log.wait("watch.taken")
        after = await connection.fetchval(OWN_WATCHES)

    assert after == 0


async def test_a_worker_whose_own_watch_meets_no_free_slot_is_quiet(
    database, provider, strange, make_token, connection
):
    gate = Barrier()
    await (await strange()).execute(f"SELECT pg_advisory_lock_shared(hashtextextended('{WAKE}', {WATCH}))")
    provider.script["wait"] = [gate]
    async with running(database, provider, worker_batch_size=1) as (_, log):
        await log.wait("lock.blocked")
        await make_token()
        await gate.entered()
        await until(lambda: connection.fetchval(QUIETS))
        alone = await connection.fetchval(OWN_WATCHES)
        gate.open()

    assert alone == 0


@pytest.mark.parametrize("timings", [timed(watch_every=every, longest_look=0.001) for every in (0.001, 3600.0)])
async def test_a_watch_of_ones_own_looks_now_and_then_whatever_is_under_way(bell, connection, strange, timings):
    """The look is needed, because a session that remembers silence from before the watch does not ring."""
    bell, wake, looks = bell
    await (await strange()).execute(f"SELECT pg_advisory_lock_shared(hashtextextended('{WAKE}', {WATCH}))")
    await under_way(connection)
    bell.want("watch")
    await looks.more(1)
    wake.clear()
    await looks.more(20)

    assert wake._rung.is_set() is (timings.watch_every < 1)


@pytest.mark.parametrize("lock", HELD.values(), ids=HELD.keys())
async def test_a_stranger_that_holds_the_quiet_lock_alone_is_said(database, provider, strange, make_token, lock):
    gate = Barrier()
    await (await strange()).execute(f"SELECT {lock}(hashtextextended('{WAKE}', {QUIET}))")
    provider.script["wait"] = [gate]
    async with running(database, provider, worker_batch_size=1) as (_, log):
        await make_token()
        await gate.entered()
        blocked = await log.wait("lock.blocked")
        gate.open()

    assert blocked["lock"] == "quiet"
    assert blocked["held_by"].startswith("stranger_")


@pytest.mark.parametrize("timings", [timed(watch_every=0.001)])
async def test_another_workers_quiet_lock_is_no_strangers(bell, connection):
    bell, _, looks = bell
    tried, twice = [], anyio.Event()

    async def ask(query, *arguments):
        if tried:
            twice.set()  # at the second query the first answer has been handled
        tried.append(query)
        return await looks.ask(query, *arguments)

    await connection.execute(LOCK.replace("$1", str(QUIET)))
    bell.attach(ask)
    bell.want("quiet")
    await meet(twice)

    assert (set(tried), bell._quiet, bell.blocked) == ({plain_query("leave")}, False, False)


@pytest.mark.parametrize("timings", [Timings(watch_every=0.001, strangers_apart=0.0, stranger_looks=5)])
async def test_sessions_of_one_role_that_take_turns_are_said(bell, strange):
    bell, _, looks = bell
    one, other = await strange(), await strange()
    before, said = [], anyio.Event()

    async def ask(query, *arguments):
        nonlocal one, other
        if bell.blocked:
            said.set()
        if query == plain_query("watch"):
            await one.execute(f"SELECT pg_advisory_lock_shared(hashtextextended('{WAKE}', {WATCH}))")
            await other.execute("SELECT pg_advisory_unlock_all()")
            one, other = other, one
            before.append(bell.blocked)
        return await looks.ask(query, *arguments)

    bell.attach(ask)
    bell.want("watch")
    await meet(said)

    assert (bell.watching, bell._elsewhere, before[4]) == (False, False, False)
