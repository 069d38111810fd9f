"""Writers of a table that is migrated meanwhile: a program that measures each of their statements.

    python tests/traffic.py URL TABLE      writes until stdin is closed; then prints what it has measured, as JSON

It prints "writing" once all writers write. It is a process of its own, so that no other work is in its figures.
"""

import asyncio
import json
import random
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import asyncpg

WRITERS = 8
PAUSE = 0.005  # seconds between two statements of a writer, because a producer that never pauses is a benchmark


@dataclass
class Measured:
    """What the writers have met: how many statements of each kind, the longest in seconds, and all errors."""

    statements: dict = field(default_factory=dict)
    longest: dict = field(default_factory=dict)
    errors: list = field(default_factory=list)

    def add(self, kind, took):
        self.statements[kind] = self.statements.get(kind, 0) + 1
        self.longest[kind] = max(self.longest.get(kind, 0.0), took)


def statements(table, rows):
    """Each kind of statement, as a host's application would send it. They name none of our columns."""
    one, many = random.randint(1, rows), random.randint(1, rows - 50)
    return {
        "insert": f"INSERT INTO {table} (author_id) SELECT id FROM authors LIMIT 1",
        "insert fifty": f"INSERT INTO {table} (author_id) SELECT id FROM authors, generate_series(1, 50)",
        "update": f"UPDATE {table} SET created_at = now() WHERE token_id = {one}",
        "update fifty": f"UPDATE {table} SET status = status WHERE token_id = ANY (ARRAY(SELECT token_id FROM {table}"
        f" WHERE token_id BETWEEN {many} AND {many + 49} ORDER BY token_id FOR UPDATE))",
        "transaction": f"BEGIN; UPDATE {table} SET created_at = now() WHERE token_id = {one};"
        f" INSERT INTO {table} (author_id) SELECT id FROM authors LIMIT 1; COMMIT",
        "select": f"SELECT status FROM {table} WHERE token_id = {one}",
    }


async def write(url, table, rows, measured, began, ends):
    connection = await asyncpg.connect(url, statement_cache_size=0)
    while not ends.is_set():
        for kind, statement in statements(table, rows).items():
            start = time.monotonic()
            try:
                await connection.execute(statement)
            except asyncpg.PostgresError as error:
                measured.errors.append(f"{kind}: {error}")
            measured.add(kind, time.monotonic() - start)
            await asyncio.sleep(PAUSE)
        began.release()
    await connection.close()


async def main(url, table):
    connection = await asyncpg.connect(url)
    rows = await connection.fetchval(f"SELECT max(token_id) FROM {table}")
    await connection.close()
    measured, began, ends = Measured(), asyncio.Semaphore(0), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(WRITERS):
            group.create_task(write(url, table, rows, measured, began, ends))
        for _ in range(WRITERS):
            await began.acquire()
        print("writing", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        ends.set()
    print(json.dumps(vars(measured)), flush=True)


@contextmanager
def traffic(url, table="tokens_s0"):
    """Writers, as long as the block lasts. Afterwards the value has what they measured."""
    measured = Measured()
    command = [sys.executable, __file__, url, table]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "writing\n"
            yield measured
            told, _ = process.communicate(timeout=60)
            vars(measured).update(json.loads(told))
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
