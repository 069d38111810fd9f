"""Alembic's entry. It runs on the connection that `reactor migrate` hands over, or else on DATABASE_URL.

The revisions make only what all tokens tables share. What one table needs is made by `reactor migrate`, also after
`alembic upgrade head` by hand.
"""

import asyncio

from alembic import context
from alembic.util import CommandError
from sqlalchemy import text

from reactor.migrations import schema
from reactor.migrations.migration_lock import MigrationError, run_alone
from reactor.migrations.survey import found
from reactor.settings import DatabaseSettings, SettingsError
from reactor.text.foreign import fit_line
from reactor.text.messages import message_of

config = context.config


def run(connection):
    """Run Alembic's command on a connection."""
    wanted = config.attributes["table"]
    schema_name, name = found(connection, wanted) or ("public", wanted)
    if connection.scalar(text("SELECT to_regnamespace('reactor') IS NULL")):
        connection.execute(text("CREATE SCHEMA reactor"))  # Alembic looks into it for its version table
    connection.commit()  # Alembic begins its own transaction
    home = schema_name if schema_name != connection.dialect.default_schema_name else None  # as reflection names it

    def ours(item, _name, kind, _reflected, _compare_to):
        """Whether Alembic compares the object: only our tables, because the others are the host application's."""
        tables = {(home, name), (home, "authors"), ("reactor", "intake"), ("reactor", "attempts")}
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


def show():
    """Write the statements down instead of running them, each to be run in a transaction of its own."""
    context.configure(
        dialect_name="postgresql",
        dialect_opts={"paramstyle": "named"},
        version_table_schema="reactor",
        transactional_ddl=False,
        literal_binds=True,
    )
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
        asyncio.run(run_alone(settings.listening, run, direct=direct is not None))
    except MigrationError as error:
        raise CommandError(fit_line(settings.redact(message_of(error)))) from error


if context.is_offline_mode():
    show()
elif (given := config.attributes.get("connection")) is not None:
    run(given)
else:
    run_by_hand()
