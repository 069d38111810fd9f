"""Create authors and tokens, or complete those that are there; add the intake and the indexes.

Every step can be repeated: building an index beside running writers ends the transaction, so a migration that is
interrupted afterwards begins again with the first half done. Once applied, all of this is frozen: what schema.py gains
later is another revision's.
"""

import hashlib
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import context, op

from reactor.database.table import labels, literal, quoted
from reactor.migrations import migration_lock, revisions
from reactor.migrations.triggers import home as folder

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Building an index waits for older transactions, whatever they do; meanwhile it is in nobody's way.
INDEX_LOCK_TIMEOUT = "60s"
LONGEST_FRONT = 36  # bytes; the longest that is put behind it has 27
MARK = "made by reactor"  # the comment on tables and columns that a downgrade may remove
NEEDED = ("id", "token_id", "author_id", "status", "mint_timestamp", "created_at")  # of a table that is there already
NEEDED_OF_AUTHORS = ("id", "prompt_text")
COLUMNS = {
    "image_url": "text",
    "generation_attempts": "integer NOT NULL DEFAULT 0",
    "generation_error": "text",
    "generation_due_at": "timestamptz",
    "generation_lease_ends_at": "timestamptz",
    "generation_epoch": "bigint NOT NULL DEFAULT 0",
    "generation_worker": "bigint",
    "generation_seed": "integer",
    "generation_seeded_at": "timestamptz",
    "generation_prediction_id": "text",
    "generation_censored": "boolean NOT NULL DEFAULT false",
    "generation_rescues": "integer NOT NULL DEFAULT 0",
}
INDEXES = {
    "fresh": "(mint_timestamp, id) WHERE status = {detected} AND generation_due_at IS NULL",
    "retries": "(generation_due_at) WHERE status = {detected} AND generation_due_at IS NOT NULL",
    "held": "(id) WHERE status = {generating}",
}
PLAIN = {"detected": "'detected'", "generating": "'generating'"}  # the labels of a table that we make


def upgrade():
    connection = op.get_bind()
    wanted = context.config.attributes["table"]
    found = revisions.found(connection, wanted)
    home, name = revisions.place(connection, wanted)
    revisions.refuse_strange_authors(connection, home, name)
    _run(_file("intake"))
    _run("INSERT INTO reactor.intake (id) VALUES (true) ON CONFLICT DO NOTHING")
    if not _columns(connection, home, "authors"):
        _run(_file("authors").format(authors=quoted(home, "authors")))
        _mark(f"TABLE {quoted(home, 'authors')}")
    _refuse_if_unfit(connection, home, "authors", needed=NEEDED_OF_AUTHORS)
    if found is None:
        _create(home, name)
    else:
        _complete(connection, home, name, labels(found))


def downgrade():
    connection = op.get_bind()
    wanted = context.config.attributes["table"]
    home, name = revisions.place(connection, wanted)
    ours = ", ".join(quoted(*names) for names in revisions.made(connection, wanted))
    if ours:
        _run(f"LOCK TABLE {ours} IN ACCESS EXCLUSIVE MODE")  # a mint that came meanwhile counts
        revisions.refuse_to_lose_rows(connection, context.config)
        _run(f"DROP TABLE {ours}")
    if _columns(connection, home, name):
        _strip(connection, home, name)
    _run("DROP TABLE reactor.intake")


def _create(home, name):
    table, columns = quoted(home, name), ",\n  ".join(map(" ".join, COLUMNS.items()))
    names = {"table": table, "authors": quoted(home, "authors"), "front": _front(name)}
    _run(_file("tokens").format(**names, columns=columns))
    _mark(f"TABLE {table}")
    for index, on in INDEXES.items():
        _run(f"CREATE INDEX {_index(name, index)} ON {table} {on.format(**PLAIN)}")


def _complete(connection, home, name, status):
    """Add what is missing to the host application's table, in one short lock; its own columns are not touched."""
    _refuse_if_unfit(connection, home, name, needed=NEEDED)
    there = _columns(connection, home, name)
    missing = [column for column in COLUMNS if column not in there]
    if missing:
        added = ", ".join(f"ADD COLUMN {column} {COLUMNS[column]}" for column in missing)
        _run(f"ALTER TABLE {quoted(home, name)} {added}")
    for column in missing:
        _mark(f"COLUMN {quoted(home, name, column)}")
    with _beside_running_writers():
        for index, on in INDEXES.items():
            _build(connection, home, name, index, on.format(**status))


def _build(connection, home, name, index, on):
    """Build an index; one that an interrupted migration left invalid is dropped first."""
    there = f"{quoted(home)}.{_index(name, index)}"
    query = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"
    valid = connection.scalar(sa.text(query), {"name": there})
    if valid is False:
        _run(f"DROP INDEX CONCURRENTLY {there}")
    if not valid:
        _run(f"CREATE INDEX CONCURRENTLY {_index(name, index)} ON {quoted(home, name)} {on}")


def _strip(connection, home, name):
    """Remove what was added to the host application's table."""
    with _beside_running_writers():
        for index in INDEXES:
            _run(f"DROP INDEX CONCURRENTLY IF EXISTS {quoted(home)}.{_index(name, index)}")
    added = [column for column, comment in _columns(connection, home, name).items() if comment == MARK]
    if added:
        drops = ", ".join(f"DROP COLUMN {quoted(column)}" for column in added)
        _run(f"ALTER TABLE {quoted(home, name)} {drops}")


@contextmanager
def _beside_running_writers():
    """Commit what was done, and go on without a transaction, as CONCURRENTLY asks for."""
    with op.get_context().autocommit_block():
        _run(f"SET lock_timeout = {literal(INDEX_LOCK_TIMEOUT)}")
        yield
        _run(f"SET lock_timeout = {literal(migration_lock.LOCK_TIMEOUT)}")


def _refuse_if_unfit(connection, home, table, *, needed):
    if missing := [column for column in needed if column not in _columns(connection, home, table)]:
        raise migration_lock.MigrationError(f"{home}.{table} has no column {', '.join(missing)}")


def _columns(connection, home, name):
    """The table's columns, each with its comment; none where there is no such table."""
    query = (
        "SELECT attname, col_description(attrelid, attnum) FROM pg_attribute"
        " WHERE attrelid = to_regclass(:name) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    )
    return dict(connection.execute(sa.text(query), {"name": quoted(home, name)}).all())


def _index(name, index):
    return quoted(f"{_front(name)}_generation_{index}")


def _front(name):
    """What the names of indexes and constraints begin with: the table's, unless they would pass 63 bytes."""
    if len(name.encode()) <= LONGEST_FRONT:
        return name
    return f"reactor_{hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()[:12]}"


def _mark(what):
    _run(f"COMMENT ON {what} IS {literal(MARK)}")


def _file(name):
    return (folder("sql") / f"{name}.sql").read_text(encoding="utf-8")


def _run(statement):
    # As it stands: op.execute would take a colon for a parameter.
    op.get_bind().exec_driver_sql(statement)
