"""Say what opens the gate, and limit the fleet to what the account allows for a while.

`opens_on`: an image, a passed check, or time and an operator alone; null: an accepted create. `limit_interval`: seconds
between creates, until `limited_until`.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

COLUMNS = {
    "opens_on": "text CONSTRAINT intake_opens_on_check CHECK (opens_on IN ('image', 'check', 'time'))",
    "limit_interval": "double precision",
    "limited_until": "timestamptz",
}


def upgrade():
    for name, definition in COLUMNS.items():
        op.execute(f"ALTER TABLE reactor.intake ADD COLUMN IF NOT EXISTS {name} {definition}")


def downgrade():
    for name in reversed(COLUMNS):
        op.execute(f"ALTER TABLE reactor.intake DROP COLUMN IF EXISTS {name}")
