"""The mapping to the tokens table as it is. All SQL gets its names and status labels from here, once, at load."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from reactor.channels import channel

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUSES = ("detected", "generating", "uploading", "failed")


class TableError(Exception):
    """The table cannot serve as the queue; the message says what to do."""


@dataclass(frozen=True, slots=True)
class TokensTable:
    """Names and labels, quoted and ready to stand in SQL."""

    schema: str
    name: str
    labels: Mapping[str, str]  # status → SQL literal, with the cast of its type
    triggers_enabled: bool
    key: str = "id"
    order: str = "mint_timestamp"

    @property
    def relation(self) -> str:
        """The quoted, schema-qualified table."""
        return f"{_quoted(self.schema)}.{_quoted(self.name)}"

    @property
    def authors(self) -> str:
        """The quoted authors table, beside the tokens."""
        return f"{_quoted(self.schema)}.authors"

    @property
    def wake_channel(self) -> str:
        """Rung when there is something to claim."""
        return channel(self.schema, self.name, "wake")

    @property
    def status_channel(self) -> str:
        """Tells the next stage what ended."""
        return channel(self.schema, self.name, "status")

    def query(self, name: str) -> str:
        """The statement in `queries/<name>.sql`, with this table's names."""
        return _statement(name).format(
            table=self.relation,
            authors=self.authors,
            key=_quoted(self.key),
            order=_quoted(self.order),
            # A scalar subquery: a token without an author is claimed all the same, and fails with a reason.
            prompt=f"(SELECT author.prompt_text FROM {self.authors} AS author WHERE author.id = token.author_id)",  # noqa: S608  (quoted)
            **self.labels,
        )


def plain_query(name: str) -> str:
    """A statement that names no table of ours."""
    return _statement(name)


def described(row: Mapping[str, Any] | None, wanted: str) -> TokensTable:
    """Make the mapping from what `queries/discover.sql` found. Raises TableError."""
    if row is None or not row["migrated"]:
        what = "has no table" if row is None else "is not migrated:"
        raise TableError(f"the database {what} {wanted}; run: reactor migrate")
    labels = row["labels"] or STATUSES
    by_name = {label.lower(): label for label in labels}
    missing = [status for status in STATUSES if status not in by_name]
    if missing:
        raise TableError(f"{wanted}.status has no label {', '.join(missing)}")
    cast = f"::{row['status_enum']}" if row["status_enum"] else ""
    return TokensTable(
        schema=row["schema"],
        name=row["name"],
        labels={status: f"{_literal(by_name[status])}{cast}" for status in STATUSES},
        triggers_enabled=row["triggers_enabled"],
    )


@cache
def _statement(name: str) -> str:
    return files("reactor").joinpath("queries", f"{name}.sql").read_text(encoding="utf-8")


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
