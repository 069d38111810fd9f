"""What the commands about many tokens share: the options of a filter, and why tokens failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from reactor.cli.durations import Duration
from reactor.cli.output import say
from reactor.operations.tokens import FilterError, TokenFilter
from reactor.text.messages import message_of

if TYPE_CHECKING:
    from reactor.operations.tokens import Causes

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
MOST_CAUSES = 10  # that people are shown


def matching_option(why: str) -> Decorator:
    """The option --matching; `why` is its help."""
    return click.option("--matching", metavar="TEXT", help=why)


def since_option() -> Decorator:
    """The option --since."""
    return click.option(
        "--since", type=Duration(), help="Minted, or last begun, at most so long ago: 90s, 10m, 2h, 7d."
    )


def filter_of(status: str | None, text: str | None, seconds: float | None) -> TokenFilter:
    """The filter that these options mean. Raises UsageError."""
    try:
        return TokenFilter(status, text, seconds)
    except FilterError as error:
        raise click.UsageError(message_of(error)) from error


def say_causes(causes: Causes) -> None:
    """Print why tokens failed, if any did."""
    if not causes.causes:
        return
    say("")
    say("why tokens failed" + (":" if causes.complete else ", of those that were looked at:"))
    for cause in causes.causes[:MOST_CAUSES]:
        say(f"{cause.tokens:>9,}  {cause.cause}  (see: reactor show {cause.example})")
    if (more := len(causes.causes) - MOST_CAUSES) > 0:
        say(f"{'':>9}  and {more:,} other causes")
