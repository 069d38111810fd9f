"""Bound what a look at strangers' locks costs a mint, and keep in the gate's row how a refused API token is checked.

`refused_token`: a mark of the API token whose create was refused last; null: it was accepted since. `check_wait`: the
seconds that the fleet then waited, or waits, until a check. `check_at`: when that check is due.
"""

from alembic import op

from reactor.migrations.triggers import home

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

FUNCTIONS = ("notify_inserted", "notify_updated")
COLUMNS = {
    "refused_token": "text",
    "check_wait": "double precision",
    "check_at": "timestamptz",
}


def upgrade():
    _replace("{function}_v5.sql")
    for name, definition in COLUMNS.items():
        op.execute(f"ALTER TABLE reactor.intake ADD COLUMN IF NOT EXISTS {name} {definition}")


def downgrade():
    _replace("{function}_v4.sql")
    for name in reversed(COLUMNS):
        op.execute(f"ALTER TABLE reactor.intake DROP COLUMN IF EXISTS {name}")


def _replace(file):
    for function in FUNCTIONS:
        body = (home("sql") / file.format(function=function)).read_text(encoding="utf-8")
        op.get_bind().exec_driver_sql(body.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
