"""What the worker's statements cost, however many rows wait: counted in rows touched, not in milliseconds."""

import json
import re

import pytest
from conftest import command, fresh, on

from reactor.table import described, plain_query

pytestmark = pytest.mark.anyio

ROWS = 100_000
BATCH = 100
COMPARED = "Rows Removed by Join Filter"
SHAPES = {
    "fresh": "'detected', NULL, NULL, NULL",
    "retries": "'detected', now() + interval '1 hour' + number * interval '1 second', NULL, NULL",
    "held": "'generating', NULL, now() + interval '1 minute', 7",
    "done": "CASE WHEN number % 1000 = 0 THEN 'detected' ELSE 'ready' END, NULL, NULL, NULL",
    "uploading": "'uploading', NULL, NULL, NULL",
}
FRESH, RETRIES, HELD, UPLOADS, KEY = (
    f"tokens_s0_{name}"
    for name in ("generation_fresh", "generation_retries", "generation_held", "generation_uploads", "pkey")
)


def fill(shape):
    return f"""
        INSERT INTO tokens_s0 (
          status, generation_due_at, generation_lease_ends_at, generation_worker, generation_epoch, mint_timestamp,
          generation_seeded_at, image_url
        )
        SELECT {SHAPES[shape]}, 1, now() - number * interval '1 second', now() - number * interval '1 second',
          'https://x'
        FROM generate_series(1, {ROWS}) AS number
    """


@pytest.fixture(scope="module")
def full_databases(server_url, template):
    """A database of each shape; `unknown` is one of fresh tokens that was never analysed."""
    urls = {}
    for shape in (*SHAPES, "unknown"):
        urls[shape] = on(server_url, fresh(server_url, f"TEMPLATE {template}"))
        command(
            urls[shape],
            "ALTER TABLE tokens_s0 SET (autovacuum_enabled = off)",
            "ALTER TABLE tokens_s0 DISABLE TRIGGER USER",
            fill(shape if shape in SHAPES else "fresh"),
            "ALTER TABLE tokens_s0 ENABLE TRIGGER USER",
        )
        if shape != "unknown":
            command(urls[shape], "VACUUM ANALYZE tokens_s0")
    yield urls
    for url in urls.values():
        command(server_url, f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")


@pytest.fixture
def full(full_databases, connect_to):
    """Connect to the database of a shape; what is done there is rolled back."""

    async def full(shape):
        connection = await connect_to(full_databases[shape])
        await connection.execute("SET plan_cache_mode = force_generic_plan; SET jit = off; BEGIN")
        return connection

    return full


def literal(value):
    match value:
        case list():
            return f"ARRAY[{', '.join(map(literal, value))}]"
        case None:
            return "NULL"
        case int() | float():
            return repr(value)
        case _:
            return f"'{value}'"


def listed(items):
    return f"({', '.join(items)})" if items else ""


async def explained(connection, name, *arguments):
    """The nodes that read the tokens table or join, as the generic plan of a prepared statement does."""
    table = described(dict(await connection.fetchrow(plain_query("discover"), "tokens_s0")), "tokens_s0")
    # As if the server had been running for long: before, a rescue finds nothing.
    text = table.query(name).replace("pg_postmaster_start_time()", "(now() - interval '1 hour')")
    declared = dict(re.findall(r"(?m)^-- \$(\d+) +\w+ +(double precision(?:\[\])?|[a-z]+(?:\[\])?)", text))
    types = [declared[str(number)] for number in range(1, len(declared) + 1)]
    values = [f"{literal(value)}::{type_}" for value, type_ in zip(arguments, types, strict=True)]
    await connection.execute(f"PREPARE explained {listed(types)} AS {text}")
    plan = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE explained {listed(values)}")

    def nodes(node):
        yield node
        for child in node.get("Plans", []):
            yield from nodes(child)

    return [node for node in nodes(json.loads(plan)[0]["Plan"]) if "Scan" in node["Node Type"] or COMPARED in node]


def touched(scans):
    """Rows that were read to find those that were wanted."""
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0))
        * node["Actual Loops"]
        for node in scans
        if node.get("Relation Name") == "tokens_s0"
    )


def compared(nodes):
    """Pairs of rows that were put side by side and did not match."""
    return sum(node.get(COMPARED, 0) * node["Actual Loops"] for node in nodes)


def indexes(scans):
    return {node["Index Name"] for node in scans if node.get("Index Name", "").startswith("tokens_s0")}


def sequential(scans):
    return [node for node in scans if node["Node Type"] == "Seq Scan" and node["Relation Name"] == "tokens_s0"]


CLAIM = ("claim", BATCH, 7, 60.0, 0.001, [])
ABANDONED = ("abandoned", BATCH, 60.0, 3.0, [], [8, -8], 0.0)


@pytest.mark.parametrize(
    ("shape", "found"), [("fresh", BATCH), ("unknown", BATCH), ("done", BATCH), ("retries", 0), ("held", 0)]
)
async def test_a_claim_reads_what_it_takes_however_many_wait(full, shape, found):
    scans = await explained(await full(shape), *CLAIM)

    assert not sequential(scans)
    assert indexes(scans) <= {FRESH, RETRIES, KEY}
    assert indexes(scans) >= {FRESH, RETRIES}
    assert 2 * found <= touched(scans) <= 3 * found + 5


async def test_a_claim_of_due_retries_reads_what_it_takes(full):
    connection = await full("retries")
    await connection.execute("UPDATE tokens_s0 SET generation_due_at = now() WHERE token_id <= 1000")

    scans = await explained(connection, *CLAIM)

    assert not sequential(scans)
    assert touched(scans) <= 3 * BATCH + 5


@pytest.mark.parametrize("gate", ["paused_until = 'infinity'", "arrival_at = now() + interval '1 minute'"])
async def test_a_claim_reads_no_token_where_the_gate_lets_none_through(full, gate):
    connection = await full("fresh")
    await connection.execute(f"UPDATE reactor.intake SET {gate}")

    assert touched(await explained(connection, *CLAIM)) == 0


@pytest.mark.parametrize("shape", ["fresh", "unknown", "retries", "done"])
async def test_a_rescue_reads_nothing_where_nothing_is_held(full, shape):
    scans = await explained(await full(shape), *ABANDONED)

    assert not sequential(scans)
    assert HELD in indexes(scans)
    assert touched(scans) == 0


@pytest.mark.parametrize("shape", ["fresh", "unknown", "retries", "done"])
async def test_a_rescue_reads_what_is_held_and_no_more(full, shape):
    connection = await full(shape)
    await connection.execute(
        "UPDATE tokens_s0 SET status = 'generating', generation_worker = 1, generation_due_at = NULL,"
        " generation_lease_ends_at = now() - interval '1 second' WHERE token_id <= 300"
    )

    scans = await explained(connection, *ABANDONED)

    assert not sequential(scans)
    assert HELD in indexes(scans)
    assert touched(scans) <= 2 * 300


@pytest.mark.parametrize(
    ("shape", "used"), [("fresh", FRESH), ("unknown", FRESH), ("retries", RETRIES), ("held", RETRIES), ("done", FRESH)]
)
async def test_the_next_due_time_costs_one_row(full, shape, used):
    scans = await explained(await full(shape), "next_due", 0.1)

    assert not sequential(scans)
    assert used in indexes(scans)
    assert touched(scans) <= 1


@pytest.mark.parametrize("shape", [*SHAPES, "unknown"])
async def test_the_gauges_count_no_further_than_they_say(full, shape):
    scans = await explained(await full(shape), "gauges", "public.tokens_s0")

    assert not sequential(scans)
    assert indexes(scans) == {FRESH, RETRIES, UPLOADS}
    assert touched(scans) <= {"fresh": 10_000, "unknown": 10_000, "retries": 10_000}.get(shape, 100)


@pytest.mark.parametrize("due", ["NULL", "now()"])
async def test_the_gauges_count_no_further_where_statistics_know_of_no_backlog(full, due):
    connection = await full("done")
    await connection.execute("ALTER TABLE tokens_s0 DISABLE TRIGGER USER")
    await connection.execute(f"UPDATE tokens_s0 SET status = 'detected', generation_due_at = {due}")
    await connection.execute("DELETE FROM pg_statistic WHERE starelid = 'tokens_s0'::regclass AND stanullfrac = 0")

    scans = await explained(connection, "gauges", "public.tokens_s0")

    assert not sequential(scans)
    assert touched(scans) <= 10_200


@pytest.mark.parametrize(("shape", "depth"), [("fresh", ROWS), ("retries", ROWS), ("unknown", 10_000), ("done", 100)])
async def test_the_depth_is_exact_up_to_ten_thousand_and_an_estimate_beyond(full, shape, depth):
    connection = await full(shape)
    table = described(dict(await connection.fetchrow(plain_query("discover"), "tokens_s0")), "tokens_s0")

    row = await connection.fetchrow(table.query("gauges"), table.relation)

    assert row["queue_depth"] == depth


@pytest.mark.parametrize("shape", [*SHAPES, "unknown"])
async def test_whether_anything_is_unfinished_costs_one_row(full, shape):
    scans = await explained(await full(shape), "unfinished")

    assert not sequential(scans)
    assert indexes(scans) == {FRESH, RETRIES, HELD}
    assert touched(scans) == (shape != "uploading")


REST = {
    "renew": [[7] * BATCH, 60.0],
    "record": [[7] * BATCH, ["p"] * BATCH, [5] * BATCH],
    "rescue": [[None] * BATCH, ["dead"] * BATCH, 8, 60.0, 5],
    "settle": [
        [7] * BATCH, ["uploading"] * BATCH, ["https://x"] * BATCH, [None] * BATCH, ["p"] * BATCH, [0] * BATCH,
        [None] * BATCH, [False] * BATCH, [5] * BATCH,
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", REST)
@pytest.mark.parametrize("statistics", [True, False], ids=["analysed", "unknown"])
async def test_a_write_reads_its_own_rows(full, name, statistics):
    connection = await full("held")
    if not statistics:
        await connection.execute("DELETE FROM pg_statistic WHERE starelid = 'tokens_s0'::regclass")
    ids = [
        row["id"] for row in await connection.fetch(f"SELECT id FROM tokens_s0 WHERE token_id % 1000 = 0 LIMIT {BATCH}")
    ]

    scans = await explained(connection, name, ids, [1] * BATCH, *REST[name])

    assert not sequential(scans)
    assert indexes(scans) <= {KEY, HELD}
    assert BATCH <= touched(scans) <= 3 * BATCH
    if name in {"settle", "record"}:  # the others are once in seconds
        assert compared(scans) <= BATCH


async def test_renewals_are_hot_updates(connection, ask):
    await connection.execute(
        "ALTER TABLE tokens_s0 SET (autovacuum_enabled = off);"
        "INSERT INTO tokens_s0 (status) SELECT 'ready' FROM generate_series(1, 2000);"
        "INSERT INTO tokens_s0 (author_id) SELECT NULL FROM generate_series(1, 50)"
    )
    claims = await ask("claim", 50, 7, 60.0, 0.0, [])
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
