"""Alembic's entry. It runs on the connection that `reactor migrate` hands over, or else on DATABASE_URL."""

import asyncio

from alembic import context
from alembic.util import CommandError

from reactor.migrations import revisions, schema
from reactor.migrations.migration_lock import MigrationError, run_alone
from reactor.settings import DatabaseSettings, SettingsError
from reactor.text.foreign import fit_line
from reactor.text.messages import message_of
from reactor.text.redaction import Redactor

config = context.config


def run(connection):
    """Run Alembic's command on a connection."""
    schema_name, name = revisions.place(connection, config.attributes["table"])
    connection.commit()  # Alembic begins its own transaction
    home = schema_name if schema_name != connection.dialect.default_schema_name else None  # as reflection names it

    def ours(item, _name, kind, _reflected, _compare_to):
        """Whether Alembic compares the object: only our tables, because the others are the host application's."""
        tables = {(home, name), (home, "authors"), ("reactor", "intake")}
        return kind != "table" or (item.schema, item.name) in tables

    context.configure(
        connection=connection,
        target_metadata=schema.everything(name, home),
        version_table_schema="reactor",
        include_schemas=True,
        include_object=ours,
        transaction_per_migration=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def run_by_hand():
    """Run the command of `alembic` itself. Its user, too, gets one line for each error."""
    try:
        settings = DatabaseSettings.load()
    except SettingsError as error:
        raise CommandError("\n".join(map(fit_line, error.problems))) from error
    config.attributes["table"] = settings.tokens_table
    direct = settings.listen_database_url
    try:
        asyncio.run(run_alone((direct or settings.database_url).get_secret_value(), run, direct=direct is not None))
    except MigrationError as error:
        raise CommandError(fit_line(Redactor(settings.secrets())(message_of(error)))) from error


if context.is_offline_mode():
    raise CommandError("the revisions look at the database they change: run them online")
if (given := config.attributes.get("connection")) is not None:
    run(given)
else:
    run_by_hand()
