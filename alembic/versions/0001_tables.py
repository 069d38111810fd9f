"""Create authors and tokens, or complete those that are there; add the intake and the indexes."""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.schema import CreateColumn, CreateTable

from reactor import schema

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade():
    connection = op.get_bind()
    metadata = sa.MetaData(naming_convention=schema.NAMES)
    intake = schema.intake(metadata)
    op.execute(CreateTable(intake))
    op.execute(intake.insert())
    home, name = _names(connection)
    authors = schema.authors(metadata, home)
    if not _exists(connection, home, "authors"):
        op.execute(CreateTable(authors))
        _mark(f"TABLE {_quoted(home, 'authors')}")
    tokens = schema.tokens(metadata, name, home)
    if _exists(connection, home, name):
        _complete(connection, home, name)
    else:
        _create(connection, tokens)


def downgrade():
    connection = op.get_bind()
    home, name = _names(connection)
    for table in (name, "authors"):
        if _marked(connection, home, table):
            op.execute(f"DROP TABLE {_quoted(home, table)}")
    if _exists(connection, home, name):
        with op.get_context().autocommit_block():
            for index in schema.claim_indexes(name):
                op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {_quoted(home, index.name)}")
        added = [column for column in _columns(connection, home, name) if _marked(connection, home, name, column)]
        if added:
            drops = ", ".join(f"DROP COLUMN {_quoted(column)}" for column in added)
            op.execute(f"ALTER TABLE {_quoted(home, name)} {drops}")
    op.execute("DROP TABLE reactor.intake")


def _create(connection, tokens):
    op.execute(CreateTable(tokens))
    table = _quoted(tokens.schema, tokens.name)
    settings = ", ".join(f"{setting} = {value}" for setting, value in schema.STORAGE.items())
    op.execute(f"ALTER TABLE {table} SET ({settings})")
    for index in tokens.indexes:
        index.create(connection)
    _mark(f"TABLE {table}")


def _complete(connection, home, name):
    """Add what is missing to the host application's table, in one short lock; its own columns are not touched."""
    there = _columns(connection, home, name)
    missing = [column for column in schema.generation_columns() if column.name not in there]
    scratch = sa.Table(name, sa.MetaData(), *missing, schema=home)
    if missing:
        clauses = [f"ADD COLUMN {CreateColumn(column).compile(connection)}" for column in scratch.columns]
        op.execute(f"ALTER TABLE {_quoted(home, name)} {', '.join(clauses)}")
    for column in missing:
        _mark(f"COLUMN {_quoted(home, name, column.name)}")
    labels = _labels(connection, home, name)
    table = sa.Table(name, sa.MetaData(), autoload_with=connection, schema=home)
    with op.get_context().autocommit_block():
        for index in schema.claim_indexes(name, **labels):
            _build(connection, table, index)


def _build(connection, table, index):
    """Build an index beside running writers; one that an interrupted migration left invalid is dropped first."""
    valid = connection.scalar(
        sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"),
        {"name": _quoted(table.schema, index.name)},
    )
    if valid is False:
        op.execute(f"DROP INDEX CONCURRENTLY {_quoted(table.schema, index.name)}")
    if not valid:
        columns = ", ".join(_quoted(str(column)) for column in index._pending_colargs)  # noqa: SLF001
        predicate = index.dialect_options["postgresql"]["where"]
        op.execute(
            f"CREATE INDEX CONCURRENTLY {_quoted(index.name)} "
            f"ON {_quoted(table.schema, table.name)} ({columns}) WHERE {predicate}"
        )


def _labels(connection, home, name):
    """The status labels as SQL literals: an enum's are cast, whatever their case."""
    rows = connection.execute(
        sa.text(
            "SELECT enumlabel, format_type(atttypid, NULL) FROM pg_attribute JOIN pg_enum ON enumtypid = atttypid"
            " WHERE attrelid = to_regclass(:table) AND attname = 'status' AND lower(enumlabel) = ANY (:labels)"
        ),
        {"table": _quoted(home, name), "labels": ["detected", "generating"]},
    )
    return {label.lower(): f"'{label}'::{kind}" for label, kind in rows}


def _names(connection):
    table = context.config.attributes["table"]
    home, _, name = table.rpartition(".")
    return home or connection.scalar(sa.text("SELECT current_schema()")), name


def _exists(connection, *names):
    return connection.scalar(sa.text("SELECT to_regclass(:name) IS NOT NULL"), {"name": _quoted(*names)})


def _columns(connection, home, name):
    query = "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(:name) AND attnum > 0 AND NOT attisdropped"
    return connection.scalars(sa.text(query), {"name": _quoted(home, name)}).all()


def _mark(what):
    op.execute(f"COMMENT ON {what} IS '{schema.MARK}'")


def _marked(connection, home, name, column=None):
    query = (
        "SELECT coalesce((SELECT description = :mark FROM pg_description WHERE objoid = to_regclass(:name)"
        " AND classoid = 'pg_class'::regclass AND objsubid = coalesce("
        "(SELECT attnum FROM pg_attribute WHERE attrelid = to_regclass(:name) AND attname = :column), 0)), false)"
    )
    values = {"mark": schema.MARK, "name": _quoted(home, name), "column": column}
    return connection.scalar(sa.text(query), values)


def _quoted(*names):
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)
