"""pgqueuer, set up as its documentation shows; it needs room for two batches."""

import json
import sys

import asyncpg
import uvloop
from pgqueuer import AsyncpgDriver, PgQueuer, Queries

from bench.marks import Marks


async def main(*, url, slots):
    marks, connection = Marks(), await asyncpg.connect(url)
    queue = PgQueuer.from_asyncpg_connection(connection)

    @queue.entrypoint("generate")
    async def generate(job):
        marks.start(int(job.payload))

    marks.ready()
    await queue.run(batch_size=slots // 2, max_concurrent_tasks=slots)


async def install(url):
    connection = await asyncpg.connect(url)
    await Queries(AsyncpgDriver(connection)).install()
    await connection.close()


if __name__ == "__main__":
    uvloop.run(main(**json.loads(sys.argv[1])))
