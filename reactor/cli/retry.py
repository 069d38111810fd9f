"""`reactor retry`: sets tokens back to detected that failed, or whose image is gone unused."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from reactor.cli.failures import with_database
from reactor.cli.filters import filter_of, matching_option, say_causes, since_option
from reactor.cli.output import say, say_json
from reactor.cli.progress import progress
from reactor.database.discovery import discover
from reactor.operations.expired import count_expired, retry_expired
from reactor.operations.tokens import Causes, count_matching, failures_by_cause, retry_matching, retry_tokens
from reactor.settings import DatabaseSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from reactor.database.session import Session
    from reactor.operations.tokens import Count, TokenFilter

UNASKED = 100  # tokens that are set back without a question


@click.command()
@click.argument("token_ids", nargs=-1)
@click.option("--failed", is_flag=True, help="All tokens that failed, or those of them that match.")
@click.option("--expired", is_flag=True, help="All tokens whose image is gone from the provider, and was never taken.")
@matching_option("With --failed or --expired: only those whose error contains this text, or whose number or key it is.")
@since_option()
@click.option("--dry-run", is_flag=True, help="With --failed or --expired: only count, and say why they failed.")
@click.option("--yes", is_flag=True, help=f"Set back more than {UNASKED} without a question.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def retry(
    *,
    token_ids: tuple[str, ...],
    failed: bool,
    expired: bool,
    matching: str | None,
    since: float | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Set failed tokens back to detected, so that they begin again at once.

    --failed and --expired work in steps. If interrupted, the finished steps stay; run it again for the rest. Tokens
    that expired keep their seed, so a pinned model makes the same picture again. It is paid again.
    """
    if [failed, expired, bool(token_ids)].count(True) != 1:
        raise click.UsageError("give either token ids, --failed or --expired")
    if token_ids and (matching is not None or since is not None or dry_run):
        raise click.UsageError("--matching, --since and --dry-run go with --failed or --expired")
    settings = DatabaseSettings.load()
    if token_ids:
        _retry_named(settings, list(dict.fromkeys(token_ids)), as_json=as_json)
        return
    wanted = filter_of("failed" if failed else "uploading", matching, since)
    count = None
    if dry_run or not yes:
        count, causes = _counted(settings, wanted)
        if dry_run:
            _say_count(count, causes, wanted, as_json=as_json)
            return
        _ask_before_many(count, wanted)
    _retry_matching(settings, wanted, count, as_json=as_json)


def _counted(settings: DatabaseSettings, wanted: TokenFilter) -> tuple[Count, Causes]:
    async def work(session: Session) -> tuple[Count, Causes]:
        table = await discover(session, settings.tokens_table, prompt_sql=settings.prompt_sql)
        if wanted.status == "uploading":
            return await count_expired(session, table, wanted), Causes([], complete=True)
        return await count_matching(session, table, wanted), await failures_by_cause(session, table, wanted)

    return with_database(settings, work)


def _say_count(count: Count, causes: Causes, wanted: TokenFilter, *, as_json: bool) -> None:
    if as_json:
        say_json({"matching": count.tokens, "exact": count.exact, "causes": list(map(asdict, causes.causes))})
        return
    say(f"{_in_words(count, wanted)} would be set back to detected")
    say_causes(causes)


def _ask_before_many(count: Count, wanted: TokenFilter) -> None:
    """Ask whether so many are meant. Raises Abort if not, ClickException if nobody is there to ask."""
    if count.exact and count.tokens <= UNASKED:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        many = _in_words(count, wanted)
        raise click.ClickException(f"{many} would be set back: add --yes, or look first with --dry-run")
    click.confirm(f"Set {_in_words(count, wanted)} back to detected?", abort=True, err=True)


def _in_words(count: Count, wanted: TokenFilter) -> str:
    at_least, which = "" if count.exact else "at least ", "expired" if wanted.status == "uploading" else "failed"
    return f"{at_least}{count.tokens:,} {which} {'token' if count.tokens == 1 and count.exact else 'tokens'}"


class _Done:
    """Counts the tokens that were set back."""

    def __init__(self, *, as_json: bool) -> None:
        self.retried = self.locked = 0
        self._as_json = as_json

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Print at the end how many were set back, also after an error. An interrupted step may be missing from it."""
        try:
            yield
        except BaseException:
            if self.retried or self._as_json:
                self._say(" until then; run it again for the rest", complete=False)
            raise
        self._say("", complete=True)

    def _say(self, how: str, *, complete: bool) -> None:
        if self._as_json:
            say_json({"retried": self.retried, "locked": self.locked, "complete": complete})
        else:
            say(f"{self.retried:,} set back to detected{how}")


def _retry_named(settings: DatabaseSettings, token_ids: Sequence[str], *, as_json: bool) -> None:
    done = _Done(as_json=as_json)

    async def work(session: Session) -> set[str]:
        table = await discover(session, settings.tokens_table, prompt_sql=settings.prompt_sql)
        named = await retry_tokens(session, table, token_ids)
        done.retried = len(named)
        return named

    with done.reported():
        named = with_database(settings, work)
    if missing := [token_id for token_id in token_ids if token_id not in named]:
        raise click.ClickException(f"not failed, or not there: {', '.join(missing)}")


def _retry_matching(settings: DatabaseSettings, wanted: TokenFilter, count: Count | None, *, as_json: bool) -> None:
    done = _Done(as_json=as_json)
    total = count.tokens if count is not None and count.exact else None

    async def work(session: Session) -> None:
        table = await discover(session, settings.tokens_table, prompt_sql=settings.prompt_sql)
        steps = (
            retry_expired(session, table, wanted, history=settings.history_days > 0)
            if wanted.status == "uploading"
            else retry_matching(session, table, wanted)
        )
        with progress("set back", total) as show:
            async for step in steps:
                done.retried += step.retried
                done.locked += step.locked
                show(step.retried + step.locked)

    with done.reported():
        with_database(settings, work)
    if done.locked:
        raise click.ClickException(f"{done.locked:,} more are locked by somebody else; run it again")
