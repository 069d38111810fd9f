"""Repairs the wake triggers after somebody dropped or disabled them, or renamed the table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text

from reactor.database.channels import channel
from reactor.database.table import literal, plain_query, quoted

if TYPE_CHECKING:
    from sqlalchemy import Connection, RowMapping

_HERE = Path(__file__).parents[1]
# As the newest revision makes them: function → when it is called.
_TRIGGERS = {
    "notify_inserted": "AFTER INSERT ON {table} REFERENCING NEW TABLE AS new_rows",
    "notify_updated": "AFTER UPDATE ON {table} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
}
# ALWAYS stays. REPLICA rings in replicating sessions only; ALWAYS rings in these and in all others.
_ENABLE = {"D": "ENABLE TRIGGER", "R": "ENABLE ALWAYS TRIGGER"}


def home(folder: str) -> Path:
    """Where `alembic` and `sql` are: inside the installed package, else at the top of the checkout."""
    inside = _HERE / folder
    return inside if inside.is_dir() else _HERE.parent / folder


def repair(connection: Connection, schema: str, name: str) -> None:
    """Make triggers that are missing, enable those that are disabled. If all is well, nothing is locked or written."""
    table = quoted(schema, name)
    channels = [channel(schema, name, what) for what in ("wake", "status")]
    rung = "".join(f"{each}," for each in channels)
    there: dict[str, RowMapping] = {
        row["function"]: row
        for row in connection.exec_driver_sql(plain_query("triggers"), (table, rung)).mappings().all()
    }
    for function, when in _TRIGGERS.items():
        trigger = there.get(function)
        if trigger is not None and not trigger["rings"]:
            connection.exec_driver_sql(f"DROP TRIGGER {quoted(trigger['name'])} ON {table}")
            trigger = None
        if trigger is None:
            _make(connection, function, f"{when.format(table=table)} FOR EACH STATEMENT", channels)
        elif enable := _ENABLE.get(trigger["enabled"]):
            connection.exec_driver_sql(f"ALTER TABLE {table} {enable} {quoted(trigger['name'])}")


def _make(connection: Connection, function: str, when: str, channels: list[str]) -> None:
    if connection.scalar(text("SELECT to_regproc(:name) IS NULL"), {"name": f"reactor.{function}"}):
        connection.exec_driver_sql((home("sql") / f"{function}_v5.sql").read_text(encoding="utf-8"))
    rung = ", ".join(map(literal, channels))
    connection.exec_driver_sql(f"CREATE TRIGGER reactor_{function} {when} EXECUTE FUNCTION reactor.{function}({rung})")
