"""The floor: LISTEN, one claim UPDATE and one settle UPDATE, without anything else that a reactor needs."""

import asyncio
import json
import os
import sys

import asyncpg
import httpx
import uvloop
from replicate.client import Client

from bench.marks import Marks

CLAIM = """
UPDATE floor_tokens SET status = 'generating'
WHERE id = ANY (ARRAY(
  SELECT id FROM floor_tokens WHERE status = 'detected' ORDER BY id LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
))
RETURNING id, number
"""
SETTLE = "UPDATE floor_tokens SET status = 'uploading', image_url = $2 WHERE id = ANY ($1::bigint[])"
IMAGE = "https://replicate.delivery/image.webp"


def no_op(marks):
    async def handle(number):
        marks.start(number)

    return handle


def plain_httpx(provider):
    """The simplest use of httpx, as one would first write it."""
    client = httpx.AsyncClient(headers={"Authorization": "Bearer r8_bench"})

    async def handle(number):
        body = {"input": {"prompt": str(number), "seed": number}}
        answer = await client.post(f"{provider}/v1/models/black-forest-labs/flux-schnell/predictions", json=body)
        answer.raise_for_status()

    return handle


def plain_sdk(provider):
    """The SDK, as one would first use it."""
    client = Client("r8_bench", base_url=provider)

    async def handle(number):
        given = {"prompt": str(number), "seed": number}
        await client.models.predictions.async_create("black-forest-labs/flux-schnell", input=given)

    return handle


CLIENTS = {"httpx": plain_httpx, "sdk": plain_sdk}


async def work(url, slots, handle, ready):
    listener, worker = [await asyncpg.connect(url) for _ in range(2)]
    rung = asyncio.Event()
    await listener.add_listener("floor", lambda *_: rung.set())
    claim, settle = await worker.prepare(CLAIM), await worker.prepare(SETTLE)
    await claim.fetch(0)
    ready()
    while True:
        rung.clear()
        while rows := await claim.fetch(slots):
            if len(rows) == 1:
                await handle(rows[0]["number"])
            else:
                await asyncio.gather(*(handle(row["number"]) for row in rows))
            await settle.fetch([row["id"] for row in rows], IMAGE)
        await rung.wait()


def main(*, url, slots, provider=None, authority=None, client="httpx"):
    marks = Marks()
    if authority:
        os.environ["SSL_CERT_FILE"] = authority
    handle = CLIENTS[client](provider) if provider else no_op(marks)
    uvloop.run(work(url, slots, handle, marks.ready))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
