"""Migrated databases for tests. A database is used again, because a new clone costs 15 times as much.

After a test its database is emptied. If the test has changed the catalogue, by DDL, a grant, a setting or statistics,
the database is dropped instead. So no test needs to declare what it changes.

One connection to each database stays open, because a new one takes six times as long to do that. `leave` closes it for
a test that counts connections, or that needs a database without any.
"""

import asyncio
import contextlib
import uuid
from urllib.parse import urlsplit, urlunsplit

import asyncpg

# Every catalogue that a test could change. Of pg_class, only columns that TRUNCATE leaves alone (it gives new files).
CATALOGUES = [
    "pg_attribute",
    "pg_attrdef",
    "pg_constraint",
    "pg_db_role_setting",
    "pg_default_acl",
    "pg_enum",
    "pg_event_trigger",
    "pg_extension",
    "pg_index",
    "pg_inherits",
    "pg_namespace",
    "pg_policy",
    "pg_proc",
    "pg_rewrite",
    "pg_sequence",
    "pg_statistic",
    "pg_trigger",
    "pg_type",
]
STATE = f"""
    SELECT md5(concat_ws(',',
        {", ".join(f"(SELECT concat(count(*), ' ', sum(xmin::text::bigint)) FROM {name})" for name in CATALOGUES)},
        (SELECT sum(hashtext(concat_ws(' ', oid, relname, relowner, relacl, reloptions, relhastriggers, relkind)))
         FROM pg_class WHERE oid >= 16384),
        (SELECT datacl FROM pg_database WHERE datname = current_database()),
        (SELECT string_agg(version_num, ',') FROM reactor.alembic_version)
    ))
"""
OTHERS = """
    SELECT count(pg_terminate_backend(pid))
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
LARGE = 2**17  # bytes of a table that is truncated; the rows of a smaller one are deleted, which takes a tenth of that
EMPTY = f"""
    DO $$ BEGIN
        IF {LARGE} < pg_relation_size('tokens_s0') + pg_relation_size('authors')
            + pg_relation_size('reactor.attempts') THEN
            TRUNCATE tokens_s0, authors, reactor.attempts RESTART IDENTITY;
        ELSE
            DELETE FROM tokens_s0;
            DELETE FROM authors;
            DELETE FROM reactor.attempts;
            PERFORM setval(pg_get_serial_sequence('tokens_s0', 'token_id'), 1, false);
            PERFORM setval(pg_get_serial_sequence('reactor.attempts', 'id'), 1, false);
        END IF;
    END $$;
    DELETE FROM reactor.intake;
    INSERT INTO reactor.intake DEFAULT VALUES;
    SELECT pg_stat_reset();
"""


def on(url, database):
    """`url`, but with another database's name."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


async def fetch(url, query):
    """The first value of the query's result, over a new connection."""
    connection = await asyncpg.connect(url, timeout=10)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def clone(server_url, template="template1"):
    """Make a copy of a database and return its name."""
    connection = await asyncpg.connect(server_url, timeout=10)
    try:
        # FILE_COPY takes a quarter of the time of WAL_LOG, the default since PostgreSQL 15.
        strategy = "STRATEGY file_copy" if connection.get_server_version().major >= 15 else ""
        name = f"reactor_test_{uuid.uuid4().hex[:12]}"
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} {strategy}")
        return name
    finally:
        await connection.close()


class Databases:
    """Clones of a migrated template, lent to one test at a time."""

    def __init__(self, server_url, template):
        self._server_url = server_url
        self._template = template
        self._runner = asyncio.Runner()
        self._pristine = self.run(fetch(on(server_url, template), STATE))
        self._ready = []
        self._made = set()
        self._connections = {}  # by the database's name

    def take(self):
        """The name of an empty migrated database."""
        if self._ready:
            return self._ready.pop()
        name = self.run(clone(self._server_url, self._template))
        self._made.add(name)
        return name

    def give_back(self, name):
        """Empty the database for the next test, or drop it."""
        if self.run(self._emptied(name)):
            self._ready.append(name)
        else:
            self.leave(name)
            self._made.remove(name)
            self._run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def leave(self, name):
        """Close our own connection to the database."""
        if connection := self._connections.pop(name, None):
            connection.terminate()

    def close(self):
        """Drop them all."""
        for name in self._made:
            self.leave(name)
            self._run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self._runner.close()

    def run(self, work):
        """Run a coroutine on the loop of these databases; return its result."""
        return self._runner.run(work)

    async def _emptied(self, name):
        try:
            connection = await self._connected(name)
            while await connection.fetchval(OTHERS):  # noqa: ASYNC110  (only asking tells)
                await asyncio.sleep(0.002)  # OTHERS terminates sessions; each needs a moment
            if await connection.fetchval(STATE) != self._pristine:
                return False
            await connection.execute(EMPTY)
        except (OSError, asyncpg.PostgresError):
            return False  # the test has dropped or renamed the database, or forbidden connections
        else:
            return True

    async def _connected(self, name):
        """Our connection to the database, or a new one if a test has ended it."""
        with contextlib.suppress(KeyError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await self._connections[name].execute("SELECT")
            return self._connections[name]
        self._connections[name] = connection = await asyncpg.connect(
            on(self._server_url, name), timeout=10, command_timeout=10
        )
        return connection

    def _run(self, statement):
        self.run(fetch(self._server_url, statement))
