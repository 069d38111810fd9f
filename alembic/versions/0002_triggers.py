"""Ring when tokens appear or change: two functions, two statement triggers."""

from alembic import context, op

from reactor.database.channels import channel
from reactor.database.table import literal, quoted
from reactor.migrations import revisions
from reactor.migrations.triggers import home

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TRIGGERS = {
    "notify_inserted": "AFTER INSERT ON {table} REFERENCING NEW TABLE AS new_rows",
    "notify_updated": "AFTER UPDATE ON {table} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
}


def upgrade():
    connection = op.get_bind()
    schema, name = revisions.place(connection, context.config.attributes["table"])
    channels = ", ".join(literal(channel(schema, name, what)) for what in ("wake", "status"))
    for function, when in TRIGGERS.items():
        connection.exec_driver_sql((home("sql") / f"{function}.sql").read_text(encoding="utf-8"))
        connection.exec_driver_sql(
            f"CREATE TRIGGER reactor_{function} {when.format(table=quoted(schema, name))}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION reactor.{function}({channels})"
        )


def downgrade():
    connection = op.get_bind()
    table = quoted(*revisions.place(connection, context.config.attributes["table"]))
    for function in TRIGGERS:
        op.execute(f"DROP TRIGGER IF EXISTS reactor_{function} ON {table}")
        op.execute(f"DROP FUNCTION IF EXISTS reactor.{function}()")
