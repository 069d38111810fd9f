"""The poller that the reactor replaces: it claims once a second, and settles each token in its own commit."""

import asyncio
import json
import sys

import asyncpg

from bench.marks import Marks
from bench.workers.floor import CLAIM, IMAGE, SETTLE

EVERY = 1.0  # seconds


async def main(*, url, slots):
    marks, connection = Marks(), await asyncpg.connect(url)

    async def generate(row):
        marks.start(row["number"])

    marks.ready()
    while True:
        rows = await connection.fetch(CLAIM, slots)
        await asyncio.gather(*map(generate, rows))
        for row in rows:
            await connection.execute(SETTLE, [row["id"]], IMAGE)
        await asyncio.sleep(EVERY)


if __name__ == "__main__":
    asyncio.run(main(**json.loads(sys.argv[1])))
