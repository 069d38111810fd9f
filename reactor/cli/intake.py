"""Commands about the intake: pause, resume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reactor.cli.failures import with_database
from reactor.redaction import Redactor
from reactor.settings import DatabaseSettings
from reactor.store import discover
from reactor.table import plain_query

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncpg

    from reactor.session import Session
    from reactor.table import TokensTable

NO_REASON = "paused by an operator"


@click.command()
@click.option("--reason", default=NO_REASON, show_default=True, help="Why; the logs and `reactor status` tell it.")
def pause(*, reason: str) -> None:
    """Claim nothing any more, in the whole fleet, until `reactor resume`. What is under way is finished."""
    settings = DatabaseSettings.load()
    told = Redactor(settings.secrets())(reason.strip() or NO_REASON)
    _query(settings, "pause", lambda _table: told)
    click.echo(f"paused: {told}")


@click.command()
def resume() -> None:
    """Open the intake, whatever closed it, and wake the fleet."""
    rows = _query(DatabaseSettings.load(), "resume", lambda table: table.wake_channel)
    click.echo(f"resumed; it was paused: {rows[0]['reason'] or 'no reason given'}" if rows else "it was not paused")


def _query(settings: DatabaseSettings, name: str, argument: Callable[[TokensTable], Any]) -> list[asyncpg.Record]:
    async def work(session: Session) -> list[asyncpg.Record]:
        table = await discover(session, settings.tokens_table)  # says what to do where nothing is migrated
        return await session.fetch(plain_query(name), argument(table))

    return with_database(settings, work)
