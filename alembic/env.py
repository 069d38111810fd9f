"""Alembic's entry: on the connection that `reactor migrate` hands over, else on DATABASE_URL."""

import asyncio
import os

from alembic import context
from alembic.util import CommandError

from reactor import migrations, schema

config = context.config
table = config.attributes.get("table") or os.environ.get("TOKENS_TABLE", "tokens_s0")
home, _, name = table.rpartition(".")


def include(item, _name, kind, _reflected, _compare_to):
    """Look at our tables only: the rest of the database is the host application's."""
    return kind != "table" or item.name in {"authors", "intake", name}


def run(connection):
    """Run the command on a connection."""
    context.configure(
        connection=connection,
        target_metadata=schema.everything(name, home or None),
        version_table_schema="reactor",
        include_schemas=True,
        include_object=include,
        transaction_per_migration=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    raise CommandError("the revisions look at the database they change: run them online")
if (given := config.attributes.get("connection")) is not None:
    run(given)
elif url := os.environ.get("DATABASE_URL"):
    config.attributes["table"] = table
    asyncio.run(migrations.alone(url, run))
else:
    raise CommandError("DATABASE_URL is not set")
