"""Tables of other people's applications: mapped, completed, worked on, and given back as they were."""

import secrets

import asyncpg
import orjson
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from anyio import to_thread
from catalogue import snapshot
from doubles import DirectedProvider, running
from hosts import make_host
from rings import listening
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import create_async_engine
from strangers import stranger
from test_queries import NAMES

from reactor.database.discovery import find
from reactor.database.table import plain_query
from reactor.errors import PermanentError
from reactor.migrations import revisions
from reactor.migrations.migration_lock import MigrationError

pytestmark = pytest.mark.anyio

# Of each shape: the DDL, a statement that mints two tokens, the labels of a token that waits and of one that is done,
# and the settings besides the table's name.
BACKEND = (
    """
    CREATE TYPE tokenstatus AS ENUM ('DETECTED', 'GENERATING', 'UPLOADING', 'READY', 'REVEALED', 'FAILED');
    CREATE TABLE authors (author_id uuid PRIMARY KEY, wallet_address varchar NOT NULL, prompt_text varchar);
    CREATE TABLE tokens_s0 (
        id uuid PRIMARY KEY, token_id integer NOT NULL UNIQUE, status tokenstatus NOT NULL,
        author_id uuid REFERENCES authors (author_id), detected_at timestamp NOT NULL, image_url varchar,
        generation_attempts integer NOT NULL, generation_error varchar
    );
    INSERT INTO authors VALUES ('00000000-0000-0000-0000-000000000001', '0xada', 'a red kite');
    """,
    """INSERT INTO tokens_s0 (id, token_id, status, author_id, detected_at, generation_attempts)
       SELECT gen_random_uuid(), number, 'DETECTED', '00000000-0000-0000-0000-000000000001',
              now() AT TIME ZONE 'UTC', 0 FROM generate_series(1, 2) AS number""",
    "UPLOADING",
    {},
)
OWN_PROMPT = (
    """CREATE TABLE tokens_s0 (id bigserial PRIMARY KEY, status varchar(12) NOT NULL DEFAULT 'DETECTED'
           CHECK (status IN ('DETECTED', 'GENERATING', 'UPLOADING', 'FAILED')), prompt text, created_at date)""",
    "INSERT INTO tokens_s0 (prompt, created_at) VALUES ('a red kite', now()), ('a red kite', now())",
    "UPLOADING",
    {},
)
TEXT_KEY = (
    """CREATE TABLE tokens_s0 (mint varchar(90) PRIMARY KEY, status text NOT NULL DEFAULT 'detected',
           prompt_text varchar, mint_timestamp timestamptz, generation_error varchar(20))""",
    "INSERT INTO tokens_s0 (mint, prompt_text) VALUES ('0xA/1', 'a red kite'), ('0xA/2', 'a red kite')",
    "uploading",
    {},
)
SMALL_KEY = (
    """CREATE TABLE tokens_s0 (key integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY, owner text, epoch int,
           status text NOT NULL DEFAULT 'detected', generation_attempts smallint)""",
    "INSERT INTO tokens_s0 (owner) VALUES ('ada'), ('bob')",
    "uploading",
    {"prompt_sql": "'a red kite of ' || token.owner"},
)
ELSEWHERE = (
    """CREATE SCHEMA people; CREATE SCHEMA "Art";
       CREATE TYPE "Art"."State" AS ENUM ('failed', 'detected', 'generating', 'uploading');
       CREATE TABLE people.users (id bigint PRIMARY KEY, prompt_text text);
       INSERT INTO people.users VALUES (7, 'a red kite');
       CREATE TABLE "Art".tokens_s0 (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), token_id numeric(78),
           author_id bigint REFERENCES people.users, status "Art"."State" NOT NULL DEFAULT 'detected',
           mint_timestamp timestamp NOT NULL DEFAULT now())""",
    """INSERT INTO "Art".tokens_s0 (token_id, author_id) VALUES (1, 7), (2, 7)""",
    "uploading",
    {"tokens_table": "Art.tokens_s0"},
)
OTHER_AUTHORS = (
    """CREATE TABLE users (id bigserial PRIMARY KEY, author_id bigint UNIQUE, prompt_text text);
       INSERT INTO users (author_id, prompt_text) VALUES (1000, 'a red kite'), (1, 'another''s prompt');
       CREATE TABLE tokens_s0 (id bigserial PRIMARY KEY, author_id bigint REFERENCES users (author_id),
           status varchar(10) NOT NULL, owner text, key int, position int, age int, worker int, epoch int,
           image_url text)""",
    "INSERT INTO tokens_s0 (author_id, status) VALUES (1000, 'detected'), (1000, 'detected')",
    "uploading",
    {},
)
BOTH_CASES = (
    """CREATE TYPE state AS ENUM ('detected', 'DETECTED', 'GENERATING', 'UPLOADING', 'FAILED');
       CREATE TABLE tokens_s0 (id bigserial PRIMARY KEY, prompt text, status state NOT NULL DEFAULT 'DETECTED')""",
    "INSERT INTO tokens_s0 (prompt) VALUES ('a red kite'), ('a red kite')",
    "UPLOADING",
    {},
)
WITHOUT_A_HINT = (
    """CREATE TABLE tokens_s0 (id bigserial PRIMARY KEY, prompt text, status varchar(10) NOT NULL);
       INSERT INTO tokens_s0 (prompt, status) SELECT 'old', 'UPLOADING' FROM generate_series(1, 100);
       ANALYZE tokens_s0""",
    """DELETE FROM tokens_s0;
       INSERT INTO tokens_s0 (prompt, status) SELECT 'a red kite', 'DETECTED' FROM generate_series(1, 2)""",
    "UPLOADING",
    {},
)
SHAPES = {
    "authors by the column that the foreign key names": OTHER_AUTHORS,
    "an enum with labels in both cases": BOTH_CASES,
    "labels that only rows show": WITHOUT_A_HINT,
    "a SQLModel backend's": BACKEND,
    "a prompt of its own": OWN_PROMPT,
    "a text key": TEXT_KEY,
    "a key and columns named as in our statements": SMALL_KEY,
    "authors in another schema": ELSEWHERE,
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def shape(request):
    return request.param


async def execute(url, statement):
    connection = await asyncpg.connect(url)
    try:
        return (
            await connection.fetch(statement) if statement.startswith("SELECT") else await connection.execute(statement)
        )
    finally:
        await connection.close()


def migration(given):
    names = {"tokens_table": "table", "prompt_sql": "prompt_sql"}
    return {names[name]: value for name, value in given.items()}


async def prepare_all(connection, given):
    """Prepare every statement for the migrated table."""
    table = await find(connection.fetch, given.get("tokens_table", "tokens_s0"), prompt_sql=given.get("prompt_sql"))
    for name in NAMES:
        if not name.startswith(("mint", "demo_")):  # of tables with prompts where the demo has them
            await connection.prepare(table.query(name))


async def test_a_hosts_table_gets_images_and_is_given_back_as_it_was(empty_database, shape, connect_to):
    ddl, mint, done, given = shape
    await execute(empty_database, ddl)
    before, provider = await snapshot(empty_database), DirectedProvider()

    await revisions.upgrade(empty_database, **migration(given))
    assert (await revisions.plan(empty_database, **migration(given))).steps == []
    await prepare_all(await connect_to(empty_database), given)
    async with running(empty_database, provider, **given) as (_, log):
        await execute(empty_database, mint)
        await log.wait("token.generation.succeeded", times=2)
    name = given.get("tokens_table", "tokens_s0").replace("Art", '"Art"')
    rows = await execute(empty_database, f"SELECT status::text, image_url FROM {name}")
    table = given.get("tokens_table", "tokens_s0")
    await revisions.downgrade(empty_database, table=table, with_rows=True)

    assert {row["status"] for row in rows} == {done}
    assert all(row["image_url"].startswith("https://") for row in rows)
    assert {prompt.partition(" of ")[0] for prompt, _ in provider.asked("create")} == {"a red kite"}
    assert not log.errors()
    assert await snapshot(empty_database) == before


async def test_tokens_of_any_key_fail_are_set_back_and_shown(empty_database, shape, monkeypatch, reactor):
    ddl, mint, _, given = shape
    await execute(empty_database, ddl)
    await revisions.upgrade(empty_database, **migration(given))
    monkeypatch.setenv("DATABASE_URL", empty_database)
    for name, value in given.items():
        monkeypatch.setenv(name.upper(), value)
    provider = DirectedProvider()
    provider.script["create"] = [PermanentError("an error that is much longer than twenty characters")] * 2
    async with running(empty_database, provider, **given) as (_, log):
        await execute(empty_database, mint)
        await log.wait("token.generation.failed", times=2)
    known = [str(event["token_id"]) for event in log.of("token.generation.failed")]

    shown = await to_thread.run_sync(reactor, "show", known[0])
    one = await to_thread.run_sync(reactor, "retry", known[0])
    rest = await to_thread.run_sync(reactor, "retry", "--failed")

    assert shown[0] == 0
    assert "failed" in shown[1]
    assert (one[0], one[1]) == (0, "1 set back to detected\n")
    assert (rest[0], rest[1]) == (0, "1 set back to detected\n")


async def test_a_status_change_is_told_with_the_keys_of_a_table_without_numbers(empty_database, connect_to):
    ddl, mint, _, given = TEXT_KEY
    await execute(empty_database, ddl)
    await revisions.upgrade(empty_database, **migration(given))
    connection = await connect_to(empty_database)
    table = await find(connection.fetch, "tokens_s0")
    rung = await listening(await connect_to(empty_database), table.wake_channel, table.status_channel)
    await connection.execute(mint)
    woken = await rung()

    await connection.execute("UPDATE tokens_s0 SET status = 'failed'")

    assert woken == [(table.wake_channel, "")]
    assert await rung() == [(table.status_channel, '{"status": "failed", "token_ids": ["0xA/1", "0xA/2"]}')]
    await connection.execute("UPDATE tokens_s0 SET status = 'detected'")
    assert await rung() == [(table.wake_channel, "")]


MAPPED = {
    "key": ("id", "uuid"),
    "number": ("token_id", "integer"),
    "order": ("detected_at", "timestamp without time zone"),
}


async def test_each_need_is_taken_from_the_first_column_that_can_serve_it(empty_database, connect_to):
    await execute(empty_database, BACKEND[0])
    await revisions.upgrade(empty_database)

    table = await find((await connect_to(empty_database)).fetch, "tokens_s0")

    for need, (name, kind) in MAPPED.items():
        column = getattr(table, need)
        assert (column.name, column.type) == (name, kind)
    assert table.labels["detected"] == "'DETECTED'::public.tokenstatus"
    assert table.authors.key == "author_id"


BAD_PROMPTS = {
    "token.nonsense": r"^PROMPT_SQL: column token\.nonsense does not exist$",
    "1 +": r"^PROMPT_SQL: syntax error at ",
    "random()::text": r"^PROMPT_SQL is volatile: it must give the same prompt whenever it is asked$",
    "unnest(ARRAY['a', 'b'])": r"^PROMPT_SQL: set-returning functions are not allowed in RETURNING$",
    "max(token.owner)": r"^PROMPT_SQL: aggregate functions are not allowed in RETURNING$",
}


@pytest.mark.parametrize(("prompt", "told"), BAD_PROMPTS.items(), ids=BAD_PROMPTS)
async def test_a_bad_prompt_sql_is_refused_before_anything_is_changed(empty_database, prompt, told):
    await execute(empty_database, SMALL_KEY[0])
    before = await snapshot(empty_database)

    with pytest.raises(MigrationError, match=told):
        await revisions.upgrade(empty_database, prompt_sql=prompt)

    assert await snapshot(empty_database) == before


async def test_a_row_whose_prompt_cannot_be_computed_fails_alone(empty_database, connect_to):
    await execute(empty_database, SMALL_KEY[0])
    given = {"prompt_sql": "'kite ' || (1 / token.epoch)"}
    await revisions.upgrade(empty_database, **given)
    async with running(empty_database, DirectedProvider(), **given) as (_, log):
        await execute(empty_database, "INSERT INTO tokens_s0 (epoch) VALUES (0), (1), (1)")
        await log.wait("token.generation.succeeded", times=2)
        told = await log.wait("token.generation.failed")
    connection = await connect_to(empty_database)

    reason = "PROMPT_SQL raises DivisionByZeroError for this token"
    assert (told["error_type"], told["error_message"]) == ("PermanentError", reason)
    assert await connection.fetch("SELECT status, generation_error FROM tokens_s0 WHERE epoch = 0") == [
        ("failed", reason)
    ]
    assert not log.errors()


async def test_a_row_that_a_trigger_refuses_does_not_fail_although_prompt_sql_is_set(empty_database, connect_to):
    await execute(empty_database, SMALL_KEY[0])
    given = {"prompt_sql": "'kite ' || token.epoch"}
    await revisions.upgrade(empty_database, **given)
    connection = await connect_to(empty_database)
    await connection.execute("ALTER TABLE tokens_s0 ADD CHECK (epoch <> 0 OR status <> 'generating')")
    async with running(empty_database, DirectedProvider(), **given) as (_, log):
        await connection.execute("INSERT INTO tokens_s0 (epoch) VALUES (0), (1)")
        await log.wait("token.generation.succeeded")
        await log.wait("worker.error", role="claimer")

    assert await connection.fetchval("SELECT status FROM tokens_s0 WHERE epoch = 0") == "detected"


async def test_times_without_a_zone_are_utc_whatever_the_databases_zone(empty_database, connect_to):
    await execute(empty_database, BACKEND[0])
    await execute(
        empty_database,
        "ALTER ROLE CURRENT_USER IN DATABASE " + empty_database.rpartition("/")[2] + " SET TimeZone = 'Asia/Tokyo'",
    )
    await revisions.upgrade(empty_database)
    await execute(empty_database, BACKEND[1])
    connection = await connect_to(empty_database)
    table = await find(connection.fetch, "tokens_s0")

    claims = await connection.fetch(table.query("claim"), 0.0, 10, 7, 60.0)

    assert [0 <= row["age"] < 60 for row in claims] == [True, True]


AS_ENUM = """
    DROP INDEX tokens_s0_generation_fresh, tokens_s0_generation_retries, tokens_s0_generation_held,
      tokens_s0_generation_uploads, tokens_s0_generation_failed;
    CREATE TYPE state AS ENUM ('detected', 'generating', 'uploading', 'ready', 'failed');
    ALTER TABLE tokens_s0 ALTER status DROP DEFAULT, ALTER status TYPE state USING status::state,
      ALTER status SET DEFAULT 'detected';
"""
CHANGES = {
    "the status becomes an enum": AS_ENUM,
    "the status becomes longer": "ALTER TABLE tokens_s0 ALTER status TYPE varchar(300)",
    "the order is renamed": "ALTER TABLE tokens_s0 RENAME mint_timestamp TO minted",
    "the number is renamed": "ALTER TABLE tokens_s0 RENAME token_id TO number",
    "the key is renamed": "ALTER TABLE tokens_s0 RENAME id TO uid",
    "our columns are dropped": "ALTER TABLE tokens_s0 DROP generation_due_at, DROP generation_seed",
    "our triggers are dropped": "DROP TRIGGER reactor_notify_inserted ON tokens_s0",
    "a column is added before ours are read": "ALTER TABLE tokens_s0 ADD COLUMN epoch text, ADD COLUMN key text",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_host_may_change_its_table_and_migrate_makes_good_what_that_dropped(migrated_host, change):
    await execute(migrated_host, change)

    await execute(migrated_host, "INSERT INTO tokens_s0 (author_id) SELECT id FROM authors")
    await revisions.upgrade(migrated_host)

    assert (await revisions.plan(migrated_host)).steps == []
    async with running(migrated_host, DirectedProvider()) as (_, log):
        await log.wait("token.generation.succeeded", times=3)
        await execute(migrated_host, "INSERT INTO tokens_s0 (author_id) SELECT id FROM authors")
        await log.wait("token.generation.succeeded", times=4)
    assert not log.errors()
    await revisions.downgrade(migrated_host, with_rows=True)


def include_object(item, name, kind, reflected, compare_to):
    """As in sql/README.md."""
    mine = getattr(item, "comment", None) == "made by reactor" or (kind == "index" and "_generation_" in name)
    return not (reflected and compare_to is None and mine)


async def as_host(url, work):
    """Do `work` on a connection of the host's own: ours may not look into `public`."""
    engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"))
    async with engine.connect() as connection:
        await connection.run_sync(work)
    await engine.dispose()


async def test_the_hosts_own_alembic_sees_nothing_of_ours(empty_database):
    """A model that reflects the table before the migration, as the host application declares it."""
    await make_host(empty_database)
    models = MetaData()
    await as_host(empty_database, models.reflect)
    await revisions.upgrade(empty_database)
    seen = []

    def compare(connection):
        seen.extend(
            compare_metadata(MigrationContext.configure(connection, opts=given), models)
            for given in ({}, {"include_object": include_object})
        )

    await as_host(empty_database, compare)

    assert len(seen[0]) > 5
    assert seen[1] == []
    (version,) = await execute(empty_database, "SELECT version_num FROM public.alembic_version")
    assert version["version_num"] == "0002"


async def test_the_plan_as_sql_does_what_migrate_does(empty_database, shape, connect_to):
    ddl, _, _, given = shape
    await execute(empty_database, ddl)
    planned = await revisions.plan(empty_database, **migration(given))
    connection = await connect_to(empty_database)

    for step in planned.steps:
        await connection.execute(step.statement)

    by_hand = await snapshot(empty_database)
    assert (await revisions.plan(empty_database, **migration(given))).steps == []
    await revisions.upgrade(empty_database, **migration(given))
    assert await snapshot(empty_database) == by_hand


@pytest.mark.parametrize("silent", ["on", "'other.table, public.tokens_s0'"])
async def test_a_silent_session_mints_without_the_bell(connection, connect, silent):
    rung = await listening(await connect(), "public_tokens_s0_wake", "public_tokens_s0_status")

    await connection.execute(
        f"BEGIN; SET LOCAL reactor.silent = {silent}; INSERT INTO tokens_s0 DEFAULT VALUES; COMMIT"
    )
    silent_one = await rung()
    await connection.execute("UPDATE tokens_s0 SET status = 'failed'")

    assert silent_one == []
    assert len(await rung()) == 1


async def test_a_key_that_fits_into_no_index_of_ours_fails_no_insert(empty_database, connect_to):
    """A text key of 2,690 bytes fits into the primary key, but not into an index beside a time."""
    await execute(empty_database, TEXT_KEY[0].replace("varchar(90)", "text"))
    await revisions.upgrade(empty_database)
    connection = await connect_to(empty_database)
    keys = [secrets.token_hex(1345), "0xA"]  # random, because PostgreSQL compresses what repeats

    await connection.executemany(
        "INSERT INTO tokens_s0 (mint, prompt_text, mint_timestamp) VALUES ($1, 'a kite', now())",
        [[key] for key in keys],
    )
    await connection.execute("UPDATE tokens_s0 SET status = 'failed'")
    await connection.execute("UPDATE tokens_s0 SET status = 'detected', generation_due_at = now()")

    table = await find(connection.fetch, "tokens_s0")
    claims = await connection.fetch(table.query("claim"), 0.0, 10, 7, 60.0)
    assert [row["id"] for row in claims] == ["0xA"]


@pytest.mark.parametrize("shape", ["a prompt of its own", "a key and columns named as in our statements"])
async def test_mint_writes_prompts_where_they_are_read_from(empty_database, monkeypatch, reactor, shape):
    ddl, _, _, given = SHAPES[shape]
    await execute(empty_database, ddl)
    await revisions.upgrade(empty_database, **migration(given))
    for name, value in {"database_url": empty_database, **given}.items():
        monkeypatch.setenv(name.upper(), value)

    minted = await to_thread.run_sync(reactor, "mint", "2", "--prompt", "a fox")

    if given:
        told = "Error: mint cannot write a prompt to where PROMPT_SQL reads it: insert a row by hand\n"
        assert minted == (1, "", told)
    else:
        assert minted == (0, "1\n2\n", "")
        rows = await execute(empty_database, "SELECT prompt FROM tokens_s0")
        assert [row["prompt"] for row in rows] == ["a fox", "a fox"]


REFUSING = {
    "NOT NULL": (
        "ADD COLUMN edition integer NOT NULL",
        "column edition of public.tokens_s0 is NOT NULL, and mint has no value for it: give it a DEFAULT",
    ),
    "a CHECK": (
        "ADD COLUMN edition integer DEFAULT 0, ADD CONSTRAINT counted CHECK (edition > 0)",
        "counted refuses what column edition of public.tokens_s0 would hold: give it a DEFAULT that fits",
    ),
    "a CHECK of two columns": (
        "ADD COLUMN low int DEFAULT 2, ADD COLUMN high int DEFAULT 1, ADD CONSTRAINT ordered CHECK (low < high)",
        "ordered refuses what columns low, high of public.tokens_s0 would hold: give it a DEFAULT that fits",
    ),
    "a foreign key": (
        "ADD COLUMN drop_id integer DEFAULT 7 CONSTRAINT dropped REFERENCES drops",
        "dropped refuses what column drop_id of public.tokens_s0 would hold: give it a DEFAULT that fits",
    ),
    "a unique index": (
        "ADD COLUMN edition integer DEFAULT 1, ADD CONSTRAINT once UNIQUE (edition)",
        "once refuses what column edition of public.tokens_s0 would hold: give it a DEFAULT that fits",
    ),
    "an index that is no constraint": (
        "ADD COLUMN edition integer DEFAULT 1; CREATE UNIQUE INDEX lone ON tokens_s0 (edition)",
        "lone refuses what public.tokens_s0 would hold: give it a DEFAULT that fits",
    ),
    "a short prompt": (
        "ALTER COLUMN prompt TYPE varchar(3)",
        "value too long for type character varying(3): change the table",
    ),
}


@pytest.mark.parametrize(("change", "told"), REFUSING.values(), ids=REFUSING)
async def test_a_table_that_takes_no_row_of_mint_is_told_in_one_line_with_its_column(
    empty_database, monkeypatch, reactor, change, told
):
    await execute(empty_database, OWN_PROMPT[0])
    await execute(empty_database, f"CREATE TABLE drops (id integer PRIMARY KEY); ALTER TABLE tokens_s0 {change}")
    await revisions.upgrade(empty_database)
    monkeypatch.setenv("DATABASE_URL", empty_database)

    minted = await to_thread.run_sync(reactor, "mint", "2", "--prompt", "a fox")

    assert minted == (1, "", f"Error: mint cannot write a row: {told}, or insert a row by hand\n")


async def test_authors_that_mint_cannot_make_are_told_in_one_line(empty_database, monkeypatch, reactor):
    await execute(empty_database, OTHER_AUTHORS[0])
    await revisions.upgrade(empty_database)
    monkeypatch.setenv("DATABASE_URL", empty_database)

    code, out, err = await to_thread.run_sync(reactor, "mint")

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("Error: mint cannot write a row: column ")
    assert err.endswith(": change the table, or insert a row by hand\n")


async def test_prompt_sql_may_name_a_column_without_its_table(empty_database, connect_to):
    await execute(empty_database, SMALL_KEY[0])
    await revisions.upgrade(empty_database, prompt_sql="owner || key")
    connection = await connect_to(empty_database)
    table = await find(connection.fetch, "tokens_s0", prompt_sql="owner || key")

    for name in ("claim", "rescue"):
        await connection.prepare(table.query(name))


async def test_a_table_is_made_though_its_prompts_come_by_prompt_sql(empty_database):
    given = {"prompt_sql": "'a kite for token ' || token.token_id"}
    assert (await revisions.plan(empty_database, **given)).steps
    await revisions.upgrade(empty_database, **given)
    provider = DirectedProvider()

    async with running(empty_database, provider, **given) as (_, log):
        await execute(empty_database, "INSERT INTO tokens_s0 DEFAULT VALUES")
        await log.wait("token.generation.succeeded")

    assert [prompt for prompt, _ in provider.asked("create")] == ["a kite for token 1"]


@pytest.mark.parametrize("made_by", ["the migrations", "the host"])
async def test_a_table_that_was_renamed_leaves_its_names_to_the_next(empty_database, made_by):
    if made_by == "the host":
        await make_host(empty_database)
    await revisions.upgrade(empty_database)
    await execute(empty_database, "ALTER TABLE tokens_s0 RENAME TO tokens_2025")
    if made_by == "the host":
        await execute(empty_database, "CREATE TABLE tokens_s0 (LIKE tokens_2025 INCLUDING DEFAULTS INCLUDING IDENTITY)")
        await execute(empty_database, "ALTER TABLE tokens_s0 ADD PRIMARY KEY (id)")

    await revisions.upgrade(empty_database)
    await revisions.upgrade(empty_database, table="tokens_2025")

    for table in ("tokens_s0", "tokens_2025"):
        assert (await revisions.plan(empty_database, table=table)).steps == []


SPY = """
    CREATE SEQUENCE public.called; GRANT ALL ON SEQUENCE public.called TO PUBLIC;
    CREATE FUNCTION public.spy() RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
      $$ BEGIN PERFORM pg_catalog.nextval('public.called'); RETURN true; END $$
"""
TRAPS = {
    "a view of authors": """
        CREATE VIEW public.authors AS SELECT gen_random_uuid() AS id, ''::text AS prompt_text WHERE public.spy()
    """,
    "a marked view of authors": """
        CREATE VIEW public.authors AS SELECT gen_random_uuid() AS id, ''::text AS prompt_text WHERE public.spy();
        COMMENT ON VIEW public.authors IS 'made by reactor'
    """,
}


@pytest.mark.parametrize("trap", TRAPS.values(), ids=TRAPS)
async def test_no_migration_runs_code_of_a_stranger(empty_database, connect_to, trap):
    await execute(empty_database, "CREATE TABLE tokens_s0 (id uuid PRIMARY KEY, author_id uuid, status text)")
    async with stranger(empty_database, "GRANT CREATE ON SCHEMA public TO {role}") as url:
        await (await connect_to(url)).execute(f"{SPY}; {trap}")

        for run in (revisions.plan, revisions.upgrade):
            with pytest.raises(MigrationError, match=r"^public\.authors belongs to stranger_"):
                await run(empty_database)
        await revisions.downgrade(empty_database)

        (called,) = await execute(empty_database, "SELECT is_called FROM public.called")
        assert not called["is_called"]


async def test_a_check_on_a_domain_of_the_hosts_is_not_tried(empty_database):
    """Trying it would run the domain's own check; and the domains of other columns may allow no null."""
    await execute(
        empty_database,
        """CREATE DOMAIN wallet AS text NOT NULL; CREATE DOMAIN short AS text CHECK (length(VALUE) < 5);
           CREATE TABLE tokens_s0 (id bigserial PRIMARY KEY, prompt text, address wallet, status text,
             CHECK (status IN ('detected', 'generating', 'uploading', 'failed')),
             CHECK (left(status, 3)::short IS NOT NULL))""",
    )

    await revisions.upgrade(empty_database)


async def test_a_table_is_described_without_reading_the_columns_of_all_others(connection):
    columns = ", ".join(f"c{number} text" for number in range(1000))
    for number in range(3):
        await connection.execute(f"CREATE TABLE wide_{number} ({columns})")
    await connection.execute("ANALYZE pg_attribute")

    (plan,) = await connection.fetchrow(f"EXPLAIN (ANALYZE, FORMAT JSON) {plain_query('shape')}", "public", "tokens_s0")
    most = max(node["Actual Rows"] for node in nodes(orjson.loads(plan)[0]["Plan"]))

    assert most < 1000


def nodes(plan):
    """The nodes of a plan, as EXPLAIN describes them."""
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)
