"""Index the tokens that wait for their upload by age: otherwise asking for the oldest would read the whole table."""

import hashlib

import sqlalchemy as sa
from alembic import context, op

from reactor.database.table import labels, literal, quoted
from reactor.migrations import migration_lock, revisions

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Building an index waits for older transactions, whatever they do; meanwhile it is in nobody's way.
LOCK_TIMEOUT = "60s"
INDEX = "CREATE INDEX CONCURRENTLY {index} ON {table} (generation_seeded_at) WHERE status = {uploading}"


def upgrade():
    connection = op.get_bind()
    found = revisions.found(connection, context.config.attributes["table"])
    home, name = found["schema"], found["name"]
    index = f"{quoted(home)}.{_index(name)}"
    query = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"
    if not connection.scalar(sa.text(query), {"name": index}):
        _beside_running_writers(
            f"DROP INDEX CONCURRENTLY IF EXISTS {index}",
            INDEX.format(index=_index(name), table=quoted(home, name), uploading=labels(found)["uploading"]),
        )


def downgrade():
    home, name = revisions.place(op.get_bind(), context.config.attributes["table"])
    _beside_running_writers(f"DROP INDEX CONCURRENTLY IF EXISTS {quoted(home)}.{_index(name)}")


def _index(name):
    # As in 0001: the table's name in front, unless that would pass 63 bytes.
    digest = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()[:12]
    return quoted(f"{name if len(name.encode()) <= 36 else f'reactor_{digest}'}_generation_uploads")


def _beside_running_writers(*statements):
    with op.get_context().autocommit_block():
        for statement in (
            f"SET lock_timeout = {literal(LOCK_TIMEOUT)}",
            *statements,
            f"SET lock_timeout = {literal(migration_lock.LOCK_TIMEOUT)}",
        ):
            op.get_bind().exec_driver_sql(statement)
