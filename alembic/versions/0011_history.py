"""Make the history of attempts, and the columns of the gate that count a day's purchases.

Columns of the history: `tokens_table` and `key` name the token: its table as schema.name, its primary key as text.
`attempt` counts from 1. `bought_at`: when the create was accepted; of a purchase that a later claim found: when its
seed was written. `images`: the outputs that were paid for; 0: it ended without one; null: it has not ended, as far as
is known. `cost`: of these images.

Columns of the gate: `budget_day`: the UTC day that is counted, which never goes back. `budget_bought`: the creates
accepted on it. `budget_closed`: the gate was closed on it, because they reached the budget.

No claim maintains an index of the history: it has one for a token's story, and one for time. The first is a hash index,
because random keys of 36 characters cost a B-tree three times as much WAL.
"""

from pathlib import Path

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

SQL = Path(__file__).parents[2] / "sql"
INDEXES = {"attempts_key": "USING hash (key)", "attempts_ended_at": "(ended_at)"}
COLUMNS = {
    "budget_day": "date",
    "budget_bought": "bigint NOT NULL DEFAULT 0",
    "budget_closed": "boolean NOT NULL DEFAULT false",
}


def upgrade():
    op.execute((SQL / "attempts.sql").read_text(encoding="utf-8"))
    for name, columns in INDEXES.items():
        op.execute(f"CREATE INDEX IF NOT EXISTS {name} ON reactor.attempts {columns}")
    for name, definition in COLUMNS.items():
        op.execute(f"ALTER TABLE reactor.intake ADD COLUMN IF NOT EXISTS {name} {definition}")


def downgrade():
    for name in COLUMNS:
        op.execute(f"ALTER TABLE IF EXISTS reactor.intake DROP COLUMN IF EXISTS {name}")
    op.execute("DROP TABLE IF EXISTS reactor.attempts")
