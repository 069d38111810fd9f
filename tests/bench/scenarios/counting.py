"""How many statements a database was asked, by pg_stat_statements."""

from contextlib import contextmanager

from bench.server import connect


def count_from_now_on(url):
    """Count those of connections that are opened from now on."""
    with connect(url) as connection:
        name = connection.execute("SELECT current_database()").fetchone()[0]
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        connection.execute(f"ALTER DATABASE {name} SET pg_stat_statements.track = 'top'")


@contextmanager
def counter(url):
    """Give a function that returns the calls so far; its own are not among them."""
    with connect(url) as connection:
        connection.execute("SET pg_stat_statements.track = 'none'")

        def calls():
            found = connection.execute(
                "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements"
                " WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            return int(found.fetchone()[0])

        yield calls
