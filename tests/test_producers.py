"""The triggers never harm a producer's statement, whatever its table, its privileges and its session are like."""

import json
import re
import time
import uuid
from functools import partial
from pathlib import Path

import pytest
from rings import STATUS, WAKE, WOKEN, listening, silently, told

pytestmark = pytest.mark.anyio

SQL = Path(__file__).parents[1] / "sql"
FUNCTIONS = ("notify_inserted", "notify_updated")


@pytest.fixture
async def rung(connect):
    """Return the notifications since the last call."""
    return await listening(await connect(), WAKE, STATUS)


@pytest.fixture
def make_tokens(connection):
    """Make tokens in a state without notifications."""
    return partial(silently, connection)


@pytest.fixture
def warnings(connection):
    """The warnings that the producer's session got."""
    heard = []

    def hear(_connection, message):
        if message.severity_en == "WARNING":
            heard.append(message.message)

    connection.add_log_listener(hear)
    return heard


@pytest.fixture
async def producer(connection):
    """A role that may only read and write tokens; dropped at the end."""
    role = f"producer_{uuid.uuid4().hex}"
    await connection.execute(f"CREATE ROLE {role} NOINHERIT; GRANT SELECT, INSERT, UPDATE ON tokens_s0 TO {role}")
    yield role
    await connection.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")


async def host_table(connection, *, ids="bigint", status="text", wake=WAKE, status_channel=STATUS):
    """A table with only the columns that the triggers read, with a host's types."""
    await connection.execute(
        f"""
        DROP TABLE IF EXISTS host;
        CREATE TABLE host (
          id uuid PRIMARY KEY DEFAULT gen_random_uuid(), token_id {ids} UNIQUE, status {status},
          generation_due_at timestamptz
        );
        CREATE TRIGGER inserted AFTER INSERT ON host REFERENCING NEW TABLE AS new_rows
          FOR EACH STATEMENT EXECUTE FUNCTION reactor.notify_inserted('{wake}', '{status_channel}');
        CREATE TRIGGER updated AFTER UPDATE ON host REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
          FOR EACH STATEMENT EXECUTE FUNCTION reactor.notify_updated('{wake}', '{status_channel}');
        """
    )


def replaced(function, old, new):
    """The newest version of a trigger function, with `old` replaced."""
    newest = max(SQL.glob(f"{function}*.sql"), key=lambda file: int((re.findall(r"_v(\d+)$", file.stem) or ["1"])[0]))
    text = newest.read_text(encoding="utf-8")
    assert old in text
    return text.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION").replace(old, new)


# Ids.


IDS = {
    "bigint": (["1", "-1", "9007199254740992", "-9007199254740992", "9007199254740993"], 4),
    "numeric(78, 0)": (["7", "9007199254740992", "9007199254740993", "-9007199254740993", "9" * 78], 2),
    "integer": (["1", "2147483647"], 2),
    "text": (["7", "0x" + "a" * 64, 'ü"\\'], 0),
    "varchar(66)": (["7", "true", "null"], 0),
    "uuid": (["00000000-0000-0000-0000-000000000001"], 0),
}


async def test_ids_that_no_json_number_can_hold_are_strings(connection, rung, warnings):
    for token_id, (ids, numbers) in IDS.items():
        await host_table(connection, ids=token_id)
        made = f"SELECT id::{token_id}, 'failed' FROM unnest($1::text[]) AS id"

        await connection.execute(f"INSERT INTO host (token_id, status) {made}", ids)
        inserted = json.loads((await rung())[0][1])["token_ids"]
        await connection.execute("UPDATE host SET status = 'ready'")
        updated = json.loads((await rung())[0][1])["token_ids"]

        assert sorted(map(str, inserted)) == sorted(map(str, updated)) == sorted(ids), token_id
        assert sum(isinstance(each, int) for each in inserted + updated) == 2 * numbers, token_id
    assert not warnings


async def test_a_token_that_has_no_id_yet_is_told_as_null(connection, rung):
    await host_table(connection)

    await connection.execute("INSERT INTO host (status) VALUES ('failed'), ('detected')")
    await connection.execute("UPDATE host SET status = 'detected' WHERE status = 'failed'")

    assert await rung() == [WOKEN, told("failed", None), WOKEN]


@pytest.mark.parametrize("letter", ["a", "ü"])
@pytest.mark.parametrize("how", ["insert", "update"])
async def test_ids_that_pass_7900_bytes_are_told_as_their_count(connection, rung, warnings, letter, how):
    await host_table(connection, ids="text")

    async def told_of(size):
        """The payload for two ids that have `size` bytes together."""
        first = letter * (size // 2 // len(letter.encode()))
        ids = [first, "b" * (size - len(first.encode()))]
        await connection.execute("TRUNCATE host")
        status = "ready" if how == "insert" else "generating"
        await connection.execute("INSERT INTO host (token_id, status) SELECT unnest($1::text[]), $2", ids, status)
        if how == "update":
            await connection.execute("UPDATE host SET status = 'ready'")
        ((_, payload),) = await rung()
        return json.loads(payload)

    around = len(b'{"status" : "ready", "token_ids" : ["", ""]}')

    assert len((await told_of(7900 - around))["token_ids"]) == 2
    assert await told_of(7901 - around) == {"status": "ready", "count": 2}
    assert not warnings


@pytest.mark.parametrize("token_id", ["numeric(78, 0)", "varchar(66)"])
async def test_hundreds_of_long_ids_fail_no_statement(connection, rung, token_id):
    await host_table(connection, ids=token_id)
    number = "10::numeric ^ 77 + number" if token_id.startswith("numeric") else "lpad(number::text, 66, '0')"

    await connection.execute(
        f"INSERT INTO host (token_id, status) SELECT {number}, 'uploading' FROM generate_series(1, 150) AS number"
    )
    inserted = await rung()
    await connection.execute("UPDATE host SET status = 'ready'")

    assert [json.loads(payload) for _, payload in inserted + await rung()] == [
        {"status": "uploading", "count": 150},
        {"status": "ready", "count": 150},
    ]


# Failures inside the triggers.


STATEMENTS = (
    "INSERT INTO host (token_id, status) VALUES (1, 'detected'), (2, 'failed'), (3, NULL)",
    "COPY host (token_id, status) FROM PROGRAM 'echo 11,detected; echo 12,failed' WITH (FORMAT csv)",
    "INSERT INTO host (token_id) VALUES (1) ON CONFLICT (token_id) DO UPDATE SET status = 'ready'",
    "INSERT INTO host (token_id, status) VALUES (1, 'failed'), (4, 'failed') ON CONFLICT (token_id) DO NOTHING",
    """MERGE INTO host USING (VALUES (1), (5)) AS given (number) ON token_id = number
       WHEN MATCHED THEN UPDATE SET status = 'revealed' WHEN NOT MATCHED THEN INSERT (token_id) VALUES (number)""",
    "WITH one AS (INSERT INTO host (status) VALUES ('failed') RETURNING 1) UPDATE host SET status = 'detected'",
    "UPDATE host SET status = 'failed'",
    "DO $$ BEGIN UPDATE host SET status = 'detected'; EXCEPTION WHEN unique_violation THEN NULL; END $$",
    "BEGIN; SAVEPOINT a; UPDATE host SET status = 'ready'; ROLLBACK TO a; UPDATE host SET status = 'failed'; COMMIT",
)


async def test_a_notification_that_cannot_be_sent_fails_no_statement(connection, warnings):
    await host_table(connection, wake="w" * 64, status_channel="s" * 64)  # the longest channel has 63 bytes

    for statement in STATEMENTS:
        del warnings[:]
        await connection.execute(statement)
        assert {warning.split(": ")[1] for warning in warnings} == {"channel name too long"}, statement

    assert await connection.fetchval("SELECT count(*) FROM host WHERE status = 'failed'") == 8


BROKEN = {
    "pg_notify(text, text)": [],
    "pg_notification_queue_usage()": [],
    "lower(text)": [],
    "json_agg(anyelement)": [WOKEN],  # the wake needs no ids
    "pg_try_advisory_xact_lock_shared(bigint)": [WOKEN, told("failed", 2), told("ready", 1, 2)],
}


async def test_a_role_that_may_not_call_what_the_trigger_calls_can_write(connection, rung, producer, warnings):
    for function, expected in BROKEN.items():
        del warnings[:]
        await connection.execute(f"REVOKE EXECUTE ON FUNCTION pg_catalog.{function} FROM PUBLIC; SET ROLE {producer}")

        await connection.execute("INSERT INTO tokens_s0 (token_id, status) VALUES (1, 'detected'), (2, 'failed')")
        await connection.execute("UPDATE tokens_s0 SET status = 'ready'")

        assert await rung() == expected, function
        assert bool(warnings) is (len(expected) < 3), function
        assert await connection.fetchval("SELECT count(*) FROM tokens_s0 WHERE status = 'ready'") == 2
        await connection.execute(f"RESET ROLE; GRANT EXECUTE ON FUNCTION pg_catalog.{function} TO PUBLIC")
        await connection.execute("TRUNCATE tokens_s0")


async def test_a_role_without_privileges_of_ours_can_write(connection, rung, producer, make_tokens):
    await make_tokens(status="failed")
    await connection.execute(f"REVOKE ALL ON SCHEMA reactor FROM PUBLIC; SET ROLE {producer}")

    await connection.execute("INSERT INTO tokens_s0 DEFAULT VALUES")
    inserted = await rung()
    await connection.execute("UPDATE tokens_s0 SET status = 'ready'")

    assert inserted == [WOKEN]
    assert await rung() == [told("ready", 1, 2)]


async def test_while_the_queue_is_half_full_nothing_is_rung_and_writes_succeed(connection, rung, make_tokens):
    await make_tokens(status="generating")
    for function in FUNCTIONS:
        await connection.execute(replaced(function, "pg_notification_queue_usage()", "0.5::double precision"))

    await connection.execute("INSERT INTO tokens_s0 (status) VALUES ('detected'), ('failed')")
    await connection.execute("UPDATE tokens_s0 SET status = 'ready'")

    assert await rung() == []
    assert await connection.fetchval("SELECT count(*) FROM tokens_s0 WHERE status = 'ready'") == 3


@pytest.mark.parametrize("change", ["RENAME {} TO renamed", "DROP {} CASCADE"], ids=["renamed", "dropped"])
async def test_a_host_that_takes_a_column_away_still_writes(connection, rung, warnings, change):
    for column in ("token_id", "generation_due_at", "status"):
        await host_table(connection)
        await connection.execute(f"ALTER TABLE host {change.format(column)}")
        given, first, then = ("token_id", "1", "2") if column == "status" else ("status", "failed", "detected")
        del warnings[:]

        await connection.execute(f"INSERT INTO host ({given}) VALUES ('{first}')")
        await connection.execute(f"UPDATE host SET {given} = '{then}'")

        assert await connection.fetchval(f"SELECT {given}::text FROM host") == then
        assert any("reactor.notify_" in warning and column in warning for warning in warnings)
        assert await rung() == ([WOKEN] if column == "token_id" else [])


LABEL = """
    CREATE TYPE label AS (said text);
    CREATE FUNCTION said(label) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'нет'; END $$;
    CREATE CAST (label AS text) WITH FUNCTION said(label);
"""


@pytest.mark.parametrize("encoding", ["UTF8", "LATIN1"])
async def test_a_status_that_cannot_be_read_fails_no_statement(connection, rung, warnings, encoding):
    await connection.execute(LABEL)
    await host_table(connection, status="label")
    await connection.execute(f"SET client_encoding = {encoding}")

    await connection.execute("INSERT INTO host (status) VALUES (ROW('detected'))")
    await connection.execute("UPDATE host SET status = ROW('failed')")

    assert await rung() == []
    assert warnings == ([f"reactor.{function}: нет" for function in FUNCTIONS] if encoding == "UTF8" else [])


async def test_a_status_may_be_of_any_type_that_reads_as_text(connection, rung, warnings):
    await connection.execute(
        "CREATE SCHEMA other; CREATE DOMAIN other.label AS varchar(20) NOT NULL;"
        "CREATE TYPE other.state AS ENUM ('Detected', 'FAILED')"
    )
    for kind in ("other.label", "other.state", "varchar(20)", '"char"', "character(20)"):
        await host_table(connection, status=kind)
        await connection.execute("INSERT INTO host (token_id, status) VALUES (1, 'Detected'), (2, 'FAILED')")
        heard = await rung()
        assert heard == ([told("d", 1), told("f", 2)] if kind == '"char"' else [WOKEN, told("failed", 2)])

    assert not warnings


SESSIONS = (
    "standard_conforming_strings = off",
    "search_path = ''",
    "client_encoding = 'SQL_ASCII'",
    "plpgsql.variable_conflict = 'error'",
    "plpgsql.extra_errors = 'all'",
    "check_function_bodies = off",
    "array_nulls = off",
    "transform_null_equals = on",
    "extra_float_digits = -15",
    "bytea_output = 'escape'",
    "DateStyle = 'German'",
    "TimeZone = 'Asia/Tokyo'",
    "work_mem = '64kB'",
    "row_security = off",
    "enable_hashagg = off",
    "default_transaction_isolation = 'serializable'",
    "default_transaction_deferrable = on",
    "constraint_exclusion = on",
    "plan_cache_mode = 'force_generic_plan'",
    "jit_above_cost = 0",
    "lc_messages = 'C'",
    "backslash_quote = off",
    "escape_string_warning = on",
    "quote_all_identifiers = on",
    "client_min_messages = 'debug5'",
    "log_statement_stats = on",
    "debug_print_plan = on",
)


async def test_no_setting_of_a_producers_session_changes_what_is_rung(connection, connect, rung):
    for setting in SESSIONS:
        await connection.execute("TRUNCATE tokens_s0")
        producer = await connect()
        heard = []
        producer.add_log_listener(lambda _connection, message, heard=heard: heard.append(message))
        await producer.execute(f"SET {setting}")

        await producer.execute("INSERT INTO public.tokens_s0 (token_id, status) VALUES (1, 'detected'), (2, 'failed')")
        await producer.execute("UPDATE public.tokens_s0 SET status = 'ready'")

        assert await rung() == [WOKEN, told("failed", 2), told("ready", 1, 2)], setting
        assert not [each for each in heard if each.severity_en == "WARNING"], setting


EVIL = """
    CREATE SCHEMA evil;
    CREATE TABLE evil.caught (what text);
    CREATE FUNCTION evil.pg_notify(text, text) RETURNS void LANGUAGE sql AS 'INSERT INTO evil.caught VALUES (1)';
    CREATE FUNCTION evil.lower(text) RETURNS text LANGUAGE sql AS
      'INSERT INTO evil.caught VALUES (2); SELECT ''failed''';
    CREATE FUNCTION evil.pg_notification_queue_usage() RETURNS double precision LANGUAGE sql AS
      'INSERT INTO evil.caught VALUES (3); SELECT 0.0::double precision';
    SET search_path = evil, pg_catalog, public;
"""


@pytest.mark.parametrize("pinned", [True, False])
async def test_only_a_pinned_search_path_cannot_be_hijacked(connection, rung, make_tokens, pinned):
    await make_tokens(status="failed")
    if not pinned:
        await connection.execute("ALTER FUNCTION reactor.notify_inserted() RESET search_path")
        await connection.execute("ALTER FUNCTION reactor.notify_updated() RESET search_path")
    await connection.execute(EVIL)

    await connection.execute("INSERT INTO tokens_s0 DEFAULT VALUES")
    await connection.execute("UPDATE tokens_s0 SET status = 'ready'")

    caught = await connection.fetchval("SELECT count(*) FROM evil.caught")
    assert (caught == 0) is pinned
    assert (await rung() == [WOKEN, told("ready", 1, 2)]) is pinned


async def test_a_large_update_after_a_small_one_in_the_same_session_stays_fast(connection, make_tokens):
    async def update(tokens, status):
        began = time.perf_counter()
        await connection.execute(f"UPDATE tokens_s0 SET status = '{status}' WHERE token_id <= {tokens}")
        return time.perf_counter() - began

    async def update_all():
        await connection.execute("VACUUM ANALYZE tokens_s0")
        return min([await update(4000, status) for status in ("failed", "revealed", "ready")])

    await make_tokens(4000, status="ready")
    await connection.execute("ALTER TABLE tokens_s0 DISABLE TRIGGER USER")
    silent = await update_all()
    await connection.execute("ALTER TABLE tokens_s0 ENABLE TRIGGER USER")

    await update(1, "ready")
    told = await update_all()

    assert told < 20 * silent  # measured: 2 to 3 times; 200 times if a transition table is joined
