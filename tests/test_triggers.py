import json
from functools import partial

import pytest
from hosts import UPPER, make_host
from rings import STATUS, WAKE, WOKEN, listening, silently, told

from reactor.database.channels import channel
from reactor.database.discovery import find
from reactor.migrations import revisions

pytestmark = pytest.mark.anyio


@pytest.fixture
async def rung(connect):
    """Return the notifications since the last call."""
    return await listening(await connect(), WAKE, STATUS)


@pytest.fixture
def make_tokens(connection):
    """Make tokens in a state without notifications."""
    return partial(silently, connection)


MANY = "INSERT INTO tokens_s0 (token_id) SELECT number FROM generate_series(1, 1000) AS number"
INSERTS = {
    "one row": ("INSERT INTO tokens_s0 (token_id) VALUES (1)", [WOKEN]),
    "a thousand rows": (MANY, [WOKEN]),
    "a thousand statements": (
        "DO $$ BEGIN FOR i IN 1 .. 1000 LOOP INSERT INTO tokens_s0 DEFAULT VALUES; END LOOP; END $$",
        [WOKEN],
    ),
    "no row": ("INSERT INTO tokens_s0 (token_id) SELECT 1 WHERE false", []),
    "a writable CTE": (
        """WITH one AS (INSERT INTO tokens_s0 (token_id) VALUES (1) RETURNING 1)
        INSERT INTO tokens_s0 (token_id, status) VALUES (2, 'failed')""",
        [WOKEN, told("failed", 2)],
    ),
    "rolled back to a savepoint": (
        "BEGIN; SAVEPOINT a; INSERT INTO tokens_s0 (token_id) VALUES (1); ROLLBACK TO a; COMMIT",
        [],
    ),
    "rolled back": ("BEGIN; INSERT INTO tokens_s0 (token_id) VALUES (1); ROLLBACK", []),
    "due later": ("INSERT INTO tokens_s0 (generation_due_at) VALUES (now() + interval '1 hour')", []),
    "due now": ("INSERT INTO tokens_s0 (generation_due_at) VALUES (now())", [WOKEN]),
    "generating": ("INSERT INTO tokens_s0 (status) VALUES ('generating')", []),
    "failed": ("INSERT INTO tokens_s0 (token_id, status) VALUES (1, 'failed'), (2, 'failed')", [told("failed", 1, 2)]),
    "copied": ("COPY tokens_s0 (token_id) FROM PROGRAM 'seq 1 100'", [WOKEN]),
    "merged": (
        """MERGE INTO tokens_s0 USING (VALUES (1)) AS given (number) ON token_id = number
        WHEN NOT MATCHED THEN INSERT (token_id) VALUES (number)""",
        [WOKEN],
    ),
}


def skip_unless_known(connection, statement):
    if statement.startswith("MERGE") and connection.get_server_version().major < 15:
        pytest.skip("MERGE is new in PostgreSQL 15")


@pytest.mark.parametrize(("statement", "expected"), INSERTS.values(), ids=INSERTS.keys())
async def test_an_insert_rings(connection, rung, statement, expected):
    skip_unless_known(connection, statement)

    await connection.execute(statement)

    assert await rung() == expected


SETTLED = "SET status = 'uploading', image_url = 'x'"
UPDATES = {
    "an unrelated column": ("detected", "UPDATE tokens_s0 SET created_at = now()", []),
    "an unrelated column of a failed token": ("failed", "UPDATE tokens_s0 SET created_at = now()", []),
    "detected again": ("detected", "UPDATE tokens_s0 SET status = 'detected'", []),
    "failed again": ("failed", "UPDATE tokens_s0 SET status = 'failed'", []),
    "set back": ("failed", "UPDATE tokens_s0 SET status = 'detected'", [WOKEN]),
    "set back, due later": (
        "failed", "UPDATE tokens_s0 SET status = 'detected', generation_due_at = now() + interval '1 hour'", []
    ),
    "due now after all": ("detected later", "UPDATE tokens_s0 SET generation_due_at = now()", [WOKEN]),
    "due later still": (
        "detected later", "UPDATE tokens_s0 SET generation_due_at = generation_due_at + interval '1 hour'", []
    ),
    "generating": ("detected", "UPDATE tokens_s0 SET status = 'generating'", []),
    "uploading": ("generating", f"UPDATE tokens_s0 {SETTLED}", [told("uploading", 1)]),
    "by the next stage": ("failed", "UPDATE tokens_s0 SET status = 'ready'", [told("ready", 1)]),
    "no row": ("detected", f"UPDATE tokens_s0 {SETTLED} WHERE false", []),
    "no conflict": ("detected", "INSERT INTO tokens_s0 (token_id) VALUES (1) ON CONFLICT DO NOTHING", []),
    "a conflict": (
        "failed",
        "INSERT INTO tokens_s0 (token_id) VALUES (1) ON CONFLICT (token_id) DO UPDATE SET status = 'revealed'",
        [told("revealed", 1)],
    ),
    "a conflict and a new row": (
        "failed",
        "INSERT INTO tokens_s0 (token_id) VALUES (1), (2) ON CONFLICT (token_id) DO UPDATE SET status = 'detected'",
        [WOKEN],
    ),
    "merged": (
        "generating",
        f"""MERGE INTO tokens_s0 USING (VALUES (1)) AS given (number) ON token_id = number
        WHEN MATCHED THEN UPDATE {SETTLED}""",
        [told("uploading", 1)],
    ),
    "there and back in one transaction": (
        "failed",
        "BEGIN; UPDATE tokens_s0 SET status = 'ready'; UPDATE tokens_s0 SET status = 'failed'; COMMIT",
        [told("ready", 1), told("failed", 1)],
    ),
    "deleted": ("detected", "DELETE FROM tokens_s0", []),
    "truncated": ("detected", "TRUNCATE tokens_s0", []),
}  # fmt: skip


@pytest.mark.parametrize(("before", "statement", "expected"), UPDATES.values(), ids=UPDATES.keys())
async def test_an_update_rings(connection, rung, make_tokens, before, statement, expected):
    due = await connection.fetchval("SELECT now() + interval '1 hour'") if before == "detected later" else None
    skip_unless_known(connection, statement)
    await make_tokens(token_id=1, status=before.split()[0], generation_due_at=due)

    await connection.execute(statement)

    assert await rung() == expected


async def test_one_transaction_wakes_once_and_tells_each_status(connection, rung, make_tokens):
    await make_tokens(5, status="generating")

    async with connection.transaction():
        await connection.execute("INSERT INTO tokens_s0 DEFAULT VALUES")
        await connection.execute("INSERT INTO tokens_s0 DEFAULT VALUES")
        await connection.execute(
            "UPDATE tokens_s0 SET status = (ARRAY['failed', 'failed', 'ready', 'detected', 'generating'])[token_id]"
            " WHERE token_id <= 5"
        )

    heard = await rung()
    assert heard[0] == WOKEN
    assert sorted(heard[1:]) == [told("failed", 1, 2), told("ready", 3)]


@pytest.mark.parametrize("how", ["insert", "update"])
async def test_above_two_hundred_tokens_a_number_stands_for_their_ids(connection, rung, make_tokens, how):
    async def change(count):
        if how == "insert":
            await connection.execute(
                "INSERT INTO tokens_s0 (token_id, status) SELECT 1000000000000000000 + number, 'ready'"
                " FROM generate_series(1, $1::int) AS number", count
            )  # fmt: skip
        else:
            ids = await make_tokens(count, status="failed")
            await connection.execute("UPDATE tokens_s0 SET status = 'ready' WHERE token_id = ANY ($1)", ids)
        ((name, payload),) = await rung()
        await connection.execute("TRUNCATE tokens_s0")
        return name, json.loads(payload)

    at_most, above = await change(200), await change(201)

    assert at_most[0] == above[0] == STATUS
    assert len(set(at_most[1]["token_ids"])) == 200
    assert above[1] == {"status": "ready", "count": 201}


async def test_claims_renewals_and_records_are_silent_and_settling_tells(rung, ask, make_tokens):
    await make_tokens(3, status="detected")

    claims = sorted(await ask("claim", 0.1, 10, 7, 60.0), key=lambda row: row["token_id"])
    fences = [[row["id"] for row in claims], [1, 1, 1], [7, 7, 7]]
    await ask("renew", *fences, 60.0)
    await ask("record", *fences, ["a", "b", "c"], [row["seed"] for row in claims])
    await ask("censor", fences[0][0], 1, 7, 1, "rejected")
    silent = await rung()
    await ask(
        "settle", *fences, ["uploading", "uploading", "failed"], ["https://x", "https://y", None],
        [None, None, "no"], [None] * 3, [0] * 3, [None] * 3, [False] * 3, [row["seed"] for row in claims],
    )  # fmt: skip

    assert silent == []
    assert sorted(await rung()) == sorted([told("uploading", 1, 2), told("failed", 3)])


async def test_a_retry_is_silent_and_a_release_wakes(rung, ask, make_tokens):
    await make_tokens(2, status="detected")
    first, second = await ask("claim", 0.0, 10, 7, 60.0)

    async def back(row, due_in):
        outcome = ["detected"], [None], ["boom"], [None], [1], [due_in], [False]
        await ask("settle", [row["id"]], [1], [7], *outcome, [row["seed"]])
        return await rung()

    assert await back(first, 2.0) == []
    assert await back(second, 0.0) == [WOKEN]


async def test_retrying_failed_tokens_by_command_wakes(rung, ask, make_tokens):
    await make_tokens(3, status="failed")

    await ask("retry_failed", None, 10, None, None)

    assert await rung() == [WOKEN]


async def test_labels_of_an_enum_are_told_in_lower_case(empty_database, connect_to):
    await make_host(empty_database, labels=UPPER)
    await revisions.upgrade(empty_database)
    ear = await connect_to(empty_database)
    take = await listening(ear, WAKE, STATUS)

    await ear.execute("INSERT INTO tokens_s0 (status) VALUES ('DETECTED')")
    woken = await take()
    await ear.execute("UPDATE tokens_s0 SET status = 'GENERATING'")
    silent = await take()
    await ear.execute("UPDATE tokens_s0 SET status = 'UPLOADING'")
    ((_, payload),) = await take()

    assert (woken, silent) == ([WOKEN], [])
    assert json.loads(payload)["status"] == "uploading"


# Channels.


def test_a_channel_is_named_for_its_table_up_to_63_bytes():
    assert channel("public", "tokens_s0", "wake") == WAKE
    assert channel("a", "t" * 56, "wake") == f"a_{'t' * 56}_wake"
    assert channel("a", "t" * 57, "wake").startswith("reactor_")


def test_long_names_make_different_channels():
    names = {channel(schema, "ü" * 30 + end, what) for schema in "ab" for end in "xy" for what in ("wake", "status")}

    assert len(names) == 8
    assert all(len(name.encode()) <= 63 for name in names)


@pytest.mark.parametrize("name", ["t" * 63, "ü" * 31, "Tokens"])
async def test_a_table_of_any_name_rings_the_channel_that_its_worker_listens_to(empty_database, connect_to, name):
    await revisions.upgrade(empty_database, table=name)
    connection = await connect_to(empty_database)
    table = await find(connection.fetch, name)
    take = await listening(connection, table.wake_channel, table.status_channel)

    await connection.execute(f"INSERT INTO {table.relation} (status) VALUES ('detected'), ('failed')")
    heard = await take()

    assert [channel for channel, _ in heard] == [table.wake_channel, table.status_channel]
