"""Order retries by due time and key, so that each has a place of its own: a claim can go on after a retry."""

import hashlib

import sqlalchemy as sa
from alembic import context, op

from reactor import migrations, turns
from reactor.table import labels, literal, quoted

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Building an index waits for older transactions, whatever they do; meanwhile it is in nobody's way.
LOCK_TIMEOUT = "60s"
ON = "({columns}) WHERE status = {detected} AND generation_due_at IS NOT NULL"


def upgrade():
    _replace(["generation_due_at", "id"])


def downgrade():
    _replace(["generation_due_at"])


def _replace(columns):
    """Build the index beside the one that is used, then change places; begun again, it goes on where it stopped."""
    connection = op.get_bind()
    found = migrations.found(connection, context.config.attributes["table"])
    if found is None:  # dropped by its owner
        return
    home, name = found["schema"], found["name"]
    index, new = f"{_front(name)}_generation_retries", f"{_front(name)}_generation_retries2"
    if _columns(connection, home, index) == len(columns):
        return
    on = ON.format(columns=", ".join(columns), detected=labels(found)["detected"])
    with op.get_context().autocommit_block():
        _run(f"SET lock_timeout = {literal(LOCK_TIMEOUT)}")
        if _columns(connection, home, new) != len(columns):
            _run(f"DROP INDEX CONCURRENTLY IF EXISTS {quoted(home, new)}")
            _run(f"CREATE INDEX CONCURRENTLY {quoted(new)} ON {quoted(home, name)} {on}")
        _run(f"DROP INDEX CONCURRENTLY IF EXISTS {quoted(home, index)}")
        _run(f"ALTER INDEX {quoted(home, new)} RENAME TO {quoted(index)}")
        _run(f"SET lock_timeout = {literal(turns.LOCK_TIMEOUT)}")


def _columns(connection, home, index):
    """How many columns a valid index has; none where there is no such index."""
    query = "SELECT indnatts FROM pg_index WHERE indexrelid = to_regclass(:name) AND indisvalid"
    return connection.scalar(sa.text(query), {"name": quoted(home, index)})


def _front(name):
    # As in 0001: the table's name, unless that would pass 63 bytes.
    digest = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()[:12]
    return name if len(name.encode()) <= 36 else f"reactor_{digest}"


def _run(statement):
    # As it stands: op.execute would take a colon for a parameter.
    op.get_bind().exec_driver_sql(statement)
