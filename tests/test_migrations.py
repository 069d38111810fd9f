import asyncio
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
from alembic.config import main as alembic
from alembic.script import ScriptDirectory
from anyio import to_thread
from catalogue import snapshot
from conftest import command as execute
from databases import on
from doubles import until
from hosts import INDEXES_AGAIN, NO_INDEX, OLD_SYSTEM, SHAPES, STATUSES, make_host, name_of
from pooler import pooler
from strangers import stranger

from reactor.database.discovery import find
from reactor.database.table import HEAD, TableError, plain_query
from reactor.migrations import migration_lock, revisions, schema

pytestmark = pytest.mark.anyio

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def migrated(server_url, template):
    """The catalogue of a migrated database."""
    return asyncio.run(snapshot(on(server_url, template)))


async def with_connection(url, work):
    connection = await asyncpg.connect(url)
    try:
        return await work(connection)
    finally:
        await connection.close()


async def fetch(url, query, *arguments):
    return await with_connection(url, lambda connection: connection.fetch(query, *arguments))


async def discovered(url, name="tokens_s0"):
    return await with_connection(url, lambda connection: find(connection.fetch, name))


async def run_program(*arguments, cwd=CHECKOUT, **environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE_", "TOKENS_"))}
    with anyio.fail_after(30):
        return await anyio.run_process(
            [str(argument) for argument in arguments], cwd=cwd, env=inherited | environment, check=False
        )


def program(name):
    return Path(sys.executable).parent / name


@pytest.fixture
def by_hand(monkeypatch, tmp_path, capsys):
    """Run the command `alembic` in this process; return its exit code and all that it wrote."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        code = 0
        try:
            alembic(["-c", str(CHECKOUT / "alembic.ini"), *words], prog="alembic")
        except SystemExit as stop:
            code = stop.code
        return code, "".join(capsys.readouterr())

    return lambda *words: to_thread.run_sync(run, *words)  # in a thread, because env.py runs a loop of its own


async def check(url):
    await migration_lock.run_alone(url, lambda connection: command.check(revisions.config(connection, "tokens_s0")))


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


async def test_migrating_again_changes_nothing(database, migrated):

    await revisions.upgrade(database)

    assert await snapshot(database) == migrated


async def test_going_down_twice_is_harmless(empty_database):
    before = await snapshot(empty_database)
    await revisions.upgrade(empty_database)

    await revisions.downgrade(empty_database)
    await revisions.downgrade(empty_database)

    assert await snapshot(empty_database) == before


# Four processes that have imported everything already, so that none begins late.
FOUR = """
import os, sys
from reactor.cli import main
from reactor.migrations import revisions

children = []
for _ in range(4):
    if child := os.fork():
        children.append(child)
    else:
        sys.exit(main(["migrate"]))
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""


async def test_four_migrations_at_once_are_harmless(empty_database, migrated):
    result = await run_program(sys.executable, "-c", FOUR, DATABASE_URL=empty_database)

    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.decode().splitlines()[-1] == "[0, 0, 0, 0]"
    assert result.stdout.decode().count("tokens_s0: migrated\n") == 4
    assert await snapshot(empty_database) == migrated


def test_the_revision_that_a_worker_needs_is_the_newest():
    assert ScriptDirectory(str(CHECKOUT / "alembic")).get_current_head() == HEAD


async def test_schema_py_agrees_with_the_migrated_database(database, empty_database):
    kinds = ("schema", "relation", "column", "constraint", "index")

    await check(database)
    await fetch(empty_database, "CREATE SCHEMA reactor")
    await migration_lock.run_alone(empty_database, schema.everything(schema="public").create_all)

    made = {item for item in await snapshot(empty_database, *kinds) if "alembic_version" not in str(item)}
    migrated = {item for item in await snapshot(database, *kinds) if "alembic_version" not in str(item)}
    assert made == migrated


def test_a_revision_imports_nothing_of_reactor():
    for file in (CHECKOUT / "alembic" / "versions").glob("*.py"):
        assert "reactor" not in {
            name.split(".")[0]
            for name in re.findall(r"(?m)^\s*(?:from|import) (\S+)", file.read_text(encoding="utf-8"))
        }


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


LEFT_INVALID = """
    UPDATE pg_index SET indisvalid = false
    WHERE indexrelid = (SELECT oid FROM pg_class WHERE relname ~ '_generation_uploads$');
    UPDATE reactor.alembic_version SET version_num = '0002'
"""


async def test_an_index_that_was_left_invalid_is_built_and_data_stay_and_can_be_worked_on(empty_database, shape):
    await make_host(empty_database, **shape)
    name = name_of(shape)
    await revisions.upgrade(empty_database, table=name)
    indexes = await snapshot(empty_database, "index")
    assert len([index for index in indexes if "_generation_uploads" in str(index)]) == 1
    await with_connection(empty_database, lambda connection: connection.execute(LEFT_INVALID))

    await revisions.upgrade(empty_database, table=name)

    assert await snapshot(empty_database, "index") == indexes

    async def work(connection):
        table = await find(connection.fetch, name)
        claims = await connection.fetch(table.query("claim"), 0.0, 10, 7, 60.0)
        ids = [row["id"] for row in claims]
        settled = await connection.fetch(
            table.query("settle"), ids, [1, 1], [7, 7], ["uploading", "failed"], ["https://x/1", None],
            [None, "broken"], ["p", "p"], [0, 0], [None, None], [False, False],
            [row["seed"] for row in claims], [None, None], [False, False], 0,
        )  # fmt: skip
        counts = dict(await connection.fetch(table.query("count_statuses")))
        return claims, settled, counts

    claims, settled, counts = await with_connection(empty_database, work)
    await revisions.downgrade(empty_database, table=name, with_rows=True)

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
        table = await find(connection.fetch, "tokens_s0")
        seen = await connection.fetch(table.query("abandoned"), 10, 60.0, 3.0, [], [7, -7], 60.0, UUID(int=0), 10)
        names = ("id", "epoch", "lease_ends_at", "owner")
        found = ([row[name] for row in seen] for name in names)
        return await connection.fetch(table.query("rescue"), *found, 7, 60.0, 5, None)

    (taken,) = await with_connection(empty_database, rescue)
    await revisions.downgrade(empty_database)

    assert (taken["token_id"], taken["owner"], taken["attempts"]) == (1, "foreign", 0)
    columns = await fetch(
        empty_database, "SELECT attname FROM pg_attribute WHERE attrelid = 'tokens_s0'::regclass AND attnum > 6"
        " AND NOT attisdropped"
    )  # fmt: skip
    assert [column["attname"] for column in columns] == ["image_url", "generation_attempts", "generation_error"]


async def test_an_interrupted_migration_is_taken_up_where_it_stopped(empty_database):
    await make_host(empty_database)
    await revisions.upgrade(empty_database)
    migrated = await snapshot(empty_database)
    await revisions.downgrade(empty_database)
    await with_connection(empty_database, lambda connection: connection.execute(NO_INDEX))
    with pytest.raises(migration_lock.MigrationError, match=r"^not now$"):
        await revisions.upgrade(empty_database)
    await with_connection(empty_database, lambda connection: connection.execute(INDEXES_AGAIN))
    await fetch(
        empty_database,
        "CREATE INDEX tokens_s0_generation_fresh ON tokens_s0 (mint_timestamp, id) WHERE status = 'detected'"
        " AND generation_due_at IS NULL AND generation_epoch < 9223372036854775807",
    )
    await fetch(
        empty_database,
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'tokens_s0_generation_fresh'::regclass",
    )

    await revisions.upgrade(empty_database)

    assert await snapshot(empty_database) == migrated


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
async def test_the_indexes_of_waiting_tokens_are_exchanged_wherever_that_was_interrupted(database, migrated, left):
    await with_connection(database, lambda connection: connection.execute(f"{AS_BEFORE}; {left}"))

    await revisions.upgrade(database)

    assert await snapshot(database, "index") == {item for item in migrated if item[0] == "index"}


FEWER_LABELS = """
    ALTER TABLE tokens_s0 ALTER status DROP DEFAULT, ALTER status TYPE text;
    DROP TYPE "Status";
    CREATE TYPE "Status" AS ENUM ('detected', 'failed');
    ALTER TABLE tokens_s0 ALTER status TYPE "Status" USING status::"Status"
"""
NO_PROMPT = (
    "has no prompt: author_id leads to no table with a column prompt_text and a key id or author_id, and there is"
    " no column prompt or prompt_text; set PROMPT_SQL, as in PROMPT_SQL=token.description"
)
BY_DAY = """
    ALTER TABLE tokens_s0 DROP CONSTRAINT tokens_s0_pkey, ADD COLUMN day date;
    UPDATE tokens_s0 SET day = '2026-01-01'::date + token_id::integer;
    ALTER TABLE tokens_s0 ADD PRIMARY KEY (day)
"""
NO_DEFAULT = """
    ALTER TABLE tokens_s0 ADD COLUMN generation_rescues integer NOT NULL DEFAULT 0;
    ALTER TABLE tokens_s0 ALTER generation_rescues DROP DEFAULT
"""
AS_TEXT = "ALTER TABLE tokens_s0 ALTER status DROP DEFAULT, ALTER status TYPE text"
UNFIT = {
    "no prompt": (
        "ALTER TABLE authors DROP COLUMN prompt_text",
        NO_PROMPT,
    ),
    "no author": (
        "ALTER TABLE tokens_s0 DROP COLUMN author_id",
        NO_PROMPT,
    ),
    "an author of another type": (
        "ALTER TABLE tokens_s0 DROP CONSTRAINT tokens_s0_author_id_fkey, ALTER author_id TYPE text",
        "the prompts cannot be read: operator does not exist: uuid = text",
    ),
    "fewer labels": (FEWER_LABELS, "has a status that is an enum without the label generating, uploading"),
    "no status": ("ALTER TABLE tokens_s0 DROP COLUMN status", "has no column status"),
    "a status that is a number": (
        "ALTER TABLE tokens_s0 DROP COLUMN status, ADD COLUMN status integer",
        "has a status of type integer; it must be text, varchar or an enum",
    ),
    "a generated status": (
        "ALTER TABLE tokens_s0 DROP COLUMN status, ADD COLUMN status text GENERATED ALWAYS AS ('detected') STORED",
        "has a generated column status, which a worker must write",
    ),
    "a CHECK without a status": (
        f"{AS_TEXT}; ALTER TABLE tokens_s0 ADD CONSTRAINT few CHECK (status IN ('detected', 'uploading', 'failed'))",
        "has a CHECK few that refuses status 'generating'",
    ),
    "no primary key": (
        "ALTER TABLE tokens_s0 DROP CONSTRAINT tokens_s0_pkey",
        "has no primary key of a single column, by which a token could be locked",
    ),
    "a primary key of two columns": (
        "ALTER TABLE tokens_s0 DROP CONSTRAINT tokens_s0_pkey; ALTER TABLE tokens_s0 ADD PRIMARY KEY (id, token_id)",
        "has no primary key of a single column, by which a token could be locked",
    ),
    "a primary key of another type": (
        BY_DAY,
        "has a primary key of type date; it must be uuid, bigint, integer, text or varchar",
    ),
    "a URL that is generated": (
        "ALTER TABLE tokens_s0 ADD COLUMN image_url text GENERATED ALWAYS AS ('https://x') STORED",
        "has a generated column image_url, which a worker must write",
    ),
    "a URL that is a number": (
        "ALTER TABLE tokens_s0 ADD COLUMN image_url integer",
        "has a column image_url of type integer, which must be text or character varying",
    ),
    "attempts that are a text": (
        "ALTER TABLE tokens_s0 ADD COLUMN generation_attempts text",
        "has a column generation_attempts of type text, which must be smallint or integer or bigint",
    ),
    "an error that is never null": (
        "ALTER TABLE tokens_s0 ADD COLUMN generation_error text NOT NULL DEFAULT ''",
        "has a column generation_error that is NOT NULL, and a worker sets it to null: DROP NOT NULL",
    ),
    "a seed of the host's": (
        "ALTER TABLE tokens_s0 ADD COLUMN generation_seed text",
        "has a column generation_seed of type text, which must be integer",
    ),
    "a status that is too short": (
        f"{AS_TEXT}; ALTER TABLE tokens_s0 ALTER status TYPE varchar(9)",
        "has a status of at most 9 characters, too short for generating",
    ),
    "a URL that is too short": (
        "ALTER TABLE tokens_s0 ADD COLUMN image_url varchar(50)",
        "has a column image_url that is too short: it needs 200 characters",
    ),
    "a column of ours without its default": (
        NO_DEFAULT,
        "has a column generation_rescues that is NOT NULL without a default: SET DEFAULT, or drop it",
    ),
    "an epoch that may be null": (
        "ALTER TABLE tokens_s0 ADD COLUMN generation_epoch bigint",
        "has a column generation_epoch that may be null: SET DEFAULT 0 and NOT NULL, or drop it",
    ),
    "rules": (
        "CREATE RULE noted AS ON UPDATE TO tokens_s0 DO ALSO SELECT 1",
        "has rules; only an ordinary table without rules and inheritance can be the queue",
    ),
    "children": (
        "CREATE TABLE tokens_of_today () INHERITS (tokens_s0)",
        "inherits; only an ordinary table without rules and inheritance can be the queue",
    ),
    "a view": (
        "ALTER TABLE tokens_s0 RENAME TO minted; CREATE VIEW tokens_s0 AS SELECT * FROM minted",
        "is a view; only an ordinary table can be the queue",
    ),
    "a partitioned table": (
        "DROP TABLE tokens_s0; CREATE TABLE tokens_s0 (id uuid PRIMARY KEY, status text) PARTITION BY HASH (id)",
        "is partitioned; only an ordinary table can be the queue",
    ),
}


@pytest.mark.parametrize(("change", "told"), UNFIT.values(), ids=UNFIT)
async def test_a_table_that_cannot_be_the_queue_is_refused_in_one_line_and_left_alone(empty_database, change, told):
    await make_host(empty_database, labels=STATUSES)
    await with_connection(empty_database, lambda connection: connection.execute(change))
    before = await snapshot(empty_database)

    with pytest.raises(migration_lock.MigrationError) as refused:
        await revisions.upgrade(empty_database)

    assert str(refused.value).removeprefix("public.tokens_s0 ") == told
    assert await snapshot(empty_database) == before


# Names.


async def test_a_relation_that_has_the_name_of_an_index_is_refused_before_anything_is_changed(empty_database):
    await make_host(empty_database)
    await fetch(empty_database, "CREATE TABLE tokens_s0_generation_held ()")
    before = await snapshot(empty_database)

    with pytest.raises(
        migration_lock.MigrationError, match=r"^public\.tokens_s0_generation_held is no index of ours, .*: rename it$"
    ):
        await revisions.upgrade(empty_database)

    assert {item for item in await snapshot(empty_database) if item[1] != "reactor"} == before


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
        ("nowhere.tokens", "nowhere.tokens: there is no schema nowhere"),
    ],
)
async def test_a_name_that_cannot_be_is_refused_in_one_line(empty_database, name, told):
    with pytest.raises(migration_lock.MigrationError) as refused:
        await revisions.upgrade(empty_database, table=name)

    assert str(refused.value) == told


async def test_a_second_table_shares_the_gate_and_goes_without_the_first(empty_database):
    before = await snapshot(empty_database)
    await revisions.upgrade(empty_database)
    first = await snapshot(empty_database)

    await revisions.upgrade(empty_database, table="tokens_s1")
    both = [(await discovered(empty_database, name)).triggers_enabled for name in ("tokens_s0", "tokens_s1")]
    await revisions.downgrade(empty_database, table="tokens_s1")
    assert await snapshot(empty_database) == first
    await revisions.upgrade(empty_database, table="tokens_s1")
    await revisions.downgrade(empty_database)
    alone = await discovered(empty_database, "tokens_s1")
    await revisions.downgrade(empty_database, table="tokens_s1")

    assert both == [True, True]
    assert alone.triggers_enabled
    assert await snapshot(empty_database) == before


async def test_going_down_for_a_table_that_was_never_migrated_removes_nothing(database, migrated):

    assert (await revisions.downgrade(database, table="tokens_s1")).done == []

    assert await snapshot(database) == migrated


GONE = {
    "the table": "DROP TABLE tokens_s0",
    "both tables": "DROP TABLE tokens_s0, authors",
    "an index": "DROP INDEX tokens_s0_generation_held",
    "all indexes but one": (
        "DROP INDEX tokens_s0_generation_fresh, tokens_s0_generation_retries, tokens_s0_generation_held"
    ),
    "an index of other columns": (
        "DROP INDEX tokens_s0_generation_retries; CREATE INDEX tokens_s0_generation_retries ON tokens_s0"
        " (generation_due_at) WHERE status = 'detected' AND generation_due_at IS NOT NULL"
    ),
    "an index of other rows": (
        "DROP INDEX tokens_s0_generation_held; CREATE INDEX tokens_s0_generation_held ON tokens_s0 (id)"
    ),
    "a column with its index": "ALTER TABLE tokens_s0 DROP COLUMN generation_seeded_at",
    "the gate": "DROP TABLE reactor.intake",
    "columns of the gate": "ALTER TABLE reactor.intake DROP COLUMN serves_from",
    "the budget's columns": "ALTER TABLE reactor.intake DROP COLUMN budget_day",
    "the history": "DROP TABLE reactor.attempts",
    "the version": "DELETE FROM reactor.alembic_version",
    "the version's table": "DROP TABLE reactor.alembic_version",
    "the schema": "DROP SCHEMA reactor CASCADE",
    "a function's body": (
        "CREATE OR REPLACE FUNCTION reactor.notify_inserted() RETURNS trigger LANGUAGE plpgsql"
        " SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NULL; END'"
    ),
    "a function's search path": "ALTER FUNCTION reactor.notify_updated() RESET search_path",
    "a function's rights": "ALTER FUNCTION reactor.notify_inserted() SECURITY DEFINER",
    "a setting of a function": "ALTER FUNCTION reactor.notify_inserted() SET work_mem = '1MB'",
    "arguments of a trigger": (
        "DROP TRIGGER reactor_notify_inserted ON tokens_s0; CREATE TRIGGER reactor_notify_inserted AFTER INSERT ON"
        " tokens_s0 REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT"
        " EXECUTE FUNCTION reactor.notify_inserted('public_tokens_s0_wake', 'public_tokens_s0_status')"
    ),
}


@pytest.mark.parametrize("damage", GONE.values(), ids=GONE)
async def test_what_is_gone_or_differs_is_made_again(database, migrated, damage):
    await with_connection(database, lambda connection: connection.execute(damage))
    planned = await revisions.plan(database)

    await revisions.upgrade(database)

    assert planned.steps
    assert (await revisions.plan(database)).steps == []
    assert await snapshot(database) == migrated


async def test_a_mint_that_comes_while_going_down_is_not_lost(database, connect_to):
    producer, watch = await connect_to(database), await connect_to(database)
    transaction = producer.transaction()
    await transaction.start()
    await producer.execute("INSERT INTO tokens_s0 DEFAULT VALUES")

    async def commit_once_we_wait():
        await until(
            lambda: watch.fetchval("SELECT true FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'")
        )
        await transaction.commit()

    async with anyio.create_task_group() as group:
        group.start_soon(commit_once_we_wait)
        with pytest.raises(migration_lock.MigrationError, match=r"^--down would drop public\.tokens_s0 with 1 row; "):
            await revisions.downgrade(database)

    assert len(await fetch(database, "SELECT FROM tokens_s0")) == 1


async def test_going_down_does_not_drop_images_that_it_was_not_told_to(migrated_host, before_migration):
    await fetch(migrated_host, "UPDATE tokens_s0 SET status = 'uploading', image_url = 'https://x/1'")

    with pytest.raises(
        migration_lock.MigrationError, match=r"^--down would drop public\.tokens_s0\.image_url with 2 images; .* --yes$"
    ):
        await revisions.downgrade(migrated_host)
    assert (await discovered(migrated_host)).triggers_enabled
    await revisions.downgrade(migrated_host, with_rows=True)

    assert await snapshot(migrated_host) == before_migration


RECORDED = (
    "INSERT INTO reactor.attempts (tokens_table, key, epoch, outcome) VALUES ('public.tokens_s0', '1', 1, 'lost')"
)


async def test_going_down_does_not_drop_the_history_that_it_was_not_told_to(database):
    await fetch(database, RECORDED)

    with pytest.raises(
        migration_lock.MigrationError, match=r"^--down would drop reactor\.attempts with 1 row; .* --yes$"
    ):
        await revisions.downgrade(database)
    assert (await discovered(database)).triggers_enabled
    await revisions.downgrade(database, with_rows=True)

    assert await fetch(database, "SELECT FROM pg_namespace WHERE nspname = 'reactor'") == []


async def test_a_history_that_was_left_behind_is_not_dropped_either(database):
    await fetch(database, RECORDED)
    await fetch(database, "DROP TABLE tokens_s0")

    with pytest.raises(migration_lock.MigrationError, match=r"^--down would drop reactor\.attempts with 1 row; "):
        await revisions.downgrade(database)


async def test_the_history_stays_as_long_as_another_table_is_migrated(empty_database):
    for table in ("tokens_s0", "tokens_s1"):
        await revisions.upgrade(empty_database, table=table)
    await fetch(empty_database, RECORDED)

    await revisions.downgrade(empty_database)

    assert len(await fetch(empty_database, "SELECT FROM reactor.attempts")) == 1


async def test_images_in_the_hosts_own_column_stop_no_downgrade(empty_database):
    await make_host(empty_database, more=OLD_SYSTEM)
    await revisions.upgrade(empty_database)
    await fetch(empty_database, "UPDATE tokens_s0 SET status = 'uploading', image_url = 'https://x/1'")

    await revisions.downgrade(empty_database)

    assert len(await fetch(empty_database, "SELECT FROM tokens_s0 WHERE image_url = 'https://x/1'")) == 2


async def test_rows_of_the_host_stop_no_downgrade(migrated_host):

    await revisions.downgrade(migrated_host)

    assert len(await fetch(migrated_host, "SELECT FROM tokens_s0")) == 2


# Triggers that somebody dropped or disabled.


DAMAGE = {
    "dropped": "DROP TRIGGER reactor_notify_inserted ON tokens_s0",
    "dropped with its function": "DROP FUNCTION reactor.notify_updated CASCADE",
    "disabled": "ALTER TABLE tokens_s0 DISABLE TRIGGER USER",
    "both dropped": "DROP FUNCTION reactor.notify_inserted CASCADE; DROP FUNCTION reactor.notify_updated CASCADE",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
async def test_migrating_again_puts_the_triggers_right(database, migrated, damage):
    await with_connection(database, lambda connection: connection.execute(damage))
    assert not (await discovered(database)).triggers_enabled

    await revisions.upgrade(database)

    assert (await discovered(database)).triggers_enabled
    assert await snapshot(database) == migrated


DISABLES_AGAIN = """
    CREATE FUNCTION disable_again() RETURNS event_trigger LANGUAGE plpgsql AS
      $$ BEGIN UPDATE pg_trigger SET tgenabled = 'D' WHERE tgrelid = 'public.tokens_s0'::regclass; END $$;
    CREATE EVENT TRIGGER disable_again ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION disable_again()
"""


async def test_migrating_says_nothing_good_where_the_triggers_stay_as_they_are(database):
    await with_connection(database, lambda connection: connection.execute(f"{DAMAGE['disabled']}; {DISABLES_AGAIN}"))

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
    assert len([item for item in await snapshot(database, "index") if "_generation_" in item[2]]) == 5


# A database that others use, or that refuses us.


IMPATIENT = migration_lock.Patience(lock_timeout="100ms", tries=3)


async def test_a_table_in_use_is_asked_for_again_until_it_is_free(database, connect_to):
    again, tried = anyio.Event(), []

    def work(connection):
        tried.append("once more")
        if len(tried) == 2:
            again.set()
        connection.exec_driver_sql("ALTER TABLE public.tokens_s0 ADD COLUMN added int")

    reader = await connect_to(database)
    transaction = reader.transaction()
    await transaction.start()
    await reader.execute("LOCK TABLE tokens_s0 IN ACCESS SHARE MODE")

    async with anyio.create_task_group() as group:
        group.start_soon(lambda: migration_lock.run_alone(database, work, patience=IMPATIENT))
        with anyio.fail_after(20):
            await again.wait()
        await transaction.rollback()

    assert await reader.fetch("SELECT added FROM tokens_s0") == []


async def test_a_table_that_stays_in_use_is_given_up_in_one_line(empty_database, connect_to):
    await make_host(empty_database)
    before = await snapshot(empty_database)
    reader = await connect_to(empty_database)

    async with reader.transaction():
        await reader.execute("LOCK TABLE tokens_s0 IN ACCESS SHARE MODE")
        with pytest.raises(migration_lock.MigrationError) as given_up:
            await revisions.upgrade(empty_database, patience=IMPATIENT)

    assert str(given_up.value) == "the tokens table is in use by a long transaction; try again later"
    after = await snapshot(empty_database)
    assert {item for item in after if "reactor" not in item[1:3]} == before


async def test_another_migration_that_does_not_end_is_given_up_in_one_line(empty_database, connect_to):
    other = await connect_to(empty_database)
    await other.execute(f"SELECT pg_advisory_lock({migration_lock.LOCK})")

    with pytest.raises(migration_lock.MigrationError, match=r"^another migration is running, and does not end$"):
        await revisions.upgrade(empty_database, patience=migration_lock.Patience(turn_within=0.1))


async def test_a_stranger_that_holds_the_lock_of_migrations_is_named(empty_database, connect_to):
    async with stranger(empty_database) as url:
        await (await connect_to(url)).execute(f"SELECT pg_advisory_lock({migration_lock.LOCK})")

        with pytest.raises(
            migration_lock.MigrationError, match=r"^stranger_\w+ \(process \d+\) holds the lock of migrations, and"
        ):
            await revisions.upgrade(empty_database, patience=migration_lock.Patience(turn_within=0.0))


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


async def test_where_a_direct_connection_is_given_the_pooler_is_not_asked(
    empty_database, migrated, reactor, by_hand, monkeypatch
):
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/pooler")
    monkeypatch.setenv("LISTEN_DATABASE_URL", empty_database)

    results = [await to_thread.run_sync(reactor, "migrate"), await by_hand("check")]

    assert [result[0] for result in results] == [0, 0], results
    assert await snapshot(empty_database) == migrated


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


async def test_a_connection_that_cannot_be_set_up_is_not_left_open(empty_database, connection):
    named = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND application_name = 'reactor migrate'"

    async def none_is_open():
        return await connection.fetchval(named, urlsplit(empty_database).path[1:]) == 0

    async with pooler(empty_database) as pooled:
        with pytest.raises(migration_lock.MigrationError, match="is a pooler's"):
            await revisions.upgrade(pooled)
        await until(none_is_open)


@pytest.fixture
def as_nobody(server_url, empty_database):
    """The database's URL for a role that may do nothing."""
    role = f"{urlsplit(empty_database).path[1:]}_nobody"
    execute(server_url, f"CREATE ROLE {role} LOGIN NOINHERIT PASSWORD 'x'")
    parts = urlsplit(empty_database)
    yield urlunsplit(parts._replace(netloc=f"{role}:x@{parts.netloc.rpartition('@')[2]}"))
    execute(empty_database, f"DROP OWNED BY {role}")
    execute(server_url, f"DROP ROLE {role}")


async def test_a_role_that_may_not_create_is_told_in_one_line(as_nobody, reactor, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", as_nobody)

    code, out, err = await to_thread.run_sync(reactor, "migrate")

    assert (code, out) == (1, "")
    (line,) = err.splitlines()
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

    with pytest.raises(
        migration_lock.MigrationError,
        match=r"^the database was migrated by a newer reactor \(at 9999, not \d+\): use that one$",
    ):
        await revisions.upgrade(database)


async def test_a_table_without_our_migrations_says_how_to_get_them(empty_database):
    await make_host(empty_database)

    with pytest.raises(TableError, match=r"is not migrated: tokens_s0; run: reactor migrate"):
        await discovered(empty_database)
    with pytest.raises(TableError, match=r"has no table nothing; run: reactor migrate"):
        await discovered(empty_database, "nothing")


# By hand, and without a checkout.


async def test_alembic_by_hand_makes_what_all_tables_share_and_removes_it(empty_database, by_hand, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", empty_database)

    upgraded = await run_program(
        program("alembic"), "-c", CHECKOUT / "alembic.ini", "upgrade", "head", DATABASE_URL=empty_database
    )
    assert upgraded.returncode == 0, upgraded.stderr.decode()
    assert ("reactor", "intake") in {item[1:3] for item in await snapshot(empty_database, "relation")}
    code, said = await by_hand("downgrade", "base")
    assert code == 0, said

    assert {item[1:3] for item in await snapshot(empty_database, "relation")} == {
        ("reactor", "alembic_version"),
        ("reactor", "alembic_version_pkc"),
    }


async def test_alembic_by_hand_checks_a_migrated_database(database, by_hand, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", database)

    code, said = await by_hand("check")

    assert code == 0, said


async def test_alembic_by_hand_says_what_is_missing(by_hand, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("DATABASE_", "TOKENS_"))]:
        monkeypatch.delenv(name)

    code, said = await by_hand("upgrade", "head")

    assert code != 0
    assert "DATABASE_URL: is required" in said
    assert "Traceback" not in said


async def test_the_wheel_migrates_without_a_checkout(tmp_path, empty_database, migrated):
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
    assert await snapshot(empty_database) == migrated
