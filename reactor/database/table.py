"""The tokens table as it is. All SQL gets its names and status labels from here, once, at load."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from reactor.database.channels import channel
from reactor.tokens import LONGEST_PROMPT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STATUSES = ("detected", "generating", "uploading", "failed")
PINNED = "pg_catalog, pg_temp"  # the search path of our sessions: see search_path.py
HEAD = "0009"  # the newest revision in alembic/versions, which our statements need

_NEXT_PARAMETER = {"claim": 5, "look": 2}  # the number after the parameters of the header
_PART = re.compile(r"\{(trusted|parts/\w+)\}")  # the text of another file in queries replaces it


class TableError(Exception):
    """The table cannot serve as the queue; the message says what to do."""


@dataclass(frozen=True, slots=True)
class TokensTable:
    """Names and labels, quoted and ready to stand in SQL."""

    schema: str
    name: str
    labels: Mapping[str, str]  # status → SQL literal, with the cast of its type
    triggers: str  # the wake triggers: enabled (both), missing (at least one), else disabled
    key: str = "id"
    order: str = "mint_timestamp"
    number_type: str = "bigint"
    encoding: str = "UTF8"

    @property
    def relation(self) -> str:
        """The quoted, schema-qualified table."""
        return quoted(self.schema, self.name)

    @property
    def authors(self) -> str:
        """The quoted authors table, in the schema of the tokens."""
        return quoted(self.schema, "authors")

    @property
    def triggers_enabled(self) -> bool:
        """Whether a mint rings."""
        return self.triggers == "enabled"

    @property
    def wake_channel(self) -> str:
        """Rung when there is something to claim."""
        return channel(self.schema, self.name, "wake")

    @property
    def bell_channel(self) -> str:
        """Rung by a worker that leaves the watch."""
        return channel(self.schema, self.name, "bell")

    @property
    def status_channel(self) -> str:
        """Tells the next stage which tokens have left `detected` and `generating`."""
        return channel(self.schema, self.name, "status")

    def query(self, name: str, *, after: Sequence[str] = (), among: bool = False) -> str:
        """The statement in `queries/<name>.sql`, with this table's names.

        A claim or a look can be restricted by parameters after the header's. `after` names "fresh", "retries" or both,
        in this order: for each, a uuid names a token, and only tokens of that kind behind it are taken. `among`: only
        tokens of a uuid[] are taken.
        """
        return _statement(name).format(
            table=self.relation,
            relation=literal(self.relation),
            authors=self.authors,
            key=quoted(self.key),
            order=quoted(self.order),
            number_type=self.number_type,
            number=self._number,
            prompt=self._prompt(self._cut("author.prompt_text::text")),
            whole_prompt=self._prompt("author.prompt_text::text"),
            **self._restrictions(_NEXT_PARAMETER.get(name, 0), after, among=among),
            **self.labels,
        )

    @property
    def _number(self) -> str:
        """The number that people know a token by. If it is no integer it may be absurdly long, and is null then."""
        if self.number_type in {"smallint", "integer", "bigint"}:
            return "token_id"
        return "CASE WHEN octet_length(token_id::text) <= 100 THEN token_id END"

    def _prompt(self, text: str) -> str:
        # A scalar subquery, so that a token without an author is claimed too, and fails with a reason.
        return f"(SELECT {text} FROM {self.authors} AS author WHERE author.id = token.author_id)"  # noqa: S608  (quoted)

    def _cut(self, prompt: str) -> str:
        """A prompt, or enough of it to show that it is too long: a role that may write one may write a gigabyte."""
        if self.encoding != "SQL_ASCII":
            return f"left({prompt}, {LONGEST_PROMPT + 1})"
        # In SQL_ASCII, `left` counts bytes: it could split a character, and the client could not decode the rest.
        too_long = literal("?" * (LONGEST_PROMPT + 1))
        return f"CASE WHEN octet_length({prompt}) <= {4 * LONGEST_PROMPT} THEN {prompt} ELSE {too_long} END"

    def _restrictions(self, parameter: int, after: Sequence[str], *, among: bool) -> dict[str, str]:
        key, chosen = quoted(self.key), {}
        for number, kind in enumerate(after, parameter):
            by = quoted(self.order) if kind == "fresh" else "generation_due_at"
            place = f"(SELECT {by} FROM {self.relation} WHERE {key} = ${number}::uuid)"  # noqa: S608  (quoted)
            chosen[kind] = f"AND ({by}, {key}) > ({place}, ${number}::uuid)"
        either = f"AND {key} = ANY (${parameter}::uuid[])" if among else ""
        return {f"of_{kind}": chosen.get(kind, either) for kind in ("fresh", "retries")}


def plain_query(name: str) -> str:
    """A statement that needs no name of the tokens table."""
    return _statement(name)


def only(found: Sequence[Mapping[str, Any]], wanted: str) -> Mapping[str, Any] | None:
    """The one table that `queries/discover.sql` found, or None. Raises TableError if it found several."""
    found = [row for row in found if not row["passed_over"]]
    if len(found) > 1:
        names = [f"{row['schema']}.{row['name']}" for row in found]
        raise TableError(f"{wanted} can be {' or '.join(names)}; name the schema, as in TOKENS_TABLE={names[0]}")
    return found[0] if found else None


def words_for_strangers(found: Sequence[Mapping[str, Any]]) -> str:
    """Words for the strangers' tables that `queries/discover.sql` passed over; '' if there are none."""
    names = [f"{row['schema']}.{row['name']} of role {row['owner']}" for row in found if row["passed_over"]]
    return f" (not counting {', '.join(names)}: name its schema in TOKENS_TABLE if you mean it)" if names else ""


def refuse_authors_of(owner: str | None, schema: str) -> None:
    """Raise TableError if `queries/authors.sql` returned an owner."""
    if owner is not None:
        raise TableError(
            f"{schema}.authors belongs to {owner}, who owns neither the database nor the tokens, and whose code would"
            f" run as yours: if you trust {owner}, GRANT {quoted(owner)} TO CURRENT_USER"
        )


def described(found: Mapping[str, Any] | None, wanted: str, passed_over: str = "") -> TokensTable:
    """Make the mapping from the row that `queries/discover.sql` found. Raises TableError."""
    if found is None or not found["migrated"]:
        what = "has no table" if found is None else "is not migrated:"
        raise TableError(f"the database {what} {wanted}{passed_over}; run: reactor migrate")
    return TokensTable(
        schema=found["schema"],
        name=found["name"],
        labels=labels(found),
        triggers="enabled" if found["triggers_enabled"] else "disabled" if found["triggered"] else "missing",
        number_type=found["number_type"] or "bigint",
        encoding=found["encoding"],
    )


def refuse_an_older(revision: str | None, wanted: str) -> None:
    """Raise TableError if a migration was interrupted, or an older version of the reactor migrated."""
    if revision is None or revision < HEAD:
        at = f"at {revision or 'the beginning'}, not at {HEAD}"
        raise TableError(f"the database is not completely migrated ({at}): {wanted}; run: reactor migrate")


def labels(found: Mapping[str, Any]) -> dict[str, str]:
    """Each status as an SQL literal: an enum's label, of either case, is cast. Raises TableError if one is missing."""
    by_name = {label.lower(): label for label in found["labels"] or STATUSES}
    if missing := [status for status in STATUSES if status not in by_name]:
        raise TableError(f"{found['schema']}.{found['name']}.status has no label {', '.join(missing)}")
    cast = f"::{found['status_enum']}" if found["status_enum"] else ""
    return {status: f"{literal(by_name[status])}{cast}" for status in STATUSES}


def quoted(*identifiers: str) -> str:
    """A name, or names joined by dots, as SQL takes them."""
    return ".".join('"' + identifier.replace('"', '""') + '"' for identifier in identifiers)


def literal(words: str) -> str:
    """A text as SQL takes it."""
    return "'" + words.replace("'", "''") + "'"


@cache
def _statement(name: str) -> str:
    """A statement as it is stored, with the texts of the parts that it names in braces."""
    text = files("reactor.database").joinpath("queries", f"{name}.sql").read_text(encoding="utf-8")
    return _PART.sub(lambda named: _statement(named[1]), text)
