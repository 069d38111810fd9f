"""The process that mints: steadily, many in one statement, or as fast as some connections can."""

import asyncio
import json
import random
import sys
import time

import asyncpg
import uvloop


async def steady(connections, mint, *, first, count, rate):
    """Commit mints one by one, at random moments; return number and moment of each commit."""
    connection, commits, due = connections[0], [], time.monotonic()
    for number in range(first, first + count):
        due += random.uniform(0.5, 1.5) / rate  # random, so that no worker's timer runs in step with the mints
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        await connection.fetch(mint, [number])
        commits.append((number, time.monotonic()))
    return commits


async def burst(connections, mint, *, first, count):
    """Mint `count` in one statement; return the moment of its commit."""
    await connections[0].fetch(mint, list(range(first, first + count)))
    return time.monotonic()


async def flood(connections, mint, *, first, seconds):
    """Mint as fast as all connections can commit; return the commits per second."""
    ends_at = time.monotonic() + seconds

    async def one(connection, number):
        commits = 0
        while time.monotonic() < ends_at:
            await connection.fetch(mint, [number])
            commits += 1
        return commits

    began = time.monotonic()
    commits = await asyncio.gather(*(one(connection, first + place) for place, connection in enumerate(connections)))
    return sum(commits) / (time.monotonic() - began)


async def main(*, url, mint, connections=1):
    opened = [await asyncpg.connect(url) for _ in range(connections)]
    for connection in opened:
        await connection.fetch(mint, [])
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = json.loads(line)
        how = {"steady": steady, "burst": burst, "flood": flood}[asked.pop("how")]
        print(json.dumps(await how(opened, mint, **asked)), flush=True)


if __name__ == "__main__":
    uvloop.run(main(**json.loads(sys.argv[1])))
