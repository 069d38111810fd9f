"""Commands about single tokens: mint, show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from reactor.cli.failures import with_database
from reactor.cli.output import say, say_json
from reactor.database.discovery import discover
from reactor.settings import DatabaseSettings

if TYPE_CHECKING:
    import asyncpg

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
        return await session.fetch(table.query("mint" if table.authors else "mint_prompts"), prompts)

    for row in with_database(settings, work):
        say(row["token_id"])


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
