"""`reactor migrate`: the tables, indexes and triggers."""

from __future__ import annotations

from functools import partial

import click

from reactor.cli.failures import run_async
from reactor.cli.output import say
from reactor.settings import DatabaseSettings
from reactor.text.messages import message_of


@click.command()
@click.option("--down", is_flag=True, help="Remove what the migrations added; everything older stays.")
@click.option("--yes", is_flag=True, help="With --down: drop tables that the migrations made, and their rows.")
def migrate(*, down: bool, yes: bool) -> None:
    """Create or complete the tables in DATABASE_URL. Harmless when run again.

    If LISTEN_DATABASE_URL is set it is used instead, because migrations need a direct connection.
    """
    if yes and not down:
        raise click.UsageError("--yes goes with --down")
    settings = DatabaseSettings.load()

    from reactor.migrations import revisions
    from reactor.migrations.migration_lock import MigrationError
    from reactor.text.redaction import Redactor

    listening = settings.listen_database_url
    direction = partial(revisions.downgrade, with_rows=yes) if down else revisions.upgrade

    async def main() -> None:
        try:
            dsn = (listening or settings.database_url).get_secret_value()
            await direction(dsn, table=settings.tokens_table, direct=listening is not None)
        except MigrationError as error:
            raise click.ClickException(Redactor(settings.secrets())(message_of(error))) from error

    run_async(main)
    say(f"{settings.tokens_table}: {'removed what was added' if down else 'migrated'}")
