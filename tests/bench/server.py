"""One fresh PostgreSQL for the run, as durable as in production; a database for each subject and scenario."""

import asyncio
import itertools
from contextlib import contextmanager

import psycopg

from reactor.embedded import EmbeddedPostgres
from reactor.migrations import revisions

DURABLE = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "max_connections": "200",
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.track": "none",  # turned on by scenarios that count statements
}


class Server:
    """The server of the run."""

    def __init__(self, embedded):
        self._embedded = embedded
        self._names = map("bench_{}".format, itertools.count())

    @contextmanager
    def database(self):
        """Make a migrated database; return its URL."""
        name = next(self._names)
        with psycopg.connect(self._embedded.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
            url = self._embedded.url(name)
            asyncio.run(revisions.upgrade(url))
            try:
                yield url
            finally:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def serving():
    """Run the server."""
    with EmbeddedPostgres(settings=DURABLE) as embedded:
        yield Server(embedded)


def connect(url):
    """A connection with which the bench itself observes."""
    return psycopg.connect(url, autocommit=True)
