"""The tokens table as it is. All SQL gets its names and status labels from here, once, at load."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from reactor.database.channels import channel
from reactor.database.names import literal, quoted
from reactor.database.privileges import permitted
from reactor.tokens import LONGEST_PROMPT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reactor.tokens import Key

STATUSES = ("detected", "generating", "uploading", "failed")
PLAIN_LABELS = {status: f"'{status}'" for status in STATUSES}  # of a table that the migrations make
PINNED = "pg_catalog, pg_temp"  # the search path of our sessions: see search_path.py
HEAD = "0011"  # the newest revision in alembic/versions, which our statements need
LONGEST_ERROR = 1000  # characters
# The types of a key, each with the smallest of its values.
SMALLEST: Mapping[str, Key] = {"uuid": UUID(int=0), "bigint": -(2**63), "integer": -(2**31), "text": ""}

_NEXT_PARAMETER = {"claim": 5, "look": 2}  # the number after the parameters of the header
_PART = re.compile(r"\{(trusted|parts/\w+)\}")  # the text of another file in queries replaces it


class TableError(Exception):
    """The table cannot serve as the queue; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the tokens table, which statements call `token`."""

    name: str
    type: str  # as format_type names it, without a length

    @property
    def sql(self) -> str:
        """The column in a statement."""
        return f"token.{quoted(self.name)}"

    @property
    def time(self) -> str:
        """The column as a timestamptz; times without a zone are UTC. Null if it is no time."""
        if self.type == "timestamp with time zone":
            return self.sql
        if self.type in {"timestamp without time zone", "date"}:
            return f"({self.sql}::timestamp AT TIME ZONE 'UTC')"
        return "NULL::timestamptz"


@dataclass(frozen=True, slots=True)
class Authors:
    """The table that holds the prompts, and its key, which the tokens' author_id refers to."""

    schema: str
    name: str = "authors"
    key: str = "id"

    @property
    def relation(self) -> str:
        """The quoted, schema-qualified table."""
        return quoted(self.schema, self.name)


@dataclass(frozen=True, slots=True)
class TokensTable:
    """What each of our needs is taken from. Names and labels are ready to stand in SQL."""

    schema: str
    name: str
    prompt: Authors | Column | str  # a string is PROMPT_SQL
    triggers: str = "missing"  # the wake triggers: enabled (both), missing (at least one), else disabled
    labels: Mapping[str, str] = field(default_factory=PLAIN_LABELS.copy)  # status → SQL literal, with its type's cast
    key: Column = Column("id", "uuid")
    number: Column = Column("token_id", "bigint")  # the number that people know a token by
    listed: Column = Column("token_id", "bigint")  # the number if it is unique and never null, else the key
    order: Column = Column("mint_timestamp", "timestamp with time zone")
    born: Column = Column("created_at", "timestamp with time zone")  # from it a mint's age is computed
    trace: Column | None = None  # the W3C traceparent of the transaction that inserted the token
    longest_error: int = LONGEST_ERROR  # characters that generation_error holds

    @property
    def relation(self) -> str:
        """The quoted, schema-qualified table."""
        return quoted(self.schema, self.name)

    @property
    def authors(self) -> Authors | None:
        """The authors table; None if prompts come from somewhere else."""
        return self.prompt if isinstance(self.prompt, Authors) else None

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

    @property
    def key_type(self) -> str:
        """The type of parameters that hold keys."""
        return parameter_type(self.key)

    @property
    def claimable(self) -> str:
        """The condition on a token's other columns without which no claim could ever take it, as our indexes have it.

        A claim raises the epoch. A key that is a long text does not fit into an index beside another column.
        """
        raisable = "generation_epoch < 9223372036854775807"
        return f"{raisable} AND octet_length({quoted(self.key.name)}) <= 2000" if self.key_type == "text" else raisable

    def random_key(self) -> Key:
        """A key, for a walk that begins anywhere."""
        if self.key_type in {"bigint", "integer"}:
            smallest = SMALLEST[self.key_type]
            return random.randint(int(str(smallest)), -int(str(smallest)) - 1)
        return uuid4() if self.key_type == "uuid" else uuid4().hex

    def query(self, name: str, *, after: Sequence[str] = (), among: bool = False) -> str:
        """The statement in `queries/<name>.sql`, with this table's names.

        A claim or a look can be restricted by parameters after the header's. `after` names "fresh", "retries" or both,
        in this order: for each, a key names a token, and only tokens of that kind behind it are taken. `among`: only
        tokens of an array of keys are taken.
        """
        authors = self.authors
        return _statement(name).format(
            table=self.relation,
            relation=literal(self.relation),
            authors=authors.relation if authors else "",
            authors_relation=literal(authors.relation) if authors else "NULL",
            author_key=quoted(authors.key) if authors else "",
            prompt_column=quoted(self.prompt.name) if isinstance(self.prompt, Column) else "",
            key=self.key.sql,
            minted_key=f"{quoted(self.key.name)}, " if self.key_type == "uuid" else "",  # it may have no default
            new_key="gen_random_uuid(), " if self.key_type == "uuid" else "",
            key_type=self.key_type,
            order=self.order.sql,
            minted_at=self.order.time,
            born=self.born.time,
            number_column=self.number.sql,
            number_type=parameter_type(self.number),
            number=self._number,
            listed=self.listed.sql,
            listed_type=parameter_type(self.listed),
            integral_number=self._integral_number,
            tokens_table=literal(f"{self.schema}.{self.name}"),
            traceparent=self._traceparent,
            claimable=self.claimable,
            permitted=permitted(self.schema, self.name) if name == "claim" else "",
            longest_error=self.longest_error,
            prompt=self._prompt(cut=True),
            whole_prompt=self._prompt(cut=False),
            **self._restrictions(_NEXT_PARAMETER.get(name, 0), after, among=among),
            **self.labels,
        )

    @property
    def _number(self) -> str:
        """The number that people know a token by. If it is no integer it may be absurdly long, and is null then."""
        if self.number.type in {"smallint", "integer", "bigint", "uuid"}:
            return self.number.sql
        return f"CASE WHEN octet_length({self.number.sql}::text) <= 100 THEN {self.number.sql} END"

    @property
    def _integral_number(self) -> str:
        """The number, if it is one: the history keeps no other."""
        numeric = self.number.type in {"smallint", "integer", "bigint", "numeric"}
        return f"({self._number})::numeric" if numeric else "NULL::numeric"

    @property
    def _traceparent(self) -> str:
        """The token's traceparent, if it is as long as one can be: a role that may write it may write a gigabyte."""
        if self.trace is None:
            return "NULL::text"
        return f"CASE WHEN octet_length({self.trace.sql}) BETWEEN 55 AND 512 THEN {self.trace.sql}::text END"

    def _prompt(self, *, cut: bool) -> str:
        shown = self._cut if cut else str
        match self.prompt:
            case Column() as column:
                return shown(f"{column.sql}::text")
            case str() as expression:
                return shown(f"({expression})::text")
            case Authors() as authors:
                # A scalar subquery, so that a token without an author is claimed too, and fails with a reason.
                text, source = shown("author.prompt_text::text"), f"{authors.relation} AS author"
                return f"(SELECT {text} FROM {source} WHERE author.{quoted(authors.key)} = token.author_id)"  # noqa: S608  (quoted)

    def _cut(self, prompt: str) -> str:
        """A prompt, or enough of it to show that it is too long: a role that may write one may write a gigabyte."""
        return f"left({prompt}, {LONGEST_PROMPT + 1})"

    def _restrictions(self, parameter: int, after: Sequence[str], *, among: bool) -> dict[str, str]:
        key, chosen = self.key.sql, {}
        for number, kind in enumerate(after, parameter):
            by = self.order.sql if kind == "fresh" else "token.generation_due_at"
            given = f"${number}::{self.key_type}"
            place = f"(SELECT {by} FROM {self.relation} AS token WHERE {key} = {given})"  # noqa: S608  (quoted)
            chosen[kind] = f"AND ({by}, {key}) > ({place}, {given})"
        either = f"AND {key} = ANY (${parameter}::{self.key_type}[])" if among else ""
        return {f"of_{kind}": chosen.get(kind, either) for kind in ("fresh", "retries")}


def plain_query(name: str) -> str:
    """A statement that needs no name of the tokens table."""
    return _statement(name)


def parameter_type(column: Column) -> str:
    """The type of parameters that are compared with the column."""
    return "text" if column.type == "character varying" else column.type


@cache
def _statement(name: str) -> str:
    """A statement as it is stored, with the texts of the parts that it names in braces."""
    text = files("reactor.database").joinpath("queries", f"{name}.sql").read_text(encoding="utf-8")
    return _PART.sub(lambda named: _statement(named[1]), text)
