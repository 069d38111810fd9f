"""Waits for tokens to settle: `Running.wait_for`.

A wait ends by the first of three hints: an event of this process's own worker, the status channel (another worker has
settled it), and a look at the row every few seconds, because hints can be lost. Each hint only says "look": what is
returned was read from the row. The connection that listens is opened for the first wait and closed after the last one.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import orjson

from reactor import events
from reactor.backoff import jittered
from reactor.database.connections import ConnectionLostError, RowRefusedError
from reactor.database.discovery import discover
from reactor.database.listening import Listening
from reactor.database.search_path import connect
from reactor.database.session import Session
from reactor.text.foreign import fit_line
from reactor.tokens import UNFINISHED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    import asyncpg

    from reactor.database.table import TokensTable
    from reactor.settings import DatabaseSettings

NAME = "reactor waits"  # the application_name of the connections
LOOK_EVERY = 5.0  # seconds, without a hint
TABLE_FOR = 5.0  # seconds until the table is looked up again
_SETTLED = frozenset({events.GENERATION_SUCCEEDED, events.GENERATION_FAILED, events.GENERATION_EXHAUSTED})


class Waits:
    """Who waits for which token, by each of its names. It is also a sink for the worker's events."""

    def __init__(self, settings: DatabaseSettings, *, look_every: float = LOOK_EVERY) -> None:
        self._settings = settings
        self._look_every = look_every
        pooled = settings.listen_database_url is not None
        self._session = Session(settings.secret("database_url"), name=NAME, pooled=pooled)
        self._hints: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._listening = Listening(self._listen, name=NAME)
        self._table: TokensTable | None = None
        self._table_until = 0.0  # monotonic seconds

    def __call__(self, event: str, fields: dict[str, Any]) -> None:
        if event in _SETTLED:
            self._ring(str(fields.get("token_id")))

    async def settled(self, token_id: int | str | UUID) -> dict[str, Any]:
        """Return the token's row once it is neither detected nor generating.

        Raises LookupError if there is no such token, or none any more, and TableError if the table is not migrated. A
        database that is away is waited for.
        """
        names, hint = {str(token_id)}, asyncio.Event()
        with self._listening.awaited():
            while True:
                with self._named(names, hint):
                    hint.clear()
                    row = await self._row(str(token_id))
                    if row is not None and row["status"] not in UNFINISHED:
                        return row | {"token_id": token_id}
                    if row is None or names.issuperset(known := {str(row["id"]), str(row["token_id"])}):
                        with anyio.move_on_after(jittered(self._look_every)):
                            await hint.wait()
                    else:
                        names |= known  # and look again, because a hint by these names may have been missed

    async def aclose(self) -> None:
        """Close the connections."""
        self._listening.stop()
        await self._session.aclose()

    async def _row(self, name: str) -> dict[str, Any] | None:
        """The row as it is now; None if the database is away. Raises LookupError, TableError."""
        try:
            table = await self._discovered()
            for query in ("show", "show_by_key"):
                for row in await self._fetch(table.query(query), name):
                    return dict(row)
        except ConnectionLostError:
            return None
        raise LookupError(f"no token {fit_line(name, longest=100)}")

    async def _fetch(self, query: str, name: str) -> list[asyncpg.Record]:
        try:
            return await self._session.fetch(query, name)
        except RowRefusedError as error:
            if (getattr(error.__cause__, "sqlstate", None) or "").startswith("22"):
                return []  # the name does not fit this column's type
            raise

    async def _discovered(self) -> TokensTable:
        if self._table is None or time.monotonic() > self._table_until:
            settings = self._settings
            self._table = await discover(self._session, settings.tokens_table, prompt_sql=settings.prompt_sql)
            self._table_until = time.monotonic() + TABLE_FOR
        return self._table

    @contextmanager
    def _named(self, names: set[str], hint: asyncio.Event) -> Iterator[None]:
        taken = set(names)
        for name in taken:
            self._hints[name].add(hint)
        try:
            yield
        finally:
            for name in taken:
                self._hints[name].discard(hint)
                if not self._hints[name]:
                    del self._hints[name]

    async def _listen(self) -> None:
        """Listen until the connection is lost; until there is another, the looks must do."""
        channel = (await self._discovered()).status_channel
        connection, _inherited = await connect(self._settings.listening, name=NAME)
        ended = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _: ended.set())
            await connection.add_listener(channel, lambda *told: self._heard(told[-1]))
            self._ring_all()  # what was settled before we listened
            await ended.wait()
        finally:
            connection.terminate()

    def _heard(self, payload: object) -> None:
        """Ring those whose tokens a payload names; all, if it names none."""
        try:
            names = orjson.loads(str(payload))["token_ids"]
            for name in names:
                self._ring(str(name))
        except (ValueError, TypeError, KeyError):
            self._ring_all()

    def _ring(self, name: str) -> None:
        for hint in self._hints.get(name, ()):
            hint.set()

    def _ring_all(self) -> None:
        for name in self._hints:
            self._ring(name)
