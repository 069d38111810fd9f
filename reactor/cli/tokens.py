"""Commands about single tokens: mint, show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import click

from reactor.cli.failures import line, with_database
from reactor.cli.output import say, say_json
from reactor.database.connections import RolledBackError, RowRefusedError
from reactor.database.discovery import discover
from reactor.database.table import plain_query
from reactor.settings import DatabaseSettings

if TYPE_CHECKING:
    from reactor.database.connections import DatabaseError
    from reactor.database.session import Session
    from reactor.operations.story import Story


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
        table = await discover(session, settings.tokens_table, prompt_sql=settings.prompt_sql)
        if isinstance(table.prompt, str):
            raise click.ClickException("mint cannot write a prompt to where PROMPT_SQL reads it: insert a row by hand")
        try:
            return await session.fetch(table.query("mint" if table.authors else "mint_prompts"), prompts)
        except (RowRefusedError, RolledBackError) as error:
            refused = settings.redact(await _refusal(session, error))
            raise click.ClickException(f"mint cannot write a row: {refused}, or insert a row by hand") from error

    for row in with_database(settings, work):
        say(row["token_id"])


async def _refusal(session: Session, error: DatabaseError) -> str:
    """Why the tables take no row that fills in only what reactor reads, and what to do; not redacted."""
    refused = error.__cause__
    if not isinstance(refused, asyncpg.IntegrityConstraintViolationError) or refused.table_name is None:
        return f"{line(error)}: change the table"
    place = refused.schema_name, refused.table_name
    table = ".".join(filter(None, place))
    if refused.column_name is not None:
        return f"column {refused.column_name} of {table} is NOT NULL, and mint has no value for it: give it a DEFAULT"
    rows = await session.fetch(plain_query("constrained"), *place, refused.constraint_name)
    names = ", ".join(row["name"] for row in rows)
    columns = f"column{'s' * (len(rows) > 1)} {names} of {table}" if rows else table
    return f"{refused.constraint_name} refuses what {columns} would hold: give it a DEFAULT that fits"


@click.command()
@click.argument("token_id")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def show(*, token_id: str, as_json: bool) -> None:
    """Tell the story of one token: its claims, its purchases, what they cost and how they ended; then its row.

    Of its prompt only the length is shown.
    """
    settings = DatabaseSettings.load()

    from reactor.operations.story import story_of
    from reactor.operations.timeline import ROW, headline, story_json, timeline

    async def work(session: Session) -> Story | None:
        table = await discover(session, settings.tokens_table, prompt_sql=settings.prompt_sql)
        return await story_of(session, table, token_id)

    story = with_database(settings, work)
    if story is None:
        raise click.ClickException(f"no token {token_id}")
    if as_json:
        say_json(story_json(story))
        return
    say(headline(story))
    say("")
    for moment in timeline(story):
        say(f"{'' if moment.at is None else f'{moment.at:%Y-%m-%d %H:%M:%S}':<21}{moment.words}")
    say("")
    for name in ROW:
        if (value := getattr(story, name)) is not None:
            say(f"{name:<20}{value}")
