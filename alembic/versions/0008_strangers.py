"""Let a mint be silent only for a worker's lock: the same two functions, which look up whose lock it is."""

from alembic import op

from reactor.migrations.triggers import home

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

FUNCTIONS = ("notify_inserted", "notify_updated")


def upgrade():
    _replace("{function}_v4.sql")


def downgrade():
    _replace("{function}_v3.sql")


def _replace(file):
    for function in FUNCTIONS:
        body = (home("sql") / file.format(function=function)).read_text(encoding="utf-8")
        op.get_bind().exec_driver_sql(body.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
