"""The privileges that a worker's role needs: this list is the only one, for claims, `doctor`, and the roles in sql/.

A token that is claimed has to be settled, and a gate that is needed has to close. So a role that lacks any of these
claims nothing. A claim needs most of them itself, so PostgreSQL refuses it if one is missing. Others are needed only by
later statements: the claim asks for these (see `permitted`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reactor.database.names import literal, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# The columns of a tokens table that a worker writes.
WRITTEN = (
    "status",
    "image_url",
    "generation_attempts",
    "generation_error",
    "generation_due_at",
    "generation_lease_ends_at",
    "generation_epoch",
    "generation_worker",
    "generation_seed",
    "generation_seeded_at",
    "generation_prediction_id",
    "generation_censored",
    "generation_rescues",
)
GATE = (
    "paused_until",
    "pause_seconds",
    "reason",
    "arrival_at",
    "opens_on",
    "limit_interval",
    "limited_until",
    "refused_token",
    "check_wait",
    "check_at",
    "budget_day",
    "budget_bought",
    "budget_closed",
)
HISTORY = ("SELECT", "INSERT", "DELETE")  # of reactor.attempts
FUNCTIONS = ("pg_notify(text, text)", "pg_notification_queue_usage()")
# What a claim itself needs of all these.
_CLAIM_READS = {*WRITTEN} - {"image_url", "generation_worker", "generation_lease_ends_at"}
_CLAIM_WRITES = {*WRITTEN} - {"image_url"}
_CLAIM_READS_OF_GATE = {
    "paused_until",
    "pause_seconds",
    "arrival_at",
    "opens_on",
    "limit_interval",
    "limited_until",
}
_CLAIM_WRITES_OF_GATE = {"paused_until", "arrival_at"}


@dataclass(frozen=True, slots=True)
class Privilege:
    """A privilege on a schema, on a table or one of its columns, or on a function of PostgreSQL."""

    name: str  # USAGE, SELECT, INSERT, UPDATE, DELETE or EXECUTE
    schema: str
    object: str | None = None  # a table; or a function, with the types of its arguments
    column: str | None = None
    later: bool = field(default=False, compare=False)  # a claim does not need it, but what comes after it may

    @property
    def condition(self) -> str:
        """Whether our role has it, as SQL."""
        if self.object is None:
            return f"has_schema_privilege({literal(self.schema)}, {literal(self.name)})"
        if self.name == "EXECUTE":
            return f"has_function_privilege({literal(f'{self.schema}.{self.object}')}, {literal(self.name)})"
        table = f"{literal(quoted(self.schema, self.object))}::regclass"
        if self.column is None:
            return f"has_table_privilege({table}, {literal(self.name)})"
        return f"has_column_privilege({table}, {literal(self.column)}, {literal(self.name)})"


def of_tokens(schema: str, name: str, read: Iterable[str]) -> Iterator[Privilege]:
    """The privileges on the tokens table; `read` are the columns that a worker reads besides those that it writes."""
    for column in (*read, *WRITTEN):
        yield Privilege("SELECT", schema, name, column, later=column in WRITTEN and column not in _CLAIM_READS)
    for column in WRITTEN:
        yield Privilege("UPDATE", schema, name, column, later=column not in _CLAIM_WRITES)


def of_the_gate() -> Iterator[Privilege]:
    """The privileges on the gate, and on the functions that ring."""
    for column in GATE:
        yield Privilege("SELECT", "reactor", "intake", column, later=column not in _CLAIM_READS_OF_GATE)
        yield Privilege("UPDATE", "reactor", "intake", column, later=column not in _CLAIM_WRITES_OF_GATE)
    for function in FUNCTIONS:
        yield Privilege("EXECUTE", "pg_catalog", function, later=True)


def of_the_history() -> Iterator[Privilege]:
    """The privileges on the history, which is written by the statements that end an attempt."""
    for name in HISTORY:
        yield Privilege(name, "reactor", "attempts", later=True)


def permitted(schema: str, name: str) -> str:
    """The condition, as SQL, that our role has the privileges that a claim of these tokens does not need itself."""
    privileges = (*of_tokens(schema, name, ()), *of_the_gate(), *of_the_history())
    return "\n    AND ".join(privilege.condition for privilege in privileges if privilege.later)


def given_by(missing: Sequence[Any]) -> list[str]:
    """The GRANT statements that give what `queries/privileges.sql` found missing, one for each object."""
    grants: dict[str, dict[str, list[str]]] = {}
    for row in missing:
        on = f"{row['object']} TO {row['role']}"
        grants.setdefault(on, {}).setdefault(row["privilege"], []).append(row["column"])
    return [f"GRANT {', '.join(map(_of_columns, *zip(*of.items(), strict=True)))} ON {on}" for on, of in grants.items()]


def _of_columns(privilege: str, columns: Sequence[str | None]) -> str:
    named = ", ".join(column for column in columns if column is not None)
    return f"{privilege} ({named})" if named else privilege
