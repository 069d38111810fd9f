"""The cost of the worker's statements on large tables, counted in rows touched, not in milliseconds."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID, uuid4

import anyio
import asyncpg
import pytest
from conftest import command
from databases import clone, on

from reactor.database.connections import SERVER_SETTINGS
from reactor.database.discovery import find

pytestmark = pytest.mark.anyio

ROWS = 100_000
BATCHES = (1, 10, 100, 1000)
SHAPES = {
    "fresh": "'detected', NULL, NULL, NULL",
    "retries": "'detected', now() + interval '1 hour' + number * interval '1 second', NULL, NULL",
    "held": "'generating', NULL, now() + interval '1 minute', 7",
    "done": "CASE WHEN number % 100 = 0 THEN 'detected' ELSE 'uploading' END, NULL, NULL, NULL",
    # All rows came at once, after the last ANALYZE.
    "flooded": "'detected', CASE WHEN number % 2 = 0 THEN now() END, NULL, NULL",
}
CLAIMABLE = {"fresh": ROWS, "done": ROWS // 100, "flooded": ROWS}
FRESH, RETRIES, HELD, UPLOADS, KEY = (
    f"tokens_s0_{name}"
    for name in ("generation_fresh", "generation_retries", "generation_held", "generation_uploads", "pkey")
)
FORGET_STATISTICS = """
    DELETE FROM pg_statistic WHERE starelid = 'tokens_s0'::regclass;
    UPDATE pg_class SET reltuples = -1, relpages = 0
    WHERE oid = 'tokens_s0'::regclass OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'tokens_s0'::regclass)
"""
# Held tokens, spread over the table.
HOLD = f"""
    SET LOCAL session_replication_role = replica;
    UPDATE tokens_s0
    SET status = 'generating', generation_due_at = NULL, generation_epoch = 1, generation_worker = 7,
      generation_lease_ends_at = '2000-01-01', generation_seed = 5
    WHERE token_id = ANY (ARRAY(SELECT generate_series(1, {ROWS}, {ROWS // max(BATCHES)})));
    SET LOCAL session_replication_role = origin
"""
MIDDLE = UUID(int=2**127)
SEEN = 946684800.0  # the end of their lease, in seconds since 1970

every_shape = pytest.mark.parametrize("shape", SHAPES)
with_or_without_statistics = pytest.mark.parametrize("statistics", [True, False], ids=["analysed", "unknown"])


def fill(url, shape):
    tokens = f"""
        INSERT INTO tokens_s0 (
          author_id, status, generation_due_at, generation_lease_ends_at, generation_worker, generation_epoch,
          mint_timestamp, generation_seeded_at, image_url
        )
        SELECT lpad(to_hex(number % 10000), 32, '0')::uuid, {SHAPES[shape]}, 1, now() - number * interval '1 second',
          now() - number * interval '1 second', 'https://x'
        FROM generate_series(1, {ROWS}) AS number
    """
    last = ["INSERT INTO tokens_s0 (status) SELECT 'ready' FROM generate_series(1, 1000)", "ANALYZE", tokens]
    command(
        url,
        "ALTER TABLE tokens_s0 SET (autovacuum_enabled = off)",
        "SET session_replication_role = replica",
        "INSERT INTO authors (id) SELECT lpad(to_hex(number), 32, '0')::uuid FROM generate_series(0, 9999) AS number",
        *(last if shape == "flooded" else [tokens, "ANALYZE"]),
    )


@pytest.fixture(scope="module")
def full_databases(server_url, template):
    """A database of each shape."""
    urls = {shape: on(server_url, anyio.run(clone, server_url, template)) for shape in SHAPES}
    with ThreadPoolExecutor() as pool:
        list(pool.map(fill, urls.values(), SHAPES))
    yield urls
    for url in urls.values():
        command(server_url, f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")


@pytest.fixture
async def full(full_databases):
    """Connect to the database of a shape, as a worker does. All changes are rolled back."""
    opened = []

    async def full(shape, *, statistics=True):
        connection = await asyncpg.connect(full_databases[shape], server_settings=SERVER_SETTINGS)
        opened.append(connection)
        await connection.transaction().start()
        if not statistics:
            await connection.execute(FORGET_STATISTICS)
        return connection

    yield full
    for connection in opened:
        await connection.close()


def literal(value):
    match value:
        case list():
            return f"'{{{', '.join('NULL' if item is None else str(item) for item in value)}}}'"
        case None:
            return "NULL"
        case int() | float():
            return repr(value)
        case _:
            return f"'{value}'"


class Statement:
    """A statement, prepared as a worker does it, that can be explained many times."""

    def __init__(self, connection, prepared):
        self._connection = connection
        self._prepared = prepared  # kept, because asyncpg drops the server's statement after this object

    @classmethod
    async def of(cls, connection, name, **restriction):
        table = await find(connection.fetch, "tokens_s0")
        # As if the server had run for an hour: soon after its start, a rescue finds nothing.
        text = table.query(name, **restriction).replace("pg_postmaster_start_time()", "(now() - interval '1 hour')")
        return cls(connection, await connection.prepare(text, name=f"explained_{uuid4().hex}"))

    async def explained(self, *arguments):
        """Run the generic plan; return its cost. Its changes are rolled back."""
        given = f"({', '.join(map(literal, arguments))})" if arguments else ""
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE {self._prepared.get_name()} {given}"
        transaction = self._connection.transaction()
        await transaction.start()
        ((plan,),) = await self._connection.fetch(explain)
        await transaction.rollback()
        return Cost(json.loads(plan)[0]["Plan"])


async def explained(connection, name, *arguments, **restriction):
    return await (await Statement.of(connection, name, **restriction)).explained(*arguments)


class Cost:
    """Counts of the work that a plan did."""

    def __init__(self, plan):
        self.blocks = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        self._nodes = list(nodes(plan))
        self._reads = [node for node in self._nodes if "Scan" in node["Node Type"]]
        # The index scan right below a bitmap heap scan counts the same rows, and besides them the dead ones that tests
        # rolled back. How many of these are left depends on when the server removes them.
        below = [child for node in self._nodes if node["Node Type"] == "Bitmap Heap Scan" for child in node["Plans"]]
        self._counted_twice = {id(node) for node in below if node["Node Type"] == "Bitmap Index Scan"}

    @property
    def worked(self):
        """Rows that any node returned or discarded, including pairs that did not match."""
        return sum(rows(node) for node in self._nodes if id(node) not in self._counted_twice)

    @property
    def touched(self):
        """Rows of the tokens table that scans read, the discarded ones included."""
        return sum(rows(node) for node in self._reads if node.get("Relation Name") == "tokens_s0")

    @property
    def history(self):
        """Rows of the history that scans read, the discarded ones included."""
        return sum(rows(node) for node in self._reads if node.get("Relation Name") == "attempts")

    @property
    def indexes(self):
        return {node["Index Name"] for node in self._reads if node.get("Index Name", "").startswith("tokens_s0")}

    @property
    def whole_tables(self):
        """The growing tables that were read without an index."""
        sequential = [node["Relation Name"] for node in self._reads if node["Node Type"] == "Seq Scan"]
        return {"tokens_s0", "authors"}.intersection(sequential)


def nodes(node):
    yield node
    for child in node.get("Plans", []):
        yield from nodes(child)


def rows(node):
    removed = sum(count for name, count in node.items() if name.startswith("Rows Removed by"))
    return (node["Actual Rows"] + removed) * node["Actual Loops"]


# Claims.


def claim_of(slots):
    return 0.001, slots, 7, 60.0


@pytest.mark.parametrize("onward", [False, True], ids=["from the front", "onward"])
@every_shape
@with_or_without_statistics
async def test_a_claim_reads_what_it_takes_however_many_wait(full, shape, statistics, onward):
    connection = await full(shape, statistics=statistics)
    claim = await Statement.of(connection, "claim", after=("fresh",) * onward)
    after = [await connection.fetchval("SELECT id FROM tokens_s0 ORDER BY mint_timestamp LIMIT 1")] * onward

    for slots in BATCHES:
        cost, found = await claim.explained(*claim_of(slots), *after), min(slots, CLAIMABLE.get(shape, onward) - onward)
        assert not cost.whole_tables
        assert {FRESH, RETRIES} <= cost.indexes <= {FRESH, RETRIES, KEY}
        assert 2 * found <= cost.touched <= 3 * found + onward
        assert cost.worked <= 20 * found + 30


@with_or_without_statistics
async def test_a_claim_of_due_retries_reads_what_it_takes(full, statistics):
    connection = await full("retries", statistics=statistics)
    await connection.execute("UPDATE tokens_s0 SET generation_due_at = now() WHERE token_id <= 2000")
    claim = await Statement.of(connection, "claim")

    for slots in BATCHES:
        cost = await claim.explained(*claim_of(slots))
        assert not cost.whole_tables
        assert 2 * slots <= cost.touched <= 3 * slots
        assert cost.worked <= 20 * slots + 30


async def test_dead_rows_do_not_count_as_work(full):
    connection, claim, worked = await full("retries"), claim_of(1), set()
    await connection.execute("UPDATE tokens_s0 SET generation_due_at = now() WHERE token_id <= 2000")
    statement = await Statement.of(connection, "claim")
    for _ in range(10):
        worked.add((await statement.explained(*claim)).worked)

    assert len(worked) == 1


@pytest.mark.parametrize("gate", ["paused_until = 'infinity'", "arrival_at = now() + interval '1 minute'"])
async def test_a_claim_reads_no_token_where_the_gate_lets_none_through(full, gate):
    connection = await full("fresh")
    await connection.execute(f"UPDATE reactor.intake SET {gate}")

    assert (await explained(connection, "claim", *claim_of(100))).touched == 0


@every_shape
@with_or_without_statistics
@pytest.mark.parametrize("after", [(), ("fresh",), ("retries",), ("fresh", "retries")], ids=" and ".join)
async def test_a_look_reads_what_it_tells_and_goes_on_where_it_is_told_to(full, shape, statistics, after):
    connection = await full(shape, statistics=statistics)
    if shape == "retries":
        await connection.execute("UPDATE tokens_s0 SET generation_due_at = '2000-01-01' WHERE token_id <= 20000")
    orders = {"fresh": "generation_due_at IS NULL, mint_timestamp", "retries": "generation_due_at"}
    places = [
        await connection.fetchval(f"SELECT id FROM tokens_s0 ORDER BY {orders[kind]}, id OFFSET 10 LIMIT 1")
        for kind in after
    ]
    look = await Statement.of(connection, "look", after=after)

    for tokens in BATCHES:
        cost = await look.explained(tokens, *places)
        assert not cost.whole_tables
        assert cost.touched <= tokens + len(after)
        assert cost.worked <= 5 * tokens + 10


@every_shape
@with_or_without_statistics
async def test_a_claim_of_chosen_tokens_reads_those(full, shape, statistics):
    connection = await full(shape, statistics=statistics)
    some = "SELECT id FROM tokens_s0 WHERE status = 'detected' ORDER BY mint_timestamp DESC LIMIT 100"
    ids = [row["id"] for row in await connection.fetch(some)]

    for count in (1, 10, 100):
        cost = await explained(connection, "claim", *claim_of(count), ids[:count], among=True)
        assert not cost.whole_tables
        assert cost.touched <= 4 * count
        assert cost.worked <= 25 * count + 30


@pytest.mark.parametrize("name", ["claim", "look", "next_due", "unfinished", "gauges"])
async def test_tokens_that_no_claim_can_take_cost_nothing(connection, table, name):
    await connection.execute(
        "INSERT INTO tokens_s0 (generation_epoch, mint_timestamp, generation_due_at)"
        " SELECT 9223372036854775807, '-infinity', CASE WHEN number % 2 = 0 THEN '-infinity'::timestamptz END"
        " FROM generate_series(1, 5000) AS number; ANALYZE tokens_s0"
    )
    given = {"claim": claim_of(10), "look": (10,), "next_due": (0.1,), "gauges": (table.relation,)}

    assert (await explained(connection, name, *given.get(name, ()))).touched == 0


async def test_a_claim_steps_over_what_is_settled_only_once(connection, ask):
    await connection.execute(
        "ALTER TABLE tokens_s0 SET (autovacuum_enabled = off);"
        "INSERT INTO tokens_s0 (author_id) SELECT NULL FROM generate_series(1, 5000);"
        "UPDATE tokens_s0 SET status = 'ready';"
        "INSERT INTO tokens_s0 (author_id) SELECT NULL FROM generate_series(1, 10)"
    )
    claim = await Statement.of(connection, "claim")

    _first, second = [await claim.explained(*claim_of(1)) for _ in range(2)]

    assert second.blocks <= 100  # the first claim reads hundreds, and marks the index entries of settled rows dead


@pytest.mark.parametrize("at_once", [0, 20_020], ids=["minted apart", "minted at once"])
async def test_a_claim_that_goes_on_reads_nothing_of_what_is_behind_it(full, at_once):
    connection = await full("fresh")  # in an open transaction: as behind an old snapshot, no old row is dead
    minted = f"INSERT INTO tokens_s0 (mint_timestamp) SELECT '2000-01-01' FROM generate_series(1, {at_once})"
    front = "SELECT id FROM tokens_s0 WHERE status = 'detected' ORDER BY mint_timestamp, id LIMIT 20000"
    await connection.execute(f"{minted}; UPDATE tokens_s0 SET status = 'ready' WHERE id = ANY (ARRAY({front}))")
    last = "SELECT id FROM tokens_s0 WHERE status = 'ready' ORDER BY mint_timestamp DESC, id DESC"

    from_the_front = await explained(connection, "claim", *claim_of(10))
    claim = await Statement.of(connection, "claim", after=("fresh",))
    onward = await claim.explained(*claim_of(10), await connection.fetchval(last))

    assert 2 * 10 <= onward.touched <= 3 * 10 + 1
    assert onward.blocks < from_the_front.blocks / 2


# Rescues.


def look_for(slots, held=10_000):
    return slots, 60.0, 3.0, [], [8, -8], 0.0, MIDDLE, held


@with_or_without_statistics
@pytest.mark.parametrize("after", [MIDDLE, UUID(int=0), UUID(int=2**128 - 1)], ids=["middle", "front", "end"])
async def test_a_rescue_looks_through_so_many_held_tokens_and_no_more(full, statistics, after):
    connection = await full("held", statistics=statistics)
    abandoned = await Statement.of(connection, "abandoned")

    for held in (1, 100, 1000):
        cost = await abandoned.explained(100, 60.0, 3.0, [], [8, -8], 0.0, after, held)
        assert not cost.whole_tables
        assert cost.indexes == {HELD}
        assert cost.touched == held
        assert cost.worked <= 14 * held + 150
        assert cost.blocks <= 2 * held + 50


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "held"])
@with_or_without_statistics
async def test_a_rescue_reads_what_is_held_and_no_more(full, shape, statistics):
    connection = await full(shape, statistics=statistics)
    abandoned = await Statement.of(connection, "abandoned")

    nothing = await abandoned.explained(*look_for(100))
    await connection.execute(HOLD)

    assert (nothing.whole_tables, nothing.touched) == (set(), 0)
    for slots in BATCHES:
        cost = await abandoned.explained(*look_for(slots))
        assert not cost.whole_tables
        assert cost.indexes == {HELD}
        assert cost.touched <= 2 * max(BATCHES)
        assert cost.worked <= 14 * max(BATCHES) + 100


# Writes to held tokens.

WRITES = {
    "renew": lambda count: ([7] * count, 60.0),
    "record": lambda count: ([7] * count, ["p"] * count, [5] * count, 0),
    "rescue": lambda count: ([SEEN] * count, ["dead"] * count, 8, 60.0, 5, None),
    "settle": lambda count: (
        [7] * count, ["uploading"] * count, ["https://x"] * count, [None] * count, ["p"] * count, [0] * count,
        [None] * count, [False] * count, [5] * count, [None] * count, [False] * count, 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITES)
@every_shape
@with_or_without_statistics
async def test_a_write_reads_its_own_rows(full, name, shape, statistics):
    connection = await full(shape, statistics=statistics)
    await connection.execute(HOLD)
    held = await connection.fetch("SELECT id FROM tokens_s0 WHERE status = 'generating' AND generation_seed = 5")
    ids = [row["id"] for row in held]
    statement = await Statement.of(connection, name)

    for count in BATCHES:
        cost = await statement.explained(ids[:count], [1] * count, *WRITES[name](count))
        assert not cost.whole_tables
        assert KEY in cost.indexes
        assert 2 * count <= cost.touched <= 3 * count
        assert cost.worked <= 25 * count + 10  # settle and record also look at the gate, for the budget


@every_shape
@with_or_without_statistics
async def test_turning_to_the_fallback_prompt_reads_its_own_row(full, shape, statistics):
    connection = await full(shape, statistics=statistics)
    await connection.execute(HOLD)
    id_ = await connection.fetchval("SELECT id FROM tokens_s0 WHERE token_id = 1")

    cost = await explained(connection, "censor", id_, 1, 7, 1, "rejected", "p", None, 0)

    assert not cost.whole_tables
    assert cost.indexes <= {KEY, HELD}
    assert cost.touched <= 3
    assert cost.worked <= 20


# Looks.


@every_shape
@with_or_without_statistics
async def test_the_next_due_time_costs_one_row(full, shape, statistics):
    cost = await explained(await full(shape, statistics=statistics), "next_due", 0.1)

    assert not cost.whole_tables
    assert cost.indexes == {FRESH, RETRIES}
    assert cost.touched <= 1


@every_shape
@with_or_without_statistics
async def test_whether_anything_is_unfinished_costs_one_row(full, shape, statistics):
    cost = await explained(await full(shape, statistics=statistics), "unfinished")

    assert not cost.whole_tables
    assert cost.indexes == {FRESH, RETRIES, HELD}
    assert cost.touched == 1


@every_shape
@with_or_without_statistics
async def test_the_gauges_count_no_further_than_they_say(full, shape, statistics):
    cost = await explained(await full(shape, statistics=statistics), "gauges", "public.tokens_s0")

    assert not cost.whole_tables
    assert cost.indexes == {FRESH, RETRIES, UPLOADS}
    assert cost.touched <= {"fresh": 10_000, "retries": 10_000, "done": 1_001, "flooded": 20_000}.get(shape, 0)


@pytest.mark.parametrize(("shape", "depth"), [("fresh", ROWS), ("retries", ROWS), ("flooded", 20_000), ("done", 1_000)])
async def test_the_depth_is_exact_up_to_ten_thousand_and_an_estimate_beyond(full, shape, depth):
    connection = await full(shape)
    table = await find(connection.fetch, "tokens_s0")

    row = await connection.fetchrow(table.query("gauges"), table.relation)

    assert row["queue_depth"] == depth


async def test_renewals_are_hot_updates(connection, ask):
    await connection.execute(
        "ALTER TABLE tokens_s0 SET (autovacuum_enabled = off);"
        "INSERT INTO tokens_s0 (status) SELECT 'ready' FROM generate_series(1, 2000);"
        "INSERT INTO tokens_s0 (author_id) SELECT NULL FROM generate_series(1, 50)"
    )
    claims = await ask("claim", 0.0, 50, 7, 60.0)
    fences = [row["id"] for row in claims], [row["epoch"] for row in claims], [7] * 50

    async def updates():
        await connection.execute("SELECT pg_stat_force_next_flush()")
        await connection.execute("SELECT pg_stat_clear_snapshot()")
        return await connection.fetchrow(
            "SELECT n_tup_upd AS all, n_tup_hot_upd AS hot FROM pg_stat_user_tables WHERE relname = 'tokens_s0'"
        )

    before = await updates()
    for _ in range(20):
        await ask("renew", *fences, 60.0)
    after = await updates()

    assert after["all"] - before["all"] == 1000
    assert after["hot"] - before["hot"] >= 900


@with_or_without_statistics
@pytest.mark.parametrize("name", ["count_expired", "retry_expired"])
async def test_a_step_over_expired_images_reads_so_many_and_no_more(full, statistics, name):
    history = [True] if name == "retry_expired" else []
    cost = await explained(
        await full("done", statistics=statistics), name, None, 100, None, None, None, 3600.0, *history
    )

    assert not cost.whole_tables
    assert cost.touched <= 5 * 101
    assert UPLOADS in cost.indexes


@every_shape
@with_or_without_statistics
async def test_a_step_of_an_audit_reads_so_many_and_no_more(full, shape, statistics):
    cost = await explained(await full(shape, statistics=statistics), "audit_tokens", MIDDLE, 100, "2020-01-01", [], [])

    assert not cost.whole_tables
    assert cost.indexes == {KEY}
    assert cost.touched == 101


@with_or_without_statistics
async def test_an_audit_goes_on_in_the_history_behind_what_it_has_read(full, statistics):
    connection = await full("done", statistics=statistics)
    await connection.execute(
        "INSERT INTO reactor.attempts (tokens_table, key, epoch, outcome, ended_at)"
        " SELECT 'x', 'x', 1, 'retry', now() - number * interval '1 s' FROM generate_series(1, 20000) AS number"
    )
    if statistics:
        await connection.execute("ANALYZE reactor.attempts")
    at = await connection.fetchval("SELECT now() - interval '100 s'")

    cost = await explained(connection, "audit_history", at - timedelta(days=1), at, 0, 50)

    assert cost.worked <= 4 * 52


# The history.

# What an attempt reports whose token was taken over: the parameters of settle.sql behind the fences.
GIVEN_UP = ("uploading", "https://x", None, "p", 0, None, False, 5, r'"{\"censored\": false}"', False)
ENTRIES = f"""
    INSERT INTO reactor.attempts (tokens_table, key, epoch, outcome, prediction_id, seed, ended_at)
    SELECT 'public.tokens_s0', gen_random_uuid(), 1, 'succeeded', 'p' || number, 5,
      now() - ({ROWS} - number) * interval '1 s'
    FROM generate_series(1, {ROWS}) AS number
"""
OF_THE_HISTORY = {
    "nothing to prune": ("prune_history", (30, 500), 0),
    "much to prune": ("prune_history", (1, 500), 2 * 500),
    "a token": ("history_of_token", (str(MIDDLE), 100, None), 0),
    "the newest": ("history_since", (None, 100, None, None, 200), 201),
    "the newest of an hour": ("history_since", (3600.0, 100, None, None, 200), 201),
    "fewer in an hour than asked for": ("history_since", (3600.0, 10_000, None, None, 10_000), 3_602),
    "a rare outcome in an hour": ("history_since", (3600.0, 100, None, ["lost"], 10_000), 3_602),
    "the next page": ("history_since", (None, 100, ROWS // 2, None, 200), 204),
    "the next page of a rare outcome": ("history_since", (3600.0, 100, ROWS - 3000, ["lost"], 10_000), 603),
    "a rare outcome of any time": ("history_since", (None, 100, None, ["lost"], 10_000), 10_001),
    "a pulse of an hour": ("pulse", (60.0, 60, 20_000), 3_602),
    "a pulse of a minute": ("pulse", (1.0, 60, 20_000), 62),
    "a pulse of more than is read": ("pulse", (60.0, 60, 500), 500),
    "errors of an hour": ("recent_errors", (300.0, 12, 20_000, 500), 3_602),
    "errors of more than is read": ("recent_errors", (3600.0, 24, 500, 500), 500),
    "reactions of a minute": ("reactions", (60.0, 500), 62),
    "reactions of a day": ("reactions", (86400.0, 500), 500),
    "purchases of an hour": ("purchases", (3600.0,), 3_601),
    "what expired today": ("expired_today", (None, 100, 0.0), 101),
    "a zombie's": ("settle", ([MIDDLE], [1], [7], *([each] for each in GIVEN_UP), 0), 0),
    "a zombie's, with a budget": ("settle", ([MIDDLE], [1], [7], *([each] for each in GIVEN_UP), 100), 0),
}


@pytest.fixture(scope="module")
def long_history(server_url, template):
    """A database with a long history."""
    url = on(server_url, anyio.run(clone, server_url, template))
    command(url, "ALTER TABLE reactor.attempts SET (autovacuum_enabled = off)", ENTRIES)
    yield url
    command(server_url, f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")


@pytest.mark.parametrize("statistics", [False, True], ids=["unknown", "analysed"])
@pytest.mark.parametrize("of", OF_THE_HISTORY)
async def test_the_history_is_read_by_its_indexes(long_history, of, statistics):
    name, arguments, most = OF_THE_HISTORY[of]
    connection = await asyncpg.connect(long_history, server_settings=SERVER_SETTINGS)
    try:
        await connection.transaction().start()
        if statistics:
            await connection.execute("ANALYZE reactor.attempts")
        cost = await explained(connection, name, *arguments)
    finally:
        await connection.close()

    assert cost.history <= most
