"""`reactor retry`: sets failed tokens back to detected."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from reactor.cli.failures import no_such_value, with_database
from reactor.cli.output import say, say_over
from reactor.database.connections import RowRefusedError
from reactor.database.store import discover
from reactor.settings import DatabaseSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from reactor.database.session import Session

STEP = 2_000  # rows that one statement reads; a statement may take 8 s


@click.command()
@click.argument("token_ids", nargs=-1)
@click.option("--failed", is_flag=True, help="All tokens that failed.")
def retry(*, token_ids: tuple[str, ...], failed: bool) -> None:
    """Set failed tokens back to detected, so that they begin again at once.

    --failed works in steps. If it is interrupted, the finished steps stay; run it again for the rest.
    """
    if failed == bool(token_ids):
        raise click.UsageError("give either token ids or --failed")
    settings = DatabaseSettings.load()
    progress = _Progress()

    async def work(session: Session) -> None:
        table = await discover(session, settings.tokens_table)
        if failed:
            await _all_that_failed(session, table.query("retry_failed"), progress)
        else:
            await _named(session, table.query("retry"), token_ids, progress)

    with progress.reported():
        with_database(settings, work)
    missing = [token_id for token_id in dict.fromkeys(token_ids) if token_id not in progress.named]
    if missing:
        raise click.ClickException(f"not failed, or not there: {', '.join(missing)}")
    if progress.locked:
        raise click.ClickException(f"{progress.locked:,} more are locked by somebody else; run it again")


class _Progress:
    """Counts the tokens that were set back; a terminal shows the count while it grows."""

    def __init__(self) -> None:
        self.done = self.locked = 0
        self.named: set[str] = set()
        self._shown = sys.stderr is not None and sys.stderr.isatty()

    def add(self, retried: int, locked: int = 0) -> None:
        self.done += retried
        self.locked += locked
        if self._shown:
            say_over(f"{self.done:,} set back")

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Print at the end how many were set back, also after an error. An interrupted step may be missing from it."""
        try:
            yield
        except BaseException:
            if self.done:
                self._say(f"{self.done:,} set back to detected until then; run it again for the rest")
            raise
        self._say(f"{self.done:,} set back to detected")

    def _say(self, words: str) -> None:
        if self._shown:
            say_over("")
        say(words)


async def _all_that_failed(session: Session, query: str, progress: _Progress) -> None:
    begin = None
    while True:
        (step,) = await session.fetch(query, begin, STEP)
        progress.add(step["retried"], step["locked"])
        begin = step["next"]
        if begin is None:
            return


async def _named(session: Session, query: str, token_ids: Sequence[str], progress: _Progress) -> None:
    """Set these tokens back. If one id does not fit the column's type, set back each by itself and skip that one."""
    try:
        rows = await session.fetch(query, list(token_ids))
    except RowRefusedError as error:
        if not no_such_value(error):
            raise
        if len(token_ids) > 1:
            for token_id in token_ids:
                await _named(session, query, [token_id], progress)
        return
    progress.named.update(row["token_id"] for row in rows)
    progress.add(len(rows))
