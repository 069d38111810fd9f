"""The backend that mints: its own process, on a direct connection, that measures its commits.

It tries again only if its connection was lost, after a look whether the mint had arrived. Any other error of an INSERT
is a failure that we caused.
"""

import json
import sys
import time

import anyio
import asyncpg

from torture.plan import mints, prompts
from torture.profiles import PROFILES

MINT = """
WITH given AS (
  SELECT gen_random_uuid() AS author_id, token_id, prompt
  FROM unnest($1::bigint[], $2::text[]) AS given (token_id, prompt)
),
written AS (
  INSERT INTO authors (id, wallet_address, prompt_text) SELECT author_id, '0x' || token_id, prompt FROM given
)
INSERT INTO tokens_s0 (token_id, author_id) SELECT token_id, author_id FROM given ORDER BY token_id
"""
_LOST = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
_LOST_STATES = {"57P01", "57P02", "57P03"}  # the server is stopping or starting
AGAIN_AFTER = 0.05  # seconds


class Producer:
    """Mints by the plan; if late, as fast as it can."""

    def __init__(self, url, profile, seed):
        self._url = url
        self._mints = mints(profile, seed)
        self._prompts, _ = prompts(profile, seed)
        self._connection = None
        self.commits = []  # seconds
        self.failed = []
        self.lost = 0

    async def run(self):
        started_at = time.monotonic()
        for mint in self._mints:
            await anyio.sleep(max(0.0, started_at + mint.at - time.monotonic()))
            await self._certainly(mint.token_ids)

    async def _certainly(self, token_ids):
        again = False
        while True:
            try:
                if not (again and await self._arrived(token_ids)):
                    await self._mint(token_ids)
            except (asyncpg.PostgresError, *_LOST) as error:
                if not isinstance(error, _LOST) and error.sqlstate not in _LOST_STATES:
                    self.failed.append(f"{list(token_ids)}: {type(error).__name__}: {error}")
                    return
                self.lost += 1
                self._connection = None
                again = True
                await anyio.sleep(AGAIN_AFTER)
            else:
                return

    async def _mint(self, token_ids):
        connection = await self._connected()
        sent_at = time.perf_counter()
        await connection.execute(MINT, list(token_ids), [self._prompts[token_id] for token_id in token_ids])
        self.commits.append(time.perf_counter() - sent_at)

    async def _arrived(self, token_ids):
        connection = await self._connected()
        return await connection.fetchval("SELECT true FROM tokens_s0 WHERE token_id = $1", token_ids[0])

    async def _connected(self):
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(self._url, timeout=5, command_timeout=30)
        return self._connection


def share(values, part):
    """The value below which `part` of the values lie."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def main(url, profile, seed):
    producer = Producer(url, PROFILES[profile], int(seed))
    anyio.run(producer.run)
    commits = {"p50": share(producer.commits, 0.5), "p99": share(producer.commits, 0.99), "max": max(producer.commits)}
    told = {"commits": commits, "failed": producer.failed, "lost": producer.lost}
    print(json.dumps(told))  # noqa: T201  (the harness reads this)


if __name__ == "__main__":
    main(*sys.argv[1:])
