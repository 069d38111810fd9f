"""Commands about the gate: pause, resume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from reactor.cli.durations import Duration
from reactor.cli.failures import with_database
from reactor.cli.output import say
from reactor.database.discovery import discover
from reactor.operations import gate
from reactor.settings import DatabaseSettings

if TYPE_CHECKING:
    from reactor.database.session import Session
    from reactor.database.table import TokensTable


@click.command()
@click.option("--for", "seconds", type=Duration(), help="How long, as 10m or 1h30m; otherwise until `reactor resume`.")
@click.option(
    "--reason", default=gate.NO_REASON, show_default=True, help="Why; shown in the logs and by `reactor status`."
)
def pause(*, seconds: float | None, reason: str) -> None:
    """Stop all claims of the whole fleet until `reactor resume`. Tokens that are under way are finished."""
    settings = DatabaseSettings.load()

    async def work(session: Session) -> gate.Paused:
        await _table(session, settings)
        return await gate.pause(session, seconds=seconds, reason=reason, redact=settings.redact)

    paused = with_database(settings, work)
    if paused.stays_closed is not None:
        say(f"the gate stays closed until {paused.stays_closed} anyway, because the daily budget is spent")
    else:
        say(f"paused: {paused.reason}" if seconds is None else f"paused for {seconds:,.0f} s: {paused.reason}")


@click.command()
def resume() -> None:
    """Open the gate, for whatever reason it was closed, and wake the fleet. A spent budget takes a second `resume`."""
    settings = DatabaseSettings.load()

    async def work(session: Session) -> gate.Resumed | None:
        return await gate.resume(session, await _table(session, settings))

    resumed = with_database(settings, work)
    say(_words(resumed) if resumed else "it was not paused")


async def _table(session: Session, settings: DatabaseSettings) -> TokensTable:
    """Find the tokens table. Its error says what to do if nothing is migrated."""
    return await discover(session, settings.tokens_table, prompt_sql=settings.prompt_sql)


def _words(resumed: gate.Resumed) -> str:
    reason = resumed.reason or "no reason given"
    if resumed.stays_closed is None:
        return f"resumed; it was paused: {reason}"
    budget = (
        f"the daily budget is spent, so the gate stays closed until {resumed.stays_closed}; "
        "`reactor resume` again lifts it"
    )
    return f"no longer paused: {reason}; but {budget}"
