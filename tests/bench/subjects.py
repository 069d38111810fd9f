"""The subjects of the bench: how each is installed, how to mint for it, and when it has nothing left to do."""

import asyncio
from dataclasses import dataclass
from typing import Any

from bench.server import connect

AUTHOR = "('00000000-0000-4000-8000-' || lpad(to_hex(number), 12, '0'))::uuid"
AUTHORS = 21_000  # each has its number for a prompt, so that a start shows its mint's number
FLOOR = """
    CREATE TABLE floor_tokens (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, number integer, status text NOT NULL DEFAULT 'detected',
      image_url text
    ) WITH (fillfactor = 75, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
    CREATE INDEX ON floor_tokens (id) WHERE status = 'detected';
    CREATE FUNCTION floor_rings() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN PERFORM pg_notify('floor', ''); RETURN NULL; END $$;
    CREATE TRIGGER rings AFTER INSERT ON floor_tokens FOR EACH STATEMENT EXECUTE FUNCTION floor_rings();
"""


@dataclass(frozen=True)
class Subject:
    """`mint`: SQL with numbers as $1. `waiting`: SQL, whether any mint is not settled. `provider`: one over HTTP."""

    name: str
    module: str
    table: str
    mint: str
    waiting: str
    install: Any
    provider: bool = False
    client: str | None = None  # what the floor speaks to the provider with

    def prepare(self, url):
        """Install the subject in a database."""
        self.install(url)

    def clean(self, url):
        with connect(url) as connection:
            connection.execute(f"TRUNCATE {self.table} CASCADE")
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")

    def fill(self, url, count):
        """Make a backlog of `count` mints, without notifications."""
        with connect(url) as connection:
            connection.execute(f"ALTER TABLE {self.table.split(',')[0]} DISABLE TRIGGER USER")
            mint = self.mint.replace("$1", f"ARRAY(SELECT generate_series(1, {count}))")
            connection.execute(mint.encode())
            connection.execute(f"ALTER TABLE {self.table.split(',')[0]} ENABLE TRIGGER USER")
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")


def _floor(url):
    with connect(url) as connection:
        connection.execute(FLOOR)


def _authors(url):
    with connect(url) as connection:
        connection.execute(
            f"INSERT INTO authors (id, wallet_address, prompt_text) SELECT {AUTHOR}, '0x' || number, number"
            f" FROM generate_series(0, {AUTHORS}) AS number"
        )


def _pgqueuer(url):
    from bench.workers.pgqueuer_worker import install  # noqa: PLC0415  (only where it is measured)

    asyncio.run(install(url))


def _procrastinate(url):
    from bench.workers.procrastinate_worker import install  # noqa: PLC0415  (only where it is measured)

    asyncio.run(install(url))


_ON_FLOOR = {
    "table": "floor_tokens",
    "mint": "INSERT INTO floor_tokens (number) SELECT unnest($1::integer[])",
    "waiting": "SELECT EXISTS (SELECT FROM floor_tokens WHERE status <> 'uploading')",
    "install": _floor,
}
_OURS = {
    "module": "bench.workers.ours",
    "table": "tokens_s0",
    "mint": f"INSERT INTO tokens_s0 (author_id) SELECT {AUTHOR} FROM unnest($1::integer[]) AS number",
    "waiting": "SELECT EXISTS (SELECT FROM tokens_s0 WHERE status IN ('detected', 'generating'))",
    "install": _authors,
}
FLOOR_NO_OP = Subject("floor", "bench.workers.floor", **_ON_FLOOR)
FLOOR_HTTPX = Subject("floor + httpx", "bench.workers.floor", **_ON_FLOOR, provider=True, client="httpx")
FLOOR_SDK = Subject("floor + SDK", "bench.workers.floor", **_ON_FLOOR, provider=True, client="sdk")
POLLER = Subject("1 s poller", "bench.workers.poller", **_ON_FLOOR)
REACTOR = Subject("reactor", **_OURS)
REACTOR_SDK = Subject("reactor + SDK", **_OURS, provider=True)
PGQUEUER = Subject(
    "pgqueuer",
    "bench.workers.pgqueuer_worker",
    table="pgqueuer, pgqueuer_log",
    mint="""
      WITH inserted AS (
        INSERT INTO pgqueuer (priority, entrypoint, payload, status)
        SELECT 0, 'generate', convert_to(number::text, 'UTF8'), 'queued' FROM unnest($1::integer[]) AS number
        RETURNING id, entrypoint, priority
      )
      INSERT INTO pgqueuer_log (job_id, status, entrypoint, priority)
      SELECT id, 'queued', entrypoint, priority FROM inserted
    """,
    waiting="SELECT EXISTS (SELECT FROM pgqueuer)",
    install=_pgqueuer,
)
PROCRASTINATE = Subject(
    "procrastinate",
    "bench.workers.procrastinate_worker",
    table="procrastinate_jobs, procrastinate_events",
    mint="""
      SELECT procrastinate_defer_jobs_v1(ARRAY(
        SELECT ROW('default', 'generate', 0, NULL, NULL, jsonb_build_object('number', number), NULL)
          ::procrastinate_job_to_defer_v1
        FROM unnest($1::integer[]) AS number
      ))
    """,
    waiting="SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing'))",
    install=_procrastinate,
)
ALL = (FLOOR_NO_OP, REACTOR, PGQUEUER, PROCRASTINATE, POLLER, FLOOR_HTTPX, FLOOR_SDK, REACTOR_SDK)
