"""Let a claim go on after a retry, and keep out of its way what it could never take.

Retries are ordered by due time and key, so that each has a place of its own. A token whose epoch is at its end, which
whoever inserts a row may write, is in neither index of waiting tokens.
"""

import hashlib

import sqlalchemy as sa
from alembic import context, op

from reactor.database.table import labels, literal, quoted
from reactor.migrations import migration_lock, revisions

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Building an index waits for older transactions, whatever they do; meanwhile it is in nobody's way.
LOCK_TIMEOUT = "60s"
WAITING = "WHERE status = {detected} AND generation_due_at IS"
BEFORE = {
    "fresh": f"(mint_timestamp, id) {WAITING} NULL",
    "retries": f"(generation_due_at) {WAITING} NOT NULL",
}
AFTER = {
    "fresh": f"{BEFORE['fresh']} AND generation_epoch < 9223372036854775807",
    "retries": f"(generation_due_at, id) {WAITING} NOT NULL AND generation_epoch < 9223372036854775807",
}


def upgrade():
    _replace(AFTER)


def downgrade():
    _replace(BEFORE)


def _replace(indexes):
    """Build each index beside the one that is used, then change places; begun again, it goes on where it stopped."""
    connection = op.get_bind()
    found = revisions.found(connection, context.config.attributes["table"])
    if found is None:  # dropped by its owner
        return
    home, name = found["schema"], found["name"]
    with op.get_context().autocommit_block():
        _run(f"SET lock_timeout = {literal(LOCK_TIMEOUT)}")
        for index, on in indexes.items():
            there, new = (f"{_front(name)}_generation_{index}{end}" for end in ("", "2"))
            if _is_like(connection, home, there, on):
                continue
            if not _is_like(connection, home, new, on):
                _run(f"DROP INDEX CONCURRENTLY IF EXISTS {quoted(home, new)}")
                on_it = on.format(detected=labels(found)["detected"])
                _run(f"CREATE INDEX CONCURRENTLY {quoted(new)} ON {quoted(home, name)} {on_it}")
            _run(f"DROP INDEX CONCURRENTLY IF EXISTS {quoted(home, there)}")
            _run(f"ALTER INDEX {quoted(home, new)} RENAME TO {quoted(there)}")
        _run(f"SET lock_timeout = {literal(migration_lock.LOCK_TIMEOUT)}")


def _is_like(connection, home, index, on):
    """Whether there is such a valid index, with as many columns, and the epoch in its predicate if it belongs there."""
    query = (
        "SELECT indnatts, pg_get_expr(indpred, indrelid) FROM pg_index"
        " WHERE indexrelid = to_regclass(:name) AND indisvalid"
    )
    row = connection.execute(sa.text(query), {"name": quoted(home, index)}).one_or_none()
    columns = on.partition(")")[0].count(",") + 1
    return row is not None and (row[0], "epoch" in row[1]) == (columns, "epoch" in on)


def _front(name):
    # As in 0001: the table's name, unless that would pass 63 bytes.
    digest = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()[:12]
    return name if len(name.encode()) <= 36 else f"reactor_{digest}"


def _run(statement):
    # As it stands: op.execute would take a colon for a parameter.
    op.get_bind().exec_driver_sql(statement)
