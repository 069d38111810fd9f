import os
import re
import sys
import zipfile
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import anyio
import asyncpg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from catalogue import snapshot
from conftest import command as execute
from hosts import OLD_SYSTEM, SHAPES, STATUSES, make_host, name_of
from pooler import pooler
from strangers import stranger

from reactor.database.table import HEAD, TableError, described, plain_query
from reactor.migrations import migration_lock, revisions, schema

pytestmark = pytest.mark.anyio

CHECKOUT = Path(__file__).parents[1]


async def with_connection(url, work):
    connection = await asyncpg.connect(url)
    try:
        return await work(connection)
    finally:
        await connection.close()


async def fetch(url, query, *arguments):
    return await with_connection(url, lambda connection: connection.fetch(query, *arguments))


async def discovered(url, name="tokens_s0"):
    rows = await fetch(url, plain_query("discover"), name)
    return described(dict(rows[0]) if rows else None, name)


async def run_program(*arguments, cwd=CHECKOUT, **environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE_", "TOKENS_"))}
    with anyio.fail_after(30):
        return await anyio.run_process(
            [str(argument) for argument in arguments], cwd=cwd, env=inherited | environment, check=False
        )


def program(name):
    return Path(sys.executable).parent / name


async def check(url):
    await migration_lock.run_alone(url, lambda connection: command.check(revisions._config(connection, "tokens_s0")))


# An empty database.


async def test_up_down_up_leaves_the_same_catalogue_and_down_leaves_nothing(empty_database):
    before = await snapshot(empty_database)

    await revisions.upgrade(empty_database)
    migrated = await snapshot(empty_database)
    await revisions.downgrade(empty_database)
    removed = await snapshot(empty_database)
    await revisions.upgrade(empty_database)

    assert removed == before
    assert await snapshot(empty_database) == migrated


async def test_migrating_again_changes_nothing(database):
    migrated = await snapshot(database)

    await revisions.upgrade(database)

    assert await snapshot(database) == migrated


async def test_going_down_twice_is_harmless(empty_database):
    before = await snapshot(empty_database)
    await revisions.upgrade(empty_database)

    await revisions.downgrade(empty_database)
    await revisions.downgrade(empty_database)

    assert await snapshot(empty_database) == before


async def test_four_migrations_at_once_are_harmless(empty_database, database):
    results = []

    async def migrate():
        results.append(await run_program(program("reactor"), "migrate", DATABASE_URL=empty_database))

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(migrate)

    assert [(result.returncode, result.stderr) for result in results] == [(0, b"")] * 4
    assert await snapshot(empty_database) == await snapshot(database)


def test_the_revision_that_a_worker_needs_is_the_newest():
    assert ScriptDirectory(str(CHECKOUT / "alembic")).get_current_head() == HEAD


async def test_schema_py_agrees_with_the_migrated_database(database, empty_database):
    kinds = ("schema", "relation", "column", "constraint", "index")

    await check(database)
    await migration_lock.run_alone(empty_database, schema.everything().create_all)

    made = {item for item in await snapshot(empty_database, *kinds) if "alembic_version" not in str(item)}
    migrated = {item for item in await snapshot(database, *kinds) if "alembic_version" not in str(item)}
    assert made == migrated


async def test_what_schema_py_gains_later_changes_no_revision(database, empty_database, monkeypatch):
    for name in ("generation_columns", "claim_indexes", "uploads_index", "authors", "intake", "tokens", "front"):
        monkeypatch.delattr(schema, name)
    monkeypatch.setattr(schema, "everything", lambda *_: schema.MetaData())
    monkeypatch.setattr(schema, "MARK", "somebody else's")

    await revisions.upgrade(empty_database)

    assert await snapshot(empty_database) == await snapshot(database)


async def test_the_check_sees_a_difference(database):
    await fetch(database, "ALTER TABLE tokens_s0 DROP COLUMN generation_rescues")

    with pytest.raises(migration_lock.MigrationError, match=r"New upgrade operations detected"):
        await check(database)


async def test_functions_in_the_catalogue_are_the_files_in_sql(database):
    rows = await fetch(
        database,
        "SELECT proname, prosrc, proconfig, prosecdef FROM pg_proc WHERE pronamespace = 'reactor'::regnamespace",
    )

    newest = {re.sub(r"_v\d+$", "", file.stem): file for file in sorted((CHECKOUT / "sql").glob("notify_*.sql"))}
    assert {row["proname"] for row in rows} == newest.keys()
    for row in rows:
        body = newest[row["proname"]].read_text(encoding="utf-8").split("$$")[1]
        assert (row["prosrc"], row["proconfig"]) == (body, ["search_path=pg_catalog, pg_temp"])
        assert not row["prosecdef"]


# A host application's database, which already has the table.


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def shape(request):
    return request.param


async def test_a_table_that_is_there_is_completed_and_given_back_as_it_was(empty_database, shape):
    await make_host(empty_database, **shape)
    before, name = await snapshot(empty_database), name_of(shape)

    await revisions.upgrade(empty_database, table=name)
    migrated = await snapshot(empty_database)
    await revisions.downgrade(empty_database, table=name)
    removed = await snapshot(empty_database)
    await revisions.upgrade(empty_database, table=name)

    assert before < migrated
    assert removed == before
    assert await snapshot(empty_database) == migrated


async def test_data_of_a_table_that_is_there_stay_and_can_be_worked_on(empty_database, shape):
    await make_host(empty_database, **shape)
    name = name_of(shape)
    await revisions.upgrade(empty_database, table=name)

    async def work(connection):
        table = described(dict(await connection.fetchrow(plain_query("discover"), name)), name)
        claims = await connection.fetch(table.query("claim"), 0.0, 10, 7, 60.0)
        ids = [row["id"] for row in claims]
        settled = await connection.fetch(
            table.query("settle"), ids, [1, 1], [7, 7], ["uploading", "failed"], ["https://x/1", None],
            [None, "broken"], ["p", "p"], [0, 0], [None, None], [False, False], [row["seed"] for row in claims],
        )  # fmt: skip
        counts = dict(await connection.fetch(table.query("count_statuses")))
        return claims, settled, counts

    claims, settled, counts = await with_connection(empty_database, work)
    await revisions.downgrade(empty_database, table=name)

    assert [row["prompt"] for row in claims] == ["a red kite"] * 2
    assert [row["answer"] for row in settled] == ["won", "won"]
    assert counts == {"uploading": 1, "failed": 1}
    quoted = ".".join(f'"{part}"' for part in name.split("."))
    rows = await fetch(empty_database, f"SELECT lower(status::text) AS status FROM {quoted} ORDER BY token_id")
    assert {row["status"] for row in rows} == {"uploading", "failed"}


async def test_what_the_replaced_system_left_keeps_working(empty_database):
    await make_host(empty_database, more=OLD_SYSTEM)
    await fetch(empty_database, "UPDATE tokens_s0 SET status = 'generating' WHERE token_id = 1")
    await revisions.upgrade(empty_database)

    async def rescue(connection):
        table = described(dict(await connection.fetchrow(plain_query("discover"), "tokens_s0")), "tokens_s0")
        seen = await connection.fetch(table.query("abandoned"), 10, 60.0, 3.0, [], [7, -7], 60.0, UUID(int=0), 10)
        names = ("id", "epoch", "lease_ends_at", "owner")
        found = ([row[name] for row in seen] for name in names)
        return await connection.fetch(table.query("rescue"), *found, 7, 60.0, 5)

    (taken,) = await with_connection(empty_database, rescue)
    await revisions.downgrade(empty_database)

    assert (taken["token_id"], taken["owner"], taken["attempts"]) == (1, "foreign", 0)
    columns = await fetch(
        empty_database, "SELECT attname FROM pg_attribute WHERE attrelid = 'tokens_s0'::regclass AND attnum > 6"
        " AND NOT attisdropped"
    )  # fmt: skip
    assert [column["attname"] for column in columns] == ["image_url", "generation_attempts", "generation_error"]


async def test_authors_that_are_missing_are_made_and_removed(empty_database):
    await make_host(empty_database)
    await fetch(empty_database, "ALTER TABLE tokens_s0 DROP CONSTRAINT tokens_s0_author_id_fkey")
    await fetch(empty_database, "DROP TABLE authors")
    before = await snapshot(empty_database)

    await revisions.upgrade(empty_database)
    migrated = await snapshot(empty_database)
    await revisions.downgrade(empty_database)

    assert any(item[:3] == ("relation", "public", "authors") for item in migrated)
    assert await snapshot(empty_database) == before


async def test_an_interrupted_migration_is_taken_up_where_it_stopped(empty_database):
    await make_host(empty_database)
    await revisions.upgrade(empty_database)
    migrated = await snapshot(empty_database)
    await revisions.downgrade(empty_database)
    await fetch(empty_database, "CREATE TABLE tokens_s0_generation_held ()")
    with pytest.raises(migration_lock.MigrationError, match=r"already exists"):
        await revisions.upgrade(empty_database)
    await fetch(empty_database, "DROP TABLE tokens_s0_generation_held")
    await fetch(
        empty_database,
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'tokens_s0_generation_fresh'::regclass",
    )

    await revisions.upgrade(empty_database)

    assert await snapshot(empty_database) == migrated


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_uploads_of_a_hosts_table_get_their_index_also_where_one_was_left_invalid(empty_database, shape):
    await make_host(empty_database, **SHAPES[shape])
    name = name_of(SHAPES[shape])
    await revisions.upgrade(empty_database, table=name)
    migrated = await snapshot(empty_database, "index")
    assert len([index for index in migrated if "_generation_uploads" in str(index)]) == 1
    await fetch(
        empty_database,
        "UPDATE pg_index SET indisvalid = false"
        " WHERE indexrelid = (SELECT oid FROM pg_class WHERE relname ~ '_generation_uploads$')",
    )
    await fetch(empty_database, "UPDATE reactor.alembic_version SET version_num = '0002'")

    await revisions.upgrade(empty_database, table=name)

    assert await snapshot(empty_database, "index") == migrated


# Every state in which the replacement of the retries index can have stopped.
NEW_RETRIES = """
    ON tokens_s0 (generation_due_at, id)
    WHERE status = 'detected' AND generation_due_at IS NOT NULL AND generation_epoch < 9223372036854775807
"""
PLACES = {
    "half built": """
        CREATE INDEX tokens_s0_generation_retries2 ON tokens_s0 (generation_due_at, id) WHERE false;
        UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'tokens_s0_generation_retries2'::regclass
    """,
    "built": f"CREATE INDEX tokens_s0_generation_retries2 {NEW_RETRIES}",
    "not yet renamed": f"""
        CREATE INDEX tokens_s0_generation_retries2 {NEW_RETRIES};
        DROP INDEX tokens_s0_generation_retries
    """,
    "renamed": f"""
        DROP INDEX tokens_s0_generation_retries;
        CREATE INDEX tokens_s0_generation_retries {NEW_RETRIES}
    """,
}
AS_BEFORE = """
    DROP INDEX tokens_s0_generation_retries;
    CREATE INDEX tokens_s0_generation_retries ON tokens_s0 (generation_due_at)
    WHERE status = 'detected' AND generation_due_at IS NOT NULL;
    DROP INDEX tokens_s0_generation_fresh;
    CREATE INDEX tokens_s0_generation_fresh ON tokens_s0 (mint_timestamp, id)
    WHERE status = 'detected' AND generation_due_at IS NULL;
    UPDATE reactor.alembic_version SET version_num = '0006'
"""


@pytest.mark.parametrize("left", PLACES.values(), ids=PLACES)
async def test_the_indexes_of_waiting_tokens_are_exchanged_wherever_that_was_interrupted(database, left):
    migrated = await snapshot(database, "index")
    await with_connection(database, lambda connection: connection.execute(f"{AS_BEFORE}; {left}"))

    await revisions.upgrade(database)

    assert await snapshot(database, "index") == migrated


FEWER_LABELS = """
    ALTER TABLE tokens_s0 ALTER status DROP DEFAULT, ALTER status TYPE text;
    DROP TYPE "Status";
    CREATE TYPE "Status" AS ENUM ('detected', 'failed');
    ALTER TABLE tokens_s0 ALTER status TYPE "Status" USING status::"Status"
"""
UNFIT = {
    "ALTER TABLE tokens_s0 DROP COLUMN mint_timestamp, DROP COLUMN created_at": (
        "public.tokens_s0 has no column mint_timestamp, created_at"
    ),
    "ALTER TABLE authors DROP COLUMN prompt_text": "public.authors has no column prompt_text",
    FEWER_LABELS: "public.tokens_s0.status has no label generating, uploading",
}


@pytest.mark.parametrize(("change", "told"), UNFIT.items(), ids=["columns", "prompt", "labels"])
async def test_a_table_that_cannot_be_the_queue_is_refused_in_one_line_and_left_alone(empty_database, change, told):
    await make_host(empty_database, labels=STATUSES)
    await with_connection(empty_database, lambda connection: connection.execute(change))
    before = await snapshot(empty_database, "relation", "column", "index", "trigger")

    with pytest.raises(migration_lock.MigrationError) as refused:
        await revisions.upgrade(empty_database)

    assert str(refused.value) == told
    after = await snapshot(empty_database, "relation", "column", "index", "trigger")
    assert {item for item in after if item[1] != "reactor"} == before


# Names.


@pytest.mark.parametrize("name", ["Tokens", "tokens$0", "größe", "t" * 63, "ü" * 31, "app.order"])
async def test_any_name_is_taken_as_it_is_written(empty_database, name):
    await fetch(empty_database, "CREATE SCHEMA app")
    before = await snapshot(empty_database)

    await revisions.upgrade(empty_database, table=name)
    table = await discovered(empty_database, name)
    migrated = await snapshot(empty_database)
    await revisions.downgrade(empty_database, table=name)

    assert f"{table.schema}.{table.name}".removeprefix("public.") == name
    assert table.triggers_enabled
    assert any(item[:3] == ("relation", table.schema, table.name) for item in migrated)
    assert await snapshot(empty_database) == before


async def test_case_counts_in_a_name(empty_database):
    await fetch(empty_database, 'CREATE TABLE "Tokens" (id uuid)')

    rows = await fetch(empty_database, plain_query("discover"), "tokens")

    assert rows == []
    assert len(await fetch(empty_database, plain_query("discover"), "Tokens")) == 1


async def test_a_table_further_down_the_search_path_is_found(empty_database):
    await make_host(empty_database)
    await fetch(empty_database, "CREATE SCHEMA app")
    await fetch(
        empty_database,
        f"ALTER DATABASE {urlsplit(empty_database).path[1:]} SET search_path = app, public",
    )
    before = await snapshot(empty_database)

    await revisions.upgrade(empty_database)
    table = await discovered(empty_database)
    await revisions.downgrade(empty_database)

    assert table.relation == '"public"."tokens_s0"'
    assert await snapshot(empty_database) == before


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("t" * 64, f"{'t' * 64}: a name in PostgreSQL has at most 63 bytes"),
        ("nowhere.tokens", 'schema "nowhere" does not exist'),
    ],
)
async def test_a_name_that_cannot_be_is_refused_in_one_line(empty_database, name, told):
    with pytest.raises(migration_lock.MigrationError) as refused:
        await revisions.upgrade(empty_database, table=name)

    assert str(refused.value) == told


async def test_migrating_for_a_second_table_says_what_is_in_the_way(database):
    told = r"^tokens_s1: the migrations were run for public\.tokens_s0; .* TOKENS_TABLE=public\.tokens_s0 .* --down$"
    migrated = await snapshot(database)

    for direction in (revisions.upgrade, revisions.downgrade):
        with pytest.raises(migration_lock.MigrationError, match=told):
            await direction(database, table="tokens_s1")
        assert await snapshot(database) == migrated


async def test_a_second_table_that_is_there_is_left_alone(database):
    await fetch(database, "CREATE TABLE tokens_s1 (LIKE tokens_s0)")
    await fetch(database, "ALTER TABLE tokens_s1 DROP COLUMN generation_epoch")
    before = await snapshot(database)

    with pytest.raises(
        migration_lock.MigrationError, match=r"^tokens_s1: the migrations were run for public\.tokens_s0; "
    ):
        await revisions.upgrade(database, table="tokens_s1")

    assert await snapshot(database) == before


async def test_a_second_table_is_refused_before_a_revision_looks_for_it(database):
    await migration_lock.run_alone(
        database, lambda connection: command.downgrade(revisions._config(connection, "tokens_s0"), "0002")
    )
    before = await snapshot(database)

    with pytest.raises(
        migration_lock.MigrationError, match=r"^tokens_s1: the migrations were run for public\.tokens_s0; "
    ):
        await revisions.upgrade(database, table="tokens_s1")

    assert await snapshot(database) == before


async def test_a_table_made_anew_says_how_to_begin_again(database):
    await fetch(database, "DROP TABLE tokens_s0")

    with pytest.raises(
        migration_lock.MigrationError, match=r"^tokens_s0: the migrations were run before it was made anew; "
    ):
        await revisions.upgrade(database)
    await revisions.downgrade(database)
    await revisions.upgrade(database)

    assert (await discovered(database)).triggers_enabled


async def test_a_mint_that_comes_while_going_down_is_not_lost(database, monkeypatch):
    once, looked = revisions.refuse_to_lose_rows, []

    def look(connection, config):
        once(connection, config)
        if not looked:
            looked.append(connection.exec_driver_sql("INSERT INTO tokens_s0 DEFAULT VALUES"))

    monkeypatch.setattr(revisions, "refuse_to_lose_rows", look)

    with pytest.raises(migration_lock.MigrationError, match=r"^--down would drop public\.tokens_s0 with 1 row; "):
        await revisions.downgrade(database)
    await revisions.upgrade(database)

    assert len(await fetch(database, "SELECT FROM tokens_s0")) == 1


async def test_rows_of_the_host_stop_no_downgrade(empty_database):
    await make_host(empty_database)
    await revisions.upgrade(empty_database)

    await revisions.downgrade(empty_database)

    assert len(await fetch(empty_database, "SELECT FROM tokens_s0")) == 2


# Triggers that somebody dropped or disabled.


DAMAGE = {
    "dropped": "DROP TRIGGER reactor_notify_inserted ON tokens_s0",
    "dropped with its function": "DROP FUNCTION reactor.notify_updated CASCADE",
    "disabled": "ALTER TABLE tokens_s0 DISABLE TRIGGER USER",
    "both dropped": "DROP FUNCTION reactor.notify_inserted CASCADE; DROP FUNCTION reactor.notify_updated CASCADE",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
async def test_migrating_again_puts_the_triggers_right(database, damage):
    migrated = await snapshot(database)
    await with_connection(database, lambda connection: connection.execute(damage))
    assert not (await discovered(database)).triggers_enabled

    await revisions.upgrade(database)

    assert (await discovered(database)).triggers_enabled
    assert await snapshot(database) == migrated


async def test_migrating_says_nothing_good_where_the_triggers_stay_as_they_are(database, monkeypatch):
    monkeypatch.setattr(revisions, "repair", lambda *_: None)
    await fetch(database, DAMAGE["disabled"])

    with pytest.raises(
        migration_lock.MigrationError, match=r"^tokens_s0: its triggers could not be enabled: .* wake no worker$"
    ):
        await revisions.upgrade(database)


async def test_a_trigger_of_another_name_is_no_second_one(database):
    await fetch(database, "ALTER TRIGGER reactor_notify_inserted ON tokens_s0 RENAME TO mine")
    await fetch(database, "ALTER TABLE tokens_s0 DISABLE TRIGGER mine")

    await revisions.upgrade(database)

    rows = await fetch(database, "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled = 'O' ORDER BY 1")
    assert [row["tgname"] for row in rows] == ["mine", "reactor_notify_updated"]


@pytest.mark.parametrize("mode", ["ALWAYS", "REPLICA"])
async def test_a_trigger_that_rings_when_replicating_goes_on_to(database, mode):
    await fetch(database, f"ALTER TABLE tokens_s0 ENABLE {mode} TRIGGER reactor_notify_inserted")

    await revisions.upgrade(database)

    (row,) = await fetch(
        database, "SELECT tgenabled::text FROM pg_trigger WHERE tgname = 'reactor_notify_inserted'"
    )  # fmt: skip
    assert row["tgenabled"] == "A"
    assert (await discovered(database)).triggers_enabled


@pytest.mark.parametrize("change", ["RENAME TO minted", "SET SCHEMA app"])
async def test_the_triggers_of_a_renamed_table_ring_its_new_channels(database, connect_to, change):
    await with_connection(
        database,
        lambda connection: connection.execute(
            f"CREATE SCHEMA app; ALTER TABLE authors SET SCHEMA {'app' if 'app' in change else 'public'};"
            f"ALTER TABLE tokens_s0 {change}"
        ),
    )
    name = "minted" if "minted" in change else "app.tokens_s0"

    await revisions.upgrade(database, table=name)

    heard = []
    connection = await connect_to(database)
    await connection.add_listener((await discovered(database, name)).wake_channel, lambda *event: heard.append(event))
    await connection.execute(f"INSERT INTO {name} DEFAULT VALUES")
    await connection.fetchval("SELECT 1")
    assert len(heard) == 1


# A database that others use, or that refuses us.


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(migration_lock, "LOCK_TIMEOUT", "100ms")
    monkeypatch.setattr(migration_lock, "TRIES", 3)


async def test_a_table_in_use_is_asked_for_again_until_it_is_free(empty_database, connect_to, impatient, monkeypatch):
    await make_host(empty_database)
    once, again, tried = migration_lock._run_once, anyio.Event(), []

    async def alone(dsn, work, **how):
        tried.append(dsn)
        if len(tried) == 2:
            again.set()
        await once(dsn, work, **how)

    monkeypatch.setattr(migration_lock, "_run_once", alone)
    reader = await connect_to(empty_database)
    transaction = reader.transaction()
    await transaction.start()
    await reader.execute("LOCK TABLE tokens_s0 IN ACCESS SHARE MODE")

    async with anyio.create_task_group() as group:
        group.start_soon(revisions.upgrade, empty_database)
        await again.wait()
        await transaction.rollback()

    assert (await discovered(empty_database)).triggers_enabled


async def test_a_table_that_stays_in_use_is_given_up_in_one_line(empty_database, connect_to, impatient):
    await make_host(empty_database)
    before = await snapshot(empty_database)
    reader = await connect_to(empty_database)

    async with reader.transaction():
        await reader.execute("LOCK TABLE tokens_s0 IN ACCESS SHARE MODE")
        with pytest.raises(migration_lock.MigrationError) as given_up:
            await revisions.upgrade(empty_database)

    assert str(given_up.value) == "the tokens table is in use by a long transaction; try again later"
    after = await snapshot(empty_database)
    assert {item for item in after if "reactor" not in item[1:3]} == before


async def test_another_migration_that_does_not_end_is_given_up_in_one_line(empty_database, connect_to, monkeypatch):
    monkeypatch.setattr(migration_lock, "LOCK_WITHIN", 0.1)
    other = await connect_to(empty_database)
    await other.execute(f"SELECT pg_advisory_lock({migration_lock.LOCK})")

    with pytest.raises(migration_lock.MigrationError, match=r"^another migration is running, and does not end$"):
        await revisions.upgrade(empty_database)


async def test_a_stranger_that_holds_the_lock_of_migrations_is_named(empty_database, connect_to, monkeypatch):
    monkeypatch.setattr(migration_lock, "LOCK_WITHIN", 0.0)
    async with stranger(empty_database) as url:
        await (await connect_to(url)).execute(f"SELECT pg_advisory_lock({migration_lock.LOCK})")

        with pytest.raises(
            migration_lock.MigrationError, match=r"^stranger_\w+ \(process \d+\) holds the lock of migrations, and"
        ):
            await revisions.upgrade(empty_database)


async def test_a_schema_that_a_stranger_has_made_in_advance_is_refused(empty_database, connect_to):
    database = urlsplit(empty_database).path[1:]
    async with stranger(empty_database, f"GRANT CREATE ON DATABASE {database} TO {{role}}") as url:
        await (await connect_to(url)).execute("CREATE SCHEMA reactor")

        with pytest.raises(migration_lock.MigrationError, match=r"^schema reactor belongs to stranger_\w+, whose code"):
            await revisions.upgrade(empty_database)
        await (await connect_to(empty_database)).execute("ALTER SCHEMA reactor OWNER TO CURRENT_USER")
        await revisions.upgrade(empty_database)


async def test_a_pooler_is_refused_in_one_line(empty_database):
    async with pooler(empty_database) as pooled:
        with pytest.raises(
            migration_lock.MigrationError, match=r"^DATABASE_URL is a pooler's, .* set LISTEN_DATABASE_URL"
        ):
            await revisions.upgrade(pooled)


async def test_where_a_direct_connection_is_given_the_pooler_is_not_asked(empty_database, database):
    given = {"DATABASE_URL": "postgresql://127.0.0.1:1/pooler", "LISTEN_DATABASE_URL": empty_database}

    results = [await run_program(program("reactor"), "migrate", **given)]
    results.append(await run_program(program("alembic"), "-c", CHECKOUT / "alembic.ini", "check", **given))

    assert [result.returncode for result in results] == [0, 0], results
    assert await snapshot(empty_database) == await snapshot(database)


async def test_a_pooler_that_keeps_sessions_may_be_named_as_direct(empty_database):
    async with pooler(empty_database) as pooled:
        await revisions.upgrade(pooled, direct=True)

    assert (await discovered(empty_database)).triggers_enabled


async def test_no_setting_of_the_role_cuts_a_migration_short(empty_database):
    names = "name ~ '^(statement|transaction|idle).*_timeout$' AND context = 'user'"
    limits = [row["name"] for row in await fetch(empty_database, f"SELECT name FROM pg_settings WHERE {names}")]
    for name in limits:
        await fetch(empty_database, f"ALTER DATABASE {urlsplit(empty_database).path[1:]} SET {name} = '5min'")
    seen = {}

    def work(connection):
        seen.update({name: connection.exec_driver_sql(f"SHOW {name}").scalar() for name in limits})

    await migration_lock.run_alone(empty_database, work)

    assert len(limits) >= 3
    assert set(seen.values()) == {"0"}


async def test_a_connection_that_cannot_be_set_up_is_not_left_open(empty_database, monkeypatch):
    opened = []

    async def fails(connection):
        opened.append(connection)
        raise asyncpg.QueryCanceledError("canceling statement due to statement timeout")

    monkeypatch.setattr(migration_lock, "_refuse_a_pooler", fails)
    with pytest.raises(migration_lock.MigrationError):
        await revisions.upgrade(empty_database)

    assert [connection.is_closed() for connection in opened] == [True]


@pytest.fixture
def as_nobody(server_url, empty_database):
    """The database's URL for a role that may do nothing."""
    role = f"{urlsplit(empty_database).path[1:]}_nobody"
    execute(server_url, f"CREATE ROLE {role} LOGIN NOINHERIT PASSWORD 'x'")
    parts = urlsplit(empty_database)
    yield urlunsplit(parts._replace(netloc=f"{role}:x@{parts.netloc.rpartition('@')[2]}"))
    execute(empty_database, f"DROP OWNED BY {role}")
    execute(server_url, f"DROP ROLE {role}")


async def test_a_role_that_may_not_create_is_told_in_one_line(as_nobody):
    result = await run_program(program("reactor"), "migrate", DATABASE_URL=as_nobody)

    assert result.returncode == 1
    assert result.stdout == b""
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith("Error: permission denied for database")


async def test_a_schema_made_for_the_role_beforehand_is_enough(as_nobody, empty_database):
    role = urlsplit(as_nobody).username
    await fetch(empty_database, f"CREATE SCHEMA reactor AUTHORIZATION {role}")
    await fetch(empty_database, f"CREATE SCHEMA app AUTHORIZATION {role}")

    await revisions.upgrade(as_nobody, table="app.tokens_s0")

    assert (await discovered(as_nobody, "app.tokens_s0")).triggers_enabled


@pytest.mark.parametrize("url", ["postgresql://127.0.0.1:1/x", "postgresql://localhost:nonsense/x"])
async def test_a_database_that_cannot_be_reached_is_told_in_one_line(url):
    with pytest.raises(migration_lock.MigrationError, match=r"^cannot reach the database: [^\n]+$"):
        await revisions.upgrade(url)


async def test_a_connection_that_is_lost_on_the_way_is_told_in_one_line(database):
    def work(connection):
        connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(migration_lock.MigrationError, match=r"^cannot reach the database: [^\n]+$"):
        await migration_lock.run_alone(database, work)


async def test_a_database_of_a_newer_reactor_is_told_in_one_line(database):
    await fetch(database, "UPDATE reactor.alembic_version SET version_num = '9999'")

    with pytest.raises(migration_lock.MigrationError, match=r"^Can't locate revision identified by '9999'$"):
        await revisions.upgrade(database)


async def test_a_table_without_our_migrations_says_how_to_get_them(empty_database):
    await make_host(empty_database)

    with pytest.raises(TableError, match=r"is not migrated: tokens_s0; run: reactor migrate"):
        await discovered(empty_database)
    with pytest.raises(TableError, match=r"has no table nothing; run: reactor migrate"):
        await discovered(empty_database, "nothing")


# By hand, and without a checkout.


async def test_alembic_by_hand_goes_up_checks_and_goes_down(empty_database, database):
    alembic = [program("alembic"), "-c", CHECKOUT / "alembic.ini"]

    for words in (["upgrade", "head"], ["check"]):
        result = await run_program(*alembic, *words, DATABASE_URL=empty_database)
        assert result.returncode == 0, result.stderr.decode()
    assert await snapshot(empty_database) == await snapshot(database)
    result = await run_program(*alembic, "downgrade", "base", DATABASE_URL=empty_database)

    assert result.returncode == 0, result.stderr.decode()
    left = {item[1:3] for item in await snapshot(empty_database, "relation")}
    assert left == {("reactor", "alembic_version"), ("reactor", "alembic_version_pkc")}


async def test_alembic_by_hand_says_what_is_missing(tmp_path):
    result = await run_program(program("alembic"), "-c", CHECKOUT / "alembic.ini", "upgrade", "head", cwd=tmp_path)

    assert result.returncode != 0
    assert "DATABASE_URL: is required" in result.stdout.decode() + result.stderr.decode()
    assert "Traceback" not in result.stderr.decode()


def test_offline_mode_is_refused():
    config = revisions._config(None, "tokens_s0")

    with pytest.raises(CommandError, match=r"run them online"):
        command.upgrade(config, "head", sql=True)


async def test_the_wheel_migrates_without_a_checkout(tmp_path, empty_database, database):
    built, unpacked = tmp_path / "built", tmp_path / "unpacked"
    result = await run_program(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", built)
    assert result.returncode == 0, result.stderr.decode()
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)

    migrate = "import asyncio, sys; from reactor.migrations import revisions; print(revisions.__file__); "
    result = await run_program(
        sys.executable, "-c", f"{migrate} asyncio.run(revisions.upgrade(sys.argv[1]))", empty_database,
        cwd=tmp_path, PYTHONPATH=str(unpacked),
    )  # fmt: skip

    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.decode().startswith(str(unpacked))
    assert await snapshot(empty_database) == await snapshot(database)
