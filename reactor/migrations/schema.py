"""The tables after all revisions, in SQLAlchemy's terms.

Imported by Alembic, which compares, and by tests. The revisions have their own DDL, and the worker sends plain SQL.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    Uuid,
    func,
    text,
)

from reactor.database.names import front, index_name, literal

NAMES: dict[str, Any] = {
    "front": lambda _constraint, table: front(table.name),
    "pk": "%(front)s_pkey",
    "uq": "%(front)s_%(column_0_name)s_key",
    "fk": "%(front)s_%(column_0_name)s_fkey",
    "ck": "%(front)s_%(constraint_name)s_check",
}
MARK = "made by reactor"  # the comment on tables that a downgrade may remove
RAISABLE = "generation_epoch < 9223372036854775807"  # an epoch that a claim can raise
STORAGE = {
    "fillfactor": 75,
    "autovacuum_vacuum_scale_factor": 0.01,
    "autovacuum_vacuum_threshold": 500,
    "autovacuum_analyze_scale_factor": 0.02,
    "autovacuum_vacuum_cost_delay": 0,
    "vacuum_index_cleanup": "on",
}
HISTORY_STORAGE = {
    "autovacuum_vacuum_scale_factor": 0.02,
    "autovacuum_vacuum_threshold": 1000,
    "autovacuum_vacuum_cost_delay": 0,
}
OUTCOMES = ("succeeded", "retry", "failed", "released", "rejected", "rescued", "lost", "expired")  # of an attempt


def authors(metadata: MetaData, schema: str | None = None) -> Table:
    """The minters, each with the prompt for its images."""
    return Table(
        "authors",
        metadata,
        Column("id", Uuid, primary_key=True, server_default=text("gen_random_uuid()")),
        Column("wallet_address", String(42), unique=True),
        Column("prompt_text", Text),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        schema=schema,
        comment=MARK,
    )


def generation_columns() -> list[Column[object]]:
    """Our columns, which are added to an existing table too."""
    return [
        Column("image_url", Text),
        Column("generation_attempts", Integer, nullable=False, server_default=text("0")),
        Column("generation_error", Text),
        Column("generation_due_at", DateTime(timezone=True)),
        Column("generation_lease_ends_at", DateTime(timezone=True)),
        Column("generation_epoch", BigInteger, nullable=False, server_default=text("0")),
        Column("generation_worker", BigInteger),
        Column("generation_seed", Integer),
        Column("generation_seeded_at", DateTime(timezone=True)),
        Column("generation_prediction_id", Text),
        Column("generation_censored", Boolean, nullable=False, server_default=text("false")),
        Column("generation_rescues", Integer, nullable=False, server_default=text("0")),
    ]


def claim_indexes(table: str) -> list[Index]:
    """The indexes of claims, rescues and `retry --failed`. None mentions the lease, so that renewals stay HOT."""
    indexes = {
        "fresh": (["mint_timestamp", "id"], f"status = 'detected' AND generation_due_at IS NULL AND {RAISABLE}"),
        "retries": (
            ["generation_due_at", "id"],
            f"status = 'detected' AND generation_due_at IS NOT NULL AND {RAISABLE}",
        ),
        "held": (["id"], "status = 'generating'"),
        "failed": (["token_id"], "status = 'failed'"),
    }
    return [
        Index(index_name(table, name), *columns, postgresql_where=text(predicate))
        for name, (columns, predicate) in indexes.items()
    ]


def uploads_index(table: str) -> Index:
    """The index that shows how long an image waits for the next stage. It holds only the tokens that wait."""
    return Index(
        index_name(table, "uploads"),
        "generation_seeded_at",
        postgresql_where=text("status = 'uploading'"),
    )


def tokens(metadata: MetaData, name: str = "tokens_s0", schema: str | None = None) -> Table:
    """The domain table, which is the queue."""
    home = f"{schema}." if schema else ""
    return Table(
        name,
        metadata,
        Column("id", Uuid, primary_key=True, server_default=text("gen_random_uuid()")),
        Column("token_id", BigInteger, Identity(always=False), nullable=False, unique=True),
        Column("author_id", Uuid, ForeignKey(f"{home}authors.id")),
        Column("status", Text, nullable=False, server_default=text("'detected'")),
        Column("mint_timestamp", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        *generation_columns(),
        CheckConstraint(
            "status IN ('detected', 'generating', 'uploading', 'ready', 'revealed', 'failed')", name="status"
        ),
        CheckConstraint("status <> 'uploading' OR image_url IS NOT NULL", name="uploading_has_image"),
        CheckConstraint("generation_attempts >= 0", name="generation_attempts"),
        CheckConstraint("char_length(generation_error) <= 1000", name="generation_error"),
        CheckConstraint("generation_seed >= 0", name="generation_seed"),
        *claim_indexes(name),
        uploads_index(name),
        schema=schema,
        comment=MARK,
        postgresql_with=STORAGE,
    )


def intake(metadata: MetaData) -> Table:
    """The gate's one row."""
    return Table(
        "intake",
        metadata,
        Column("id", Boolean, primary_key=True, server_default=text("true")),
        Column("paused_until", DateTime(timezone=True)),
        Column("pause_seconds", Double, nullable=False, server_default=text("0")),
        Column("reason", Text),
        Column("arrival_at", DateTime(timezone=True)),
        Column("opens_on", Text),
        Column("limit_interval", Double),
        Column("limited_until", DateTime(timezone=True)),
        Column("refused_token", Text),
        Column("check_wait", Double),
        Column("check_at", DateTime(timezone=True)),
        Column("serves_from", Text, nullable=False, server_default=text("'0009'")),
        Column("budget_day", Date),
        Column("budget_bought", BigInteger, nullable=False, server_default=text("0")),
        Column("budget_closed", Boolean, nullable=False, server_default=text("false")),
        CheckConstraint("id", name="one_row"),
        CheckConstraint("opens_on IN ('image', 'check', 'time')", name="opens_on"),
        schema="reactor",
    )


def attempts(metadata: MetaData) -> Table:
    """The history: what each attempt and each purchase came to."""
    table = Table(
        "attempts",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("tokens_table", Text, nullable=False),
        Column("key", Text, nullable=False),
        Column("token_id", Numeric),
        Column("epoch", BigInteger, nullable=False),
        Column("worker", BigInteger),
        Column("attempt", Integer),
        Column("censored", Boolean, nullable=False, server_default=text("false")),
        *(Column(name, DateTime(timezone=True)) for name in ("claimed_at", "bought_at")),
        Column("ended_at", DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()")),
        Column("outcome", Text, nullable=False),
        *(Column(name, Text) for name in ("error_type", "error", "model")),
        Column("seed", Integer),
        Column("prediction_id", Text),
        Column("predict_seconds", Double),
        Column("images", Integer),
        Column("cost", Numeric),
        Column("web_url", Text),
        CheckConstraint(f"outcome IN ({', '.join(map(literal, OUTCOMES))})", name="outcome"),
        schema="reactor",
        postgresql_with=HISTORY_STORAGE,
    )
    Index("attempts_key", table.c.key, postgresql_using="hash")
    Index("attempts_ended_at", table.c.ended_at)
    return table


def everything(name: str = "tokens_s0", schema: str | None = None) -> MetaData:
    """All tables of a database that the migrations made from nothing."""
    metadata = MetaData(naming_convention=NAMES)
    authors(metadata, schema)
    tokens(metadata, name, schema)
    intake(metadata)
    attempts(metadata)
    return metadata
