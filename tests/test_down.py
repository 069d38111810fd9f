"""`reactor migrate --down` in a database that is in use, and in one that lost the marks of what is ours."""

import pytest
from anyio import to_thread
from catalogue import snapshot
from hosts import make_host

from reactor.database.discovery import find
from reactor.migrations import revisions
from reactor.migrations.migration_lock import MigrationError
from reactor.migrations.steps import COLUMNS

pytestmark = pytest.mark.anyio

# As `pg_dump --no-comments` and a restore leave a database.
WITHOUT_COMMENTS = "DELETE FROM pg_description WHERE description = 'made by reactor'"
RECORDED = (
    "INSERT INTO reactor.attempts (tokens_table, key, epoch, outcome) VALUES ('public.tokens_s0', '1', 1, 'lost')"
)
NAMES = ", ".join(COLUMNS)
UNMARKED = f"the columns {NAMES}, because the comment 'made by reactor' is missing, as after pg_dump --no-comments"


@pytest.fixture
async def own(empty_database, connect_to):
    return await connect_to(empty_database)


@pytest.fixture
async def hosts(migrated_host, connect_to):
    return await connect_to(migrated_host)


@pytest.fixture
def run(empty_database, reactor, monkeypatch):
    """Run a command on the empty database."""
    monkeypatch.setenv("DATABASE_URL", empty_database)

    async def run(*arguments):
        return await to_thread.run_sync(reactor, *arguments)

    return run


# The lock.


WATCHED = """
    CREATE TABLE seen (place bigserial, tag text, rows_read bigint);
    CREATE FUNCTION see() RETURNS event_trigger LANGUAGE plpgsql AS $$
      BEGIN
        INSERT INTO public.seen (tag, rows_read)
        SELECT tg_tag, pg_stat_get_xact_tuples_returned('public.tokens_s0'::regclass);
        PERFORM pg_stat_force_next_flush();
      END $$;
    CREATE EVENT TRIGGER see ON ddl_command_start WHEN TAG IN ('DROP TRIGGER', 'CREATE INDEX', 'ALTER TABLE')
      EXECUTE FUNCTION see();
"""


async def test_no_row_is_read_while_writers_wait_for_the_lock(migrated_host, hosts):
    await hosts.execute("INSERT INTO tokens_s0 (rarity) SELECT 1 FROM generate_series(1, 5000)")
    await hosts.execute(WATCHED)

    await revisions.downgrade(migrated_host)

    seen = [
        (row["tag"], row["rows_read"]) for row in await hosts.fetch("SELECT tag, rows_read FROM seen ORDER BY place")
    ]
    built = [tag for tag, _ in seen].index("CREATE INDEX")
    assert seen[built + 1] == ("ALTER TABLE", 0)


COMES = """
    CREATE FUNCTION comes() RETURNS event_trigger LANGUAGE plpgsql AS $$
      BEGIN UPDATE public.tokens_s0 SET image_url = 'https://x/1' WHERE token_id = 1; END $$;
    CREATE EVENT TRIGGER comes ON ddl_command_end WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION comes();
"""
COMES_NO_MORE = "DROP EVENT TRIGGER comes; DROP FUNCTION comes"


async def test_an_image_that_comes_while_going_down_is_not_lost(
    migrated_host, hosts, before_migration, since_migration
):
    await hosts.execute(COMES)

    with pytest.raises(MigrationError, match=r"^--down would drop public\.tokens_s0\.image_url with 1 image; "):
        await revisions.downgrade(migrated_host)
    await hosts.execute(COMES_NO_MORE)
    kept = await hosts.fetchval("SELECT count(image_url) FROM tokens_s0")
    await revisions.upgrade(migrated_host)
    again = await snapshot(migrated_host)
    await revisions.downgrade(migrated_host, with_rows=True)

    assert kept == 1
    assert again == since_migration
    assert await snapshot(migrated_host) == before_migration


INTERRUPTED = "CREATE INDEX tokens_s0_generation_images ON tokens_s0 ((image_url IS NOT NULL)) WHERE {}"


@pytest.mark.parametrize("left", ["image_url IS NOT NULL", "image_url IS NULL"])
@pytest.mark.parametrize("valid", [True, False])
async def test_the_index_that_an_interrupted_run_left_is_removed_either_way(
    migrated_host, hosts, before_migration, since_migration, left, valid
):
    for back, expected in ((revisions.upgrade, since_migration), (revisions.downgrade, before_migration)):
        await hosts.execute(INTERRUPTED.format(left))
        await hosts.execute(
            "UPDATE pg_index SET indisvalid = $1 WHERE indexrelid = 'tokens_s0_generation_images'::regclass", valid
        )

        await back(migrated_host)

        assert await snapshot(migrated_host) == expected


# The marks.


async def test_without_marks_nothing_is_removed_that_may_be_the_hosts(empty_database, own, run):
    await make_host(empty_database)
    before = await snapshot(empty_database)
    await run("migrate")
    await own.execute(WITHOUT_COMMENTS)

    migrated = await run("migrate")
    down = await run("migrate", "--down", "--yes")
    again = await run("migrate", "--down")

    note = f"--down will keep {UNMARKED}: set it on the table if reactor made the table, else on each of these columns"
    assert migrated == (0, f"tokens_s0: migrated\n{note} that reactor added\n", "")
    assert down[1].splitlines()[-1] == f"tokens_s0: kept {UNMARKED}; drop by hand what is not yours"
    assert not [line for line in down[1].splitlines() if line.startswith(("removed column", "removed table"))]
    assert again == (0, f"tokens_s0: kept {UNMARKED}; drop by hand what is not yours\n", "")
    assert {*COLUMNS} <= {row["attname"] for row in await own.fetch(COLUMNS_THERE)}

    for name in COLUMNS:
        await own.execute(f"COMMENT ON COLUMN tokens_s0.{name} IS 'made by reactor'")
    assert (await run("migrate", "--down"))[1].endswith("tokens_s0: removed what was added\n")
    assert await snapshot(empty_database) == before


COLUMNS_THERE = "SELECT attname FROM pg_attribute WHERE attrelid = 'tokens_s0'::regclass AND NOT attisdropped"


async def test_without_its_mark_a_table_of_ours_keeps_its_rows_until_it_has_the_mark_again(empty_database, own, run):
    await run("migrate")
    await own.execute("INSERT INTO tokens_s0 DEFAULT VALUES")
    await own.execute(WITHOUT_COMMENTS)

    down = await run("migrate", "--down", "--yes")

    assert down[0] == 0
    assert down[1].endswith(f"tokens_s0: kept {UNMARKED}; drop by hand what is not yours\n")
    assert await own.fetchval("SELECT count(*) FROM tokens_s0") == 1

    await own.execute("COMMENT ON TABLE tokens_s0 IS 'made by reactor'")
    assert (await run("migrate"))[1].endswith("tokens_s0: migrated\n")
    assert "removed table public.tokens_s0\n" in (await run("migrate", "--down", "--yes"))[1]


async def test_the_history_is_not_lost_with_the_marks(migrated_host, hosts):
    await hosts.execute(RECORDED)
    await hosts.execute(WITHOUT_COMMENTS)
    await hosts.execute(
        "DROP TRIGGER reactor_notify_inserted ON tokens_s0; DROP TRIGGER reactor_notify_updated ON tokens_s0"
    )

    with pytest.raises(MigrationError, match=r"^--down would drop reactor\.attempts with 1 row; "):
        await revisions.downgrade(migrated_host)


async def test_another_table_without_marks_keeps_its_triggers_and_the_schema(empty_database, own):
    for table in ("tokens_s0", "tokens_s1"):
        await revisions.upgrade(empty_database, table=table)
    await own.execute(f"{WITHOUT_COMMENTS} AND objoid = 'tokens_s0'::regclass")

    outcome = await revisions.downgrade(empty_database, table="tokens_s1")

    assert outcome.done == ["table public.tokens_s1"]
    assert (await find(own.fetch, "tokens_s0")).triggers_enabled


async def test_columns_of_the_hosts_own_are_no_lost_marks(empty_database, run):
    await make_host(empty_database, more="image_url text, generation_attempts integer")

    assert (await run("migrate"))[1].endswith("tokens_s0: migrated\n")
    assert (await run("migrate", "--down"))[1].endswith("tokens_s0: removed what was added\n")
