"""`reactor tokens`: the tokens that match a filter, and why they failed."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from reactor.cli.failures import with_database
from reactor.cli.filters import filter_of, matching_option, say_causes, since_option
from reactor.cli.output import say, say_json
from reactor.database.discovery import discover
from reactor.operations.tokens import (
    STATUSES,
    FilterError,
    TokenFilter,
    failures_by_cause,
    list_tokens,
)
from reactor.settings import DatabaseSettings
from reactor.text.messages import message_of

if TYPE_CHECKING:
    from reactor.database.session import Session
    from reactor.operations.tokens import Causes, Token, TokenPage

MOST = 1_000  # tokens of one page


@click.command("tokens")
@click.option("--status", type=click.Choice(STATUSES), help="Only tokens with this status.")
@matching_option("Only tokens whose error contains this text, in either case, or whose number or key it is.")
@since_option()
@click.option("--limit", type=click.IntRange(1, MOST), default=20, show_default=True, help="Tokens to list.")
@click.option("--after", metavar="NEXT", help="Go on behind an earlier list: its `next`.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def listing(
    *, status: str | None, matching: str | None, since: float | None, limit: int, after: str | None, as_json: bool
) -> None:
    """List tokens, the newest first, and group those that failed by cause."""
    settings, wanted = DatabaseSettings.load(), filter_of(status, matching, since)

    async def work(session: Session) -> tuple[TokenPage, Causes | None]:
        table = await discover(session, settings.tokens_table, prompt_sql=settings.prompt_sql)
        try:
            page = await list_tokens(session, table, wanted, after=after, limit=limit)
        except FilterError as error:
            raise click.ClickException(message_of(error)) from error
        if status not in {None, "failed"} or after is not None:
            return page, None
        return page, await failures_by_cause(session, table, TokenFilter("failed", matching, since))

    page, causes = with_database(settings, work)
    if as_json:
        say_json({"tokens": [as_json_of(token) for token in page.tokens], "next": page.next, **_in_json(causes)})
        return
    for token in page.tokens:
        say(_in_words(token))
    if not page.tokens:
        say("no token matches" if page.next is None else "no token matches so far")
    if page.next is not None:
        say(f"there are more: --after {page.next}")
    if causes is not None:
        say_causes(causes)


def as_json_of(token: Token) -> dict[str, Any]:
    """The token as an object of JSON; an infinite time is null."""
    return asdict(token) | {
        name: at.isoformat() if (at := getattr(token, name)) is not None else None for name in ("minted_at", "due_at")
    }


def _in_json(causes: Causes | None) -> dict[str, Any]:
    if causes is None:
        return {}
    return {"causes": [asdict(cause) for cause in causes.causes], "complete": causes.complete}


def _in_words(token: Token) -> str:
    minted = "" if token.minted_at is None else f"{token.minted_at:%Y-%m-%d %H:%M:%S}"
    what = token.error if token.status == "failed" else token.image_url or token.error
    return f"{token.token_id!s:>9}  {token.status:<11}{minted:<21}{what or ''}".rstrip()
