"""Commands about the gate: pause, resume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reactor.cli.durations import Duration
from reactor.cli.failures import with_database
from reactor.cli.output import say
from reactor.database.store import discover
from reactor.database.table import plain_query
from reactor.engine.gate.gate_store import gate_state
from reactor.settings import DatabaseSettings
from reactor.text.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncpg

    from reactor.database.session import Session
    from reactor.database.table import TokensTable

NO_REASON = "paused by an operator"


@click.command()
@click.option("--for", "seconds", type=Duration(), help="How long, as 10m or 1h30m; otherwise until `reactor resume`.")
@click.option("--reason", default=NO_REASON, show_default=True, help="Why; shown in the logs and by `reactor status`.")
def pause(*, seconds: float | None, reason: str) -> None:
    """Stop all claims of the whole fleet until `reactor resume`. Tokens that are under way are finished."""
    settings = DatabaseSettings.load()
    redact = Redactor(settings.secrets())
    shown = redact(reason.strip() or NO_REASON)
    _query(settings, "pause", lambda table: (redact.storing_in(table.encoding)(shown), seconds))
    say(f"paused: {shown}" if seconds is None else f"paused for {seconds:,.0f} s: {shown}")


@click.command()
def resume() -> None:
    """Open the gate, for whatever reason it was closed, and wake the fleet."""
    rows = _query(DatabaseSettings.load(), "resume", lambda table: (table.wake_channel,))
    say(f"resumed; it was paused: {rows[0]['reason'] or 'no reason given'}" if rows else "it was not paused")


def _query(
    settings: DatabaseSettings, name: str, arguments: Callable[[TokensTable], tuple[Any, ...]]
) -> list[asyncpg.Record]:
    async def work(session: Session) -> list[asyncpg.Record]:
        table = await discover(session, settings.tokens_table)  # its error says what to do if nothing is migrated
        await gate_state(session)  # inserts the gate's row again if somebody removed it
        return await session.fetch(plain_query(name), *arguments(table))

    return with_database(settings, work)
