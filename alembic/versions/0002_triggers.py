"""Ring when tokens appear or change: two functions, two statement triggers."""

import sqlalchemy as sa
from alembic import context, op

from reactor import migrations
from reactor.channels import channel

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TRIGGERS = {
    "reactor_notify_inserted": "AFTER INSERT ON {table} REFERENCING NEW TABLE AS new_rows",
    "reactor_notify_updated": "AFTER UPDATE ON {table} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
}


def upgrade():
    home, name, table = _names()
    channels = ", ".join(_literal(channel(home, name, what)) for what in ("wake", "status"))
    for trigger, when in TRIGGERS.items():
        function = trigger.removeprefix("reactor_")
        op.get_bind().exec_driver_sql((migrations.home("sql") / f"{function}.sql").read_text(encoding="utf-8"))
        op.execute(
            sa.text(
                f"CREATE TRIGGER {trigger} {when.format(table=table)}"
                f" FOR EACH STATEMENT EXECUTE FUNCTION reactor.{function}({channels})".replace(":", r"\:")
            )
        )


def downgrade():
    _, _, table = _names()
    for trigger in TRIGGERS:
        op.execute(f"DROP TRIGGER IF EXISTS {trigger} ON {table}")
        op.execute(f"DROP FUNCTION reactor.{trigger.removeprefix('reactor_')}()")


def _names():
    home, _, name = context.config.attributes["table"].rpartition(".")
    home = home or op.get_bind().scalar(sa.text("SELECT current_schema()"))
    return home, name, ".".join('"' + part.replace('"', '""') + '"' for part in (home, name))


def _literal(words):
    return "'" + words.replace("'", "''") + "'"
