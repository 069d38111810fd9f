"""procrastinate, set up as its documentation shows."""

import asyncio
import json
import sys

from procrastinate import App, PsycopgConnector

from bench.marks import Marks


def made(url):
    return App(connector=PsycopgConnector(conninfo=url))


async def main(*, url, slots):
    marks, app = Marks(), made(url)

    @app.task(name="generate")
    async def generate(number):
        marks.start(number)

    async with app.open_async():
        marks.ready()
        await app.run_worker_async(concurrency=slots, install_signal_handlers=False)


async def install(url):
    async with made(url).open_async() as app:
        await app.schema_manager.apply_schema_async()


if __name__ == "__main__":
    asyncio.run(main(**json.loads(sys.argv[1])))
