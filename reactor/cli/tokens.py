"""Commands about tokens: mint, status, show."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

import click

from reactor.cli.failures import no_such_value, with_database
from reactor.cli.output import say, say_json
from reactor.database.connections import RowRefusedError, session_name
from reactor.database.store import discover
from reactor.engine.gate.gate_store import gate_state
from reactor.settings import DatabaseSettings

if TYPE_CHECKING:
    import asyncpg

    from reactor.database.session import Session

STATUSES = ("detected", "generating", "uploading", "ready", "revealed", "failed")


@click.command()
@click.argument("tokens", type=click.IntRange(1, 100_000), default=1)
@click.option("--prompt", help="The author's prompt; without it each token gets a sample prompt.")
def mint(*, tokens: int, prompt: str | None) -> None:
    """Mint TOKENS tokens, as a backend would, and print their ids."""
    from reactor.text.prompts import sample_prompts

    prompts = [prompt] * tokens if prompt is not None else sample_prompts(tokens)
    if any("\x00" in text for text in prompts):
        raise click.UsageError("a prompt cannot hold a NUL character")
    settings = DatabaseSettings.load()

    async def work(session: Session) -> list[asyncpg.Record]:
        table = await discover(session, settings.tokens_table)
        return await session.fetch(table.query("mint"), prompts)

    for row in with_database(settings, work):
        say(row["token_id"])


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def status(*, as_json: bool) -> None:
    """Show the number of tokens in each status, whether the gate is open, and how many workers run and listen."""
    settings = DatabaseSettings.load()

    async def work(session: Session) -> tuple[dict[str, Any], str]:
        table = await discover(session, settings.tokens_table)
        counts = {row["status"]: row["tokens"] for row in await session.fetch(table.query("count_statuses"))}
        gate = await gate_state(session)
        (workers,) = await session.fetch(table.query("count_workers"), session_name("listener"), session_name("claims"))
        return {
            "tokens": dict.fromkeys(STATUSES, 0) | counts,
            "intake": dict(gate),
            **workers,
            "triggers": table.triggers_enabled,
        }, table.triggers

    state, triggers = with_database(settings, work)
    if as_json:
        say_json(state)
        return
    for name, count in state["tokens"].items():
        say(f"{name:<12}{count:>9,}")
    deaf = state["workers"] - state["listening"]
    without = f"  {deaf:,} of them without a listener: mints wait for their sweep" if deaf else ""
    say(f"{'workers':<12}{state['workers']:>9,}{without}")
    say(f"{'gate':<12}{_gate_in_words(state['intake']):>9}")
    if not state["triggers"]:
        say(f"triggers    {triggers}: mints wait for the sweep; run: reactor migrate")


def _gate_in_words(gate: dict[str, Any]) -> str:
    """The gate's state, in words."""
    limit, seconds = gate["limit_per_minute"], gate["resumes_in"]
    if not gate["paused"]:
        return "open" if limit is None else f"open; the account allows {limit:g} creates a minute"
    if seconds is None:
        how = "paused"
    elif seconds > 0:
        how = f"paused for {ceil(seconds):,} s"
    else:
        how = "trying one token at a time"
    return f"{how}: {gate['reason'] or 'no reason given'}"


@click.command()
@click.argument("token_id")
def show(*, token_id: str) -> None:
    """Show every field of one token. Of its prompt only the length is shown."""
    settings = DatabaseSettings.load()

    async def work(session: Session) -> list[asyncpg.Record]:
        table = await discover(session, settings.tokens_table)
        try:
            return await session.fetch(table.query("show"), token_id)
        except RowRefusedError as error:
            if no_such_value(error):
                return []
            raise

    rows = with_database(settings, work)
    if not rows:
        raise click.ClickException(f"no token {token_id}")
    for name, value in rows[0].items():
        if value is not None:
            say(f"{name:<20}{value}")
