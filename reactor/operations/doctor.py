"""Looks at everything that a worker depends on, and changes nothing. It sends one NOTIFY, on a channel of its own.

A check that cannot be made is `unknown`, with its reason: never "ok".
"""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg

from reactor.database.connections import LOST, ConnectionLostError, DatabaseError
from reactor.database.discovery import find
from reactor.database.search_path import connect, within
from reactor.database.session import Session
from reactor.database.shape import in_words
from reactor.database.table import TableError
from reactor.operations import provider_checks, server_checks, table_checks
from reactor.operations.finding import Finding, UnknownError, made
from reactor.operations.server_checks import Link, link
from reactor.operations.wake_check import wake
from reactor.text.messages import first_line_of, unreachable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from reactor.database.search_path import Inherited
    from reactor.database.table import TokensTable
    from reactor.migrations.revisions import Plan
    from reactor.secret import Secret
    from reactor.settings import DatabaseSettings, Settings, SettingsError

    Check = Callable[[], Awaitable[Finding]]

NAME = "reactor doctor"  # the application_name of its connections


@dataclass(slots=True)
class Report:
    """What was found, in the order of the checks."""

    mapping: list[tuple[str, str]] = field(default_factory=list)  # empty if the table could not be mapped
    findings: list[Finding] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether any check failed."""
        return any(finding.state == "failed" for finding in self.findings)


async def examine(settings: DatabaseSettings, worker: Settings | SettingsError | None = None) -> Report:
    """Make every check. `worker`: the settings of `run`, or what is wrong with them; None: do not ask the provider."""
    async with AsyncExitStack() as opened:
        report = await _Examination(settings, opened, worker).report()
    async with provider_checks.opened(worker) as provider:
        for name, check in provider_checks.CHECKS.items():
            report.findings.append(await made(name, partial(check, worker, provider), _reason))
    return report


@dataclass(frozen=True, slots=True)
class _Opened:
    """One of the two connections."""

    link: Link
    connection: asyncpg.Connection[Any]


class _Examination:
    """The checks, one after the other, on connections that `opened` closes."""

    def __init__(
        self, settings: DatabaseSettings, opened: AsyncExitStack, worker: Settings | SettingsError | None
    ) -> None:
        self._settings = settings
        self._worker = worker
        self._stack = opened
        self._report = Report()
        self._database: _Opened | str = "no connection"
        self._listening: _Opened | str | None = None  # None: DATABASE_URL serves for both
        self._session = Session(
            settings.secret("database_url"), name=NAME, pooled=settings.listen_database_url is not None
        )
        self._table: TokensTable | None = None
        self._plan: Plan | None = None

    async def report(self) -> Report:
        self._stack.push_async_callback(self._session.aclose)
        self._database = await self._open("DATABASE_URL", self._settings.secret("database_url"))
        if self._settings.listen_database_url is not None:
            self._listening = await self._open("LISTEN_DATABASE_URL", self._settings.listening)
        for check in (self._check_server, self._check_table, self._check_bell):
            await check()
        if self._table is not None:
            self._report.mapping = in_words(self._table)
        elif self._plan is not None:
            self._report.mapping = self._plan.mapping
        return self._report

    async def _open(self, url: str, dsn: Secret) -> _Opened | str:
        """Open a connection and add what was found; return why there is none."""
        began = time.monotonic()
        try:
            connection, inherited = await connect(dsn, name=NAME)
            self._stack.push_async_callback(_close, connection)
            read = await link(url, connection, _fetch_on(connection, inherited), time.monotonic() - began)
        except (DatabaseError, asyncpg.PostgresError, *LOST) as error:
            why = unreachable(error.__cause__ or error)
            todo = f"start the server, or correct {url}"
            name = "connection" if url == "DATABASE_URL" else "listen connection"
            self._add(Finding(name, "failed", f"{url}: {why}", todo))
            return why
        self._add(server_checks.connected(read))
        return _Opened(read, connection)

    def _add(self, finding: Finding) -> None:
        self._report.findings.append(finding)

    async def _check(self, name: str, check: Check) -> None:
        self._add(await made(name, check, _reason))

    async def _check_server(self) -> None:
        for name, of_link in (
            ("version", server_checks.version),
            ("encoding", server_checks.encoding),
            ("writable", server_checks.writable),
            ("durability", server_checks.durable),
            ("clock", server_checks.clock),
        ):
            await self._check(name, partial(self._of_link, of_link))
        await self._check("pooler", self._pooler)
        for name, of_server in (
            ("prepared transactions", server_checks.prepared),
            ("notify queue", server_checks.notify_queue),
            ("notify lock", server_checks.notify_waits),
            ("old snapshots", server_checks.snapshots),
        ):
            await self._check(name, partial(of_server, self._session.fetch))

    async def _of_link(self, check: Callable[[Link], Finding]) -> Finding:
        return check(_connected(self._database).link)

    async def _pooler(self) -> Finding:
        listening = _connected(self._listening).link if self._listening is not None else None
        return server_checks.pooler(_connected(self._database).link, listening)

    async def _check_table(self) -> None:
        await self._check("table", self._find)
        for name, check in (
            ("privileges", table_checks.privileges),
            ("row security", table_checks.row_security),
            ("prompt", table_checks.prompt),
        ):
            await self._check(name, partial(self._of_table, check))
        await self._check("revision", partial(table_checks.revision, self._session))
        await self._check("drift", self._drift)
        await self._check("triggers", partial(self._of_table, table_checks.triggers))
        await self._check("dead rows", partial(self._of_table, table_checks.dead_rows))

    async def _find(self) -> Finding:
        settings = self._settings
        try:
            self._table = await find(self._session.fetch, settings.tokens_table, prompt_sql=settings.prompt_sql)
        except TableError as error:
            return table_checks.unfit(error)
        return Finding("table", "ok", f"{self._table.schema}.{self._table.name} is migrated")

    async def _of_table(self, check: Callable[[Session, TokensTable], Awaitable[Finding]]) -> Finding:
        if self._table is None:
            raise UnknownError("the table was not found, or not mapped")
        return await check(self._session, self._table)

    async def _drift(self) -> Finding:
        settings, listening = self._settings, self._settings.listen_database_url
        facts = _connected(self._database if listening is None else self._listening).link.facts
        if not facts["may_migrate"]:
            raise UnknownError(f"role {facts['role']} may not migrate: run this as the migrator's role")
        direct = listening is not None
        try:
            self._plan = await table_checks.planned(
                settings.listening, settings.tokens_table, settings.prompt_sql, direct=direct
            )
        except TableError as error:
            return table_checks.refused(error)
        return table_checks.drift(self._plan)

    async def _check_bell(self) -> None:
        await self._check("wake", self._wake)
        await self._check("budget", partial(provider_checks.budget, self._worker, self._session.fetch))

    async def _wake(self) -> Finding:
        url = "DATABASE_URL" if self._listening is None else "LISTEN_DATABASE_URL"
        opened = _connected(self._database if self._listening is None else self._listening)
        return await wake(opened.connection, self._session, url)


def _connected(opened: _Opened | str | None) -> _Opened:
    """The connection. Raises UnknownError if there is none."""
    if isinstance(opened, _Opened):
        return opened
    raise UnknownError(opened or "no connection")


def _reason(error: Exception) -> str | None:
    """Why a check could not be made; None: because of a bug."""
    if isinstance(error, ConnectionLostError):
        return unreachable(error.__cause__ or error)
    if isinstance(error, (DatabaseError, asyncpg.PostgresError, *LOST)):
        return first_line_of(error.__cause__ or error)
    return None


def _fetch_on(connection: asyncpg.Connection[Any], inherited: Inherited | None) -> server_checks.Fetch:
    async def fetch(query: str, *arguments: Any) -> list[asyncpg.Record]:
        async with within(connection, inherited) if inherited else nullcontext():
            rows: list[asyncpg.Record] = await connection.fetch(query, *arguments)
        return rows

    return fetch


async def _close(connection: asyncpg.Connection[Any]) -> None:
    connection.terminate()
