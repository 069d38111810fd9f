"""Create authors and tokens, or complete those that are there; add the intake and the indexes.

Every step can be repeated: building an index beside running writers ends the transaction, so a migration that is
interrupted afterwards begins again with the first half done.
"""

from contextlib import contextmanager

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.schema import CreateColumn, CreateIndex

from reactor import migrations, schema, turns
from reactor.table import labels, literal, quoted

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Building an index waits for older transactions, whatever they do; meanwhile it is in nobody's way.
INDEX_LOCK_TIMEOUT = "60s"


def upgrade():
    connection = op.get_bind()
    wanted = context.config.attributes["table"]
    found = migrations.found(connection, wanted)
    home, name = migrations.place(connection, wanted)
    metadata = sa.MetaData(naming_convention=schema.NAMES)
    intake = schema.intake(metadata)
    intake.create(connection, checkfirst=True)
    op.execute(insert(intake).on_conflict_do_nothing())
    authors = schema.authors(metadata, home)
    if not _columns(connection, home, "authors"):
        authors.create(connection, checkfirst=False)
    _refuse_if_unfit(connection, home, "authors", needed=schema.NEEDED_OF_AUTHORS)
    if found is None:
        schema.tokens(metadata, name, home).create(connection, checkfirst=False)
    else:
        _complete(connection, home, name, labels(found))


def downgrade():
    connection = op.get_bind()
    home, name = migrations.place(connection, context.config.attributes["table"])
    for table in (name, "authors"):
        if _comment(connection, home, table) == schema.MARK:
            op.execute(f"DROP TABLE {quoted(home, table)}")
    if _columns(connection, home, name):
        _strip(connection, home, name)
    op.execute("DROP TABLE reactor.intake")


def _complete(connection, home, name, status):
    """Add what is missing to the host application's table, in one short lock; its own columns are not touched."""
    _refuse_if_unfit(connection, home, name, needed=schema.NEEDED)
    missing = [column for column in schema.generation_columns() if column.name not in _columns(connection, home, name)]
    if missing:
        scratch = sa.Table(name, sa.MetaData(), *missing, schema=home)
        clauses = [f"ADD COLUMN {CreateColumn(column).compile(connection)}" for column in scratch.columns]
        op.execute(f"ALTER TABLE {quoted(home, name)} {', '.join(clauses)}")
    for column in missing:
        op.execute(f"COMMENT ON COLUMN {quoted(home, name, column.name)} IS {literal(schema.MARK)}")
    keys = [sa.Column(column) for column in ("mint_timestamp", "id", "generation_due_at")]
    indexes = schema.claim_indexes(name, status["detected"], status["generating"], concurrently=True)
    sa.Table(name, sa.MetaData(), *keys, *indexes, schema=home)
    with _beside_running_writers():
        for index in indexes:
            _build(connection, home, index)


def _build(connection, home, index):
    """Build an index; one that an interrupted migration left invalid is dropped first."""
    valid = connection.scalar(
        sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"),
        {"name": quoted(home, index.name)},
    )
    if valid is False:
        op.execute(f"DROP INDEX CONCURRENTLY {quoted(home, index.name)}")
    if not valid:
        op.execute(CreateIndex(index))


def _strip(connection, home, name):
    """Remove what was added to the host application's table."""
    with _beside_running_writers():
        for index in schema.claim_indexes(name):
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {quoted(home, index.name)}")
    added = [column for column, comment in _columns(connection, home, name).items() if comment == schema.MARK]
    if added:
        drops = ", ".join(f"DROP COLUMN {quoted(column)}" for column in added)
        op.execute(f"ALTER TABLE {quoted(home, name)} {drops}")


@contextmanager
def _beside_running_writers():
    """Commit what was done, and go on without a transaction, as CONCURRENTLY asks for."""
    with op.get_context().autocommit_block():
        op.execute(f"SET lock_timeout = {literal(INDEX_LOCK_TIMEOUT)}")
        yield
        op.execute(f"SET lock_timeout = {literal(turns.LOCK_TIMEOUT)}")


def _refuse_if_unfit(connection, home, table, *, needed):
    if missing := [column for column in needed if column not in _columns(connection, home, table)]:
        raise turns.MigrationError(f"{home}.{table} has no column {', '.join(missing)}")


def _columns(connection, home, name):
    """The table's columns, each with its comment; none where there is no such table."""
    query = (
        "SELECT attname, col_description(attrelid, attnum) FROM pg_attribute"
        " WHERE attrelid = to_regclass(:name) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    )
    return dict(connection.execute(sa.text(query), {"name": quoted(home, name)}).all())


def _comment(connection, home, name):
    query = "SELECT obj_description(to_regclass(:name), 'pg_class')"
    return connection.scalar(sa.text(query), {"name": quoted(home, name)})
