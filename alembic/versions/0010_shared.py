"""Make what all tokens tables share: the gate, and the functions that their triggers call.

What one tokens table needs is no revision's: `reactor migrate` compares the table with what it should have, and makes
what is missing. A revision imports nothing of reactor, so that it stays as it is when code is renamed. Each can be
repeated, so that `migrate` can run them again if something that they made is gone.

Columns of the gate: `opens_on` says what opens it: an image, a passed check, or time and an operator alone; null: an
accepted create. `limit_interval`: seconds between creates, until `limited_until`. `refused_token`: a mark of the API
token whose create was refused last. `check_wait`: the seconds that the fleet waits until a check. `check_at`: when that
check is due. `serves_from`: the oldest revision whose workers this database still serves.
"""

from pathlib import Path

from alembic import op

revision = "0010"
down_revision = None
branch_labels = None
depends_on = None

SQL = Path(__file__).parents[2] / "sql"
FUNCTIONS = ("notify_inserted", "notify_updated")
# Added to a gate that an older version made.
COLUMNS = {
    "opens_on": "text CONSTRAINT intake_opens_on_check CHECK (opens_on IN ('image', 'check', 'time'))",
    "limit_interval": "double precision",
    "limited_until": "timestamptz",
    "refused_token": "text",
    "check_wait": "double precision",
    "check_at": "timestamptz",
    "serves_from": "text NOT NULL DEFAULT '0009'",
}


def upgrade():
    for name in ("intake", *FUNCTIONS):
        op.execute((SQL / f"{name}.sql").read_text(encoding="utf-8"))
    for name, definition in COLUMNS.items():
        op.execute(f"ALTER TABLE reactor.intake ADD COLUMN IF NOT EXISTS {name} {definition}")
    op.execute("INSERT INTO reactor.intake DEFAULT VALUES ON CONFLICT DO NOTHING")


def downgrade():
    for name in FUNCTIONS:
        op.execute(f"DROP FUNCTION IF EXISTS reactor.{name}()")
    op.execute("DROP TABLE IF EXISTS reactor.intake")
