"""Index the tokens that wait for their upload by age: otherwise asking for the oldest would read the whole table."""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.schema import CreateIndex

from reactor import migrations, schema, turns
from reactor.table import labels, literal, quoted

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Building an index waits for older transactions, whatever they do; meanwhile it is in nobody's way.
LOCK_TIMEOUT = "60s"


def upgrade():
    connection = op.get_bind()
    wanted = context.config.attributes["table"]
    found = migrations.found(connection, wanted)
    index = schema.uploads_index(found["name"], labels(found)["uploading"], concurrently=True)
    sa.Table(found["name"], sa.MetaData(), sa.Column("generation_seeded_at"), index, schema=found["schema"])
    name = quoted(found["schema"], index.name)
    valid = connection.scalar(
        sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"), {"name": name}
    )
    if not valid:  # a table that 0001 made has it from the beginning
        _beside_running_writers(f"DROP INDEX CONCURRENTLY IF EXISTS {name}", CreateIndex(index))


def downgrade():
    home, name = migrations.place(op.get_bind(), context.config.attributes["table"])
    index = schema.uploads_index(name)
    _beside_running_writers(f"DROP INDEX CONCURRENTLY IF EXISTS {quoted(home, index.name)}")


def _beside_running_writers(*statements):
    with op.get_context().autocommit_block():
        op.execute(f"SET lock_timeout = {literal(LOCK_TIMEOUT)}")
        for statement in statements:
            op.execute(statement)
        op.execute(f"SET lock_timeout = {literal(turns.LOCK_TIMEOUT)}")
