"""`reactor migrate`: the tables, indexes and triggers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from reactor.cli.failures import failure, run_async
from reactor.cli.output import say, say_exactly
from reactor.settings import DatabaseSettings
from reactor.text.messages import message_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from reactor.migrations.revisions import Outcome, Plan


@click.command()
@click.option("--plan", is_flag=True, help="Show what was found and what would be done; change nothing.")
@click.option("--sql", is_flag=True, help="Print the same as statements for psql; change nothing.")
@click.option("--down", is_flag=True, help="Remove what the migrations added; everything older stays.")
@click.option("--yes", is_flag=True, help="With --down: drop tables that the migrations made, and images, too.")
def migrate(*, plan: bool, sql: bool, down: bool, yes: bool) -> None:
    """Create or complete the tables in DATABASE_URL. Harmless when run again.

    If LISTEN_DATABASE_URL is set it is used instead, because migrations need a direct connection.
    """
    if yes and not down:
        raise click.UsageError("--yes goes with --down")
    if plan + sql + down > 1:
        raise click.UsageError("give one of --plan, --sql and --down")
    settings = DatabaseSettings.load()

    from reactor.migrations import revisions

    if plan or sql:
        show = _say_sql if sql else _say_plan
        show(_with_database(settings, partial(revisions.plan, prompt_sql=settings.prompt_sql)))
    elif down:
        _say_removed(settings.tokens_table, _with_database(settings, partial(revisions.downgrade, with_rows=yes)))
    else:
        outcome = _with_database(settings, partial(revisions.upgrade, prompt_sql=settings.prompt_sql))
        for what in outcome.done:
            say(f"done: {what}")
        say(f"{settings.tokens_table}: migrated")
        if outcome.unmarked:
            say(
                f"--down will keep {_without_marks(outcome)}: set it on the table if reactor made the table, else on"
                " each of these columns that reactor added"
            )


def _say_removed(table: str, outcome: Outcome) -> None:
    for what in outcome.done:
        say(f"removed {what}")
    if outcome.unmarked:
        say(f"{table}: kept {_without_marks(outcome)}; drop by hand what is not yours")
    else:
        say(f"{table}: {'removed what was added' if outcome.done else 'nothing of ours was there'}")


def _without_marks(outcome: Outcome) -> str:
    names = ", ".join(outcome.unmarked)
    return f"the columns {names}, because the comment 'made by reactor' is missing, as after pg_dump --no-comments"


def _with_database(settings: DatabaseSettings, work: Callable[..., Awaitable[Any]]) -> Any:
    """Run a function of revisions.py on the direct connection; its error is one line."""
    from reactor.migrations.migration_lock import MigrationError

    direct = settings.listen_database_url is not None

    async def main() -> Any:
        try:
            return await work(settings.listening, table=settings.tokens_table, direct=direct)
        except MigrationError as error:
            raise failure(settings.redact(message_of(error)), error.__cause__) from error

    return run_async(main)


def _say_plan(plan: Plan) -> None:
    for need, source in plan.mapping:
        say(f"{need:<8}{source}")
    say("")
    if not plan.steps:
        say("nothing to do")
    for number, step in enumerate(plan.steps, 1):
        say(f"{number:>3}. {step.what} ({step.waits})")


def _say_sql(plan: Plan) -> None:
    say("-- For psql: each statement is a transaction of its own. If a lock is not free in time, run the rest again.")
    say("\\set ON_ERROR_STOP on")
    for setting in ("search_path = pg_catalog, pg_temp", "statement_timeout = 0", "standard_conforming_strings = on"):
        say(f"SET {setting};")
    if not plan.steps:
        say("-- Nothing to do.")
    for step in plan.steps:
        say("")
        say(f"-- {step.what}: {step.waits}")
        say(f"SET lock_timeout = {0 if step.concurrently else 500};")
        say_exactly(f"{step.statement}\n;")
