"""Whose tables are served, because any role that may create a table can copy our name, our columns and our mark."""

import asyncpg
import pytest
from doubles import DirectedProvider, running
from hosts import inherited, make_host
from strangers import stranger

from reactor.database.discovery import discover
from reactor.database.table import TableError, plain_query
from reactor.migrations import revisions
from reactor.migrations.migration_lock import MigrationError

MAY_CREATE = "GRANT CREATE ON SCHEMA public TO {role}"
A_SCHEMA = "CREATE SCHEMA theirs AUTHORIZATION {role}"
MARKED = """
    CREATE TABLE {name} (generation_epoch bigint, status text);
    COMMENT ON TABLE {name} IS 'made by reactor';
"""
# The application's role owns the host's tables; the worker's role has rights on them.
APPLICATION = [f"ALTER TABLE public.{name} OWNER TO {{role}}" for name in ("tokens_s0", "authors")]
WORKER = (
    "GRANT USAGE ON SCHEMA public, reactor TO {role}",
    "GRANT SELECT, UPDATE ON public.tokens_s0, reactor.intake TO {role}",
    "GRANT SELECT ON public.authors, reactor.alembic_version TO {role}",
    "GRANT SELECT, INSERT, DELETE ON reactor.attempts TO {role}",
)


async def squat(url, name="theirs.tokens_s0"):
    """Make a table that looks migrated, as the role of the URL."""
    connection = await asyncpg.connect(url)
    await connection.execute(MARKED.format(name=name))
    await connection.close()


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["theirs.tokens_s0", 'theirs."public.tokens_s0"'])
async def test_a_strangers_marked_table_is_passed_over(database, open_session, name):
    async with stranger(database, A_SCHEMA) as url:
        await squat(url, name)

        for wanted in ("tokens_s0", "public.tokens_s0"):
            assert (await discover(open_session(database), wanted)).schema == "public"
            await revisions.upgrade(database, table=wanted)


@pytest.mark.anyio
async def test_the_first_of_the_path_that_is_trusted_goes_before_a_strangers(database, connection, open_session):
    """Our table has no mark and no triggers, as in a database that was restored without them."""
    await connection.execute("COMMENT ON TABLE tokens_s0 IS NULL")
    await connection.execute("DROP TRIGGER reactor_notify_inserted ON tokens_s0")
    await connection.execute("DROP TRIGGER reactor_notify_updated ON tokens_s0")
    await connection.execute(inherited(database, "search_path", "theirs, public"))
    async with stranger(database, A_SCHEMA) as url:
        await squat(url)

        assert (await discover(open_session(database), "tokens_s0")).schema == "public"


@pytest.mark.anyio
@pytest.mark.parametrize("hosted", [False, True], ids=["none", "the host's"])
async def test_the_first_migration_passes_a_strangers_marked_table_over(empty_database, open_session, hosted):
    if hosted:
        await make_host(empty_database)
    async with stranger(empty_database, A_SCHEMA) as url:
        await squat(url)

        with pytest.raises(TableError, match=r"tokens_s0") as refused:
            await discover(open_session(empty_database), "tokens_s0")
        await revisions.upgrade(empty_database)

        assert ("not counting theirs.tokens_s0 of role stranger_" in str(refused.value)) is not hosted
        assert (await discover(open_session(empty_database), "tokens_s0")).schema == "public"
        await revisions.downgrade(empty_database)
        with pytest.raises(TableError, match=r"is not migrated: theirs\.tokens_s0"):
            await discover(open_session(empty_database), "theirs.tokens_s0")


@pytest.mark.anyio
async def test_a_migration_takes_no_strangers_authors(empty_database, connect_to):
    async with stranger(empty_database, MAY_CREATE) as url:
        theirs = await connect_to(url)
        await theirs.execute("CREATE TABLE public.authors (id uuid PRIMARY KEY, prompt_text text)")

        with pytest.raises(
            MigrationError, match=r"^public\.authors belongs to stranger_\w+, who owns neither the datab"
        ):
            await revisions.upgrade(empty_database)


@pytest.mark.anyio
@pytest.mark.parametrize("chosen", [False, True])
async def test_a_worker_takes_a_strangers_authors_only_if_the_owner_of_the_tokens_chose_them(
    database, connection, open_session, chosen
):
    if not chosen:
        await connection.execute("ALTER TABLE tokens_s0 DROP CONSTRAINT tokens_s0_author_id_fkey")
    async with stranger(database, "ALTER TABLE authors OWNER TO {role}"):
        if chosen:
            assert await discover(open_session(database), "tokens_s0")
        else:
            with pytest.raises(
                TableError, match=r"^public\.authors belongs to stranger_.*, GRANT \"stranger_\w+\" TO CURRENT_USER$"
            ):
                await discover(open_session(database), "tokens_s0")


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["public", "''"])
async def test_a_worker_with_rights_serves_an_applications_table_that_a_superuser_migrated(
    empty_database, connect_to, path
):
    await make_host(empty_database)
    admin = await connect_to(empty_database)
    async with stranger(empty_database, *APPLICATION), stranger(empty_database, A_SCHEMA) as theirs:
        await squat(theirs)
        await revisions.upgrade(empty_database)
        await admin.execute(inherited(empty_database, "search_path", path))

        async with (
            stranger(empty_database, *WORKER) as worker,
            running(worker, DirectedProvider()) as (_, log),
        ):
            await log.wait("token.generation.succeeded", times=2)

    assert not log.errors()


@pytest.mark.anyio
async def test_an_applications_own_table_is_found_by_the_search_path_or_by_its_schema(empty_database, connect_to):
    await make_host(empty_database)
    connection = await connect_to(empty_database)
    async with stranger(empty_database, *APPLICATION), stranger(empty_database, A_SCHEMA) as theirs:
        await squat(theirs)

        for wanted in ("tokens_s0", "public.tokens_s0"):
            (found,) = await connection.fetch(plain_query("discover"), wanted)
            assert (found["schema"], found["passed_over"]) == ("public", False)
        await connection.execute("SET search_path = theirs, public")
        assert len(await connection.fetch(plain_query("discover"), "tokens_s0")) == 2


@pytest.mark.anyio
@pytest.mark.parametrize("by", ["an administrator", "a member"])
async def test_a_role_is_trusted_for_our_membership_only_if_no_stranger_granted_it(
    database, connection, connect_to, by
):
    """Before PostgreSQL 15 a role may grant membership in itself to any other role."""
    async with stranger(database) as theirs, stranger(database) as another, stranger(database) as worker:
        role, member, us = (url.partition("//")[2].partition(":")[0] for url in (theirs, another, worker))
        await connection.execute(f"GRANT {role} TO {member} WITH ADMIN OPTION")
        grants = await connect_to(another) if by == "a member" else connection
        await grants.execute(f"GRANT {role} TO {us}")

        trusted = await (await connect_to(worker)).fetchval(plain_query("trusted"))

        oids = [
            await connection.fetchval("SELECT oid FROM pg_roles WHERE rolname = $1", name) for name in (role, member)
        ]
        assert [oid in trusted for oid in oids] == [by == "an administrator", False]
