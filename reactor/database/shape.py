"""Maps our needs to a tokens table that is there: each is taken from the first column that can serve it.

    key       the primary key: uuid, bigint, integer or text
    number    token_id, else the key
    order     mint_timestamp, detected_at or created_at, else the key
    status    status: a text or an enum, labels in either case
    prompt    PROMPT_SQL; else the author's prompt_text; else prompt or prompt_text of the token itself
    trace     traceparent, if it is there

Workers, migrations and commands all use this mapping. What cannot be mapped raises a TableError that says why.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from reactor.database.names import literal
from reactor.database.table import (
    LONGEST_ERROR,
    PLAIN_LABELS,
    SMALLEST,
    STATUSES,
    Authors,
    Column,
    TableError,
    TokensTable,
    parameter_type,
)
from reactor.text.messages import message_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

TEXTS = ("text", "character varying")
TIMES = ("timestamp with time zone", "timestamp without time zone", "date")
INTEGERS = ("smallint", "integer", "bigint")
NUMBERS = (*INTEGERS, "numeric", "uuid", *TEXTS)
ORDERS = ("mint_timestamp", "detected_at", "created_at")
BORN = ("created_at", "detected_at", "mint_timestamp")  # the first is most often set by the database's clock
# The types that our columns can have. Three of them a host may have already, in a type of its own.
OURS: Mapping[str, tuple[str, ...]] = {
    "image_url": TEXTS,
    "generation_attempts": INTEGERS,
    "generation_error": TEXTS,
    "generation_due_at": TIMES[:1],
    "generation_lease_ends_at": TIMES[:1],
    "generation_epoch": ("bigint",),
    "generation_worker": ("bigint",),
    "generation_seed": ("integer",),
    "generation_seeded_at": TIMES[:1],
    "generation_prediction_id": TEXTS,
    "generation_censored": ("boolean",),
    "generation_rescues": ("integer",),
}
_HOSTS = ("image_url", "generation_attempts", "generation_error")  # what a host's own inserts may fill in
_SHORTEST = {"image_url": 200, "generation_prediction_id": 64}  # characters
_NULLED = ("generation_error", *(name for name in OURS if name.endswith(("_at", "_worker", "_seed", "_prediction_id"))))
_KINDS = {
    "p": "is partitioned",
    "v": "is a view",
    "m": "is a materialized view",
    "f": "is a foreign table",
}
_LABEL = re.compile(r"'([^']*)'")


def mapped(schema: str, name: str, shape: Mapping[str, Any], *, prompt_sql: str | None = None) -> TokensTable:
    """Map our needs to the table that `queries/shape.sql` described. Raises TableError."""
    columns = orjson.loads(shape["columns"] or b"{}")
    try:
        _refuse_other_kinds(shape)
        _refuse_unfit_columns(columns)
        key = _key(columns, shape["primary_key"])
        number = _first(columns, ["token_id"], NUMBERS) or key
        return TokensTable(
            schema=schema,
            name=name,
            triggers="enabled" if shape["triggers_enabled"] else "disabled" if shape["triggered"] else "missing",
            labels=_labels(columns, shape),
            key=key,
            number=number,
            listed=number if shape["number_unique"] else key,
            order=_first(columns, ORDERS, TIMES) or key,
            born=_first(columns, BORN, TIMES[:2]) or key,
            prompt=prompt_sql if prompt_sql is not None else _prompt(columns, shape),
            trace=_trace(columns),
            longest_error=min(columns.get("generation_error", {}).get("length") or LONGEST_ERROR, LONGEST_ERROR),
        )
    except TableError as error:
        raise TableError(f"{schema}.{name} {message_of(error)}") from None


def _trace(columns: Mapping[str, Any]) -> Column | None:
    """The column of the traceparent. It is optional, so a role that may not read it goes without."""
    found = _first(columns, ["traceparent"], TEXTS)
    return found if found and columns["traceparent"]["readable"] else None


def _refuse_other_kinds(shape: Mapping[str, Any]) -> None:
    if shape["kind"] != "r" or shape["temporary"]:
        kind = _KINDS.get(shape["kind"], "is no table") if shape["kind"] != "r" else "is temporary"
        raise TableError(f"{kind}; only an ordinary table can be the queue")
    if shape["unfit"]:
        raise TableError(f"{shape['unfit']}; only an ordinary table without rules and inheritance can be the queue")


def _refuse_unfit_columns(columns: Mapping[str, Any]) -> None:
    """Refuse columns that we write if they cannot hold what we write."""
    for name, types in OURS.items():
        if (there := columns.get(name)) is None:
            continue
        if there["type"] not in types:
            raise TableError(f"has a column {name} of type {there['type']}, which must be {' or '.join(types)}")
        if there["generated"]:
            raise TableError(f"has a generated column {name}, which a worker must write")
        if name in _NULLED and not there["nullable"]:
            raise TableError(f"has a column {name} that is NOT NULL, and a worker sets it to null: DROP NOT NULL")
        if not there["nullable"] and not there["has_default"] and name not in _HOSTS:
            raise TableError(f"has a column {name} that is NOT NULL without a default: SET DEFAULT, or drop it")
        if name == "generation_epoch" and there["nullable"]:
            raise TableError("has a column generation_epoch that may be null: SET DEFAULT 0 and NOT NULL, or drop it")
        if (there["length"] or _SHORTEST.get(name, 0)) < _SHORTEST.get(name, 0):
            raise TableError(f"has a column {name} that is too short: it needs {_SHORTEST[name]} characters")


def _key(columns: Mapping[str, Any], primary_key: Collection[str]) -> Column:
    if len(primary_key) != 1:
        raise TableError("has no primary key of a single column, by which a token could be locked")
    (name,) = primary_key
    key = Column(name, columns[name]["type"])
    if parameter_type(key) not in SMALLEST:
        raise TableError(f"has a primary key of type {key.type}; it must be uuid, bigint, integer, text or varchar")
    return key


def _first(columns: Mapping[str, Any], names: Collection[str], types: Collection[str] = ()) -> Column | None:
    """The first of these columns that is there, and of one of these types, if any are given."""
    for name in names:
        if name in columns and (not types or columns[name]["type"] in types):
            return Column(name, columns[name]["type"])
    return None


def _labels(columns: Mapping[str, Any], shape: Mapping[str, Any]) -> dict[str, str]:
    """Each status as an SQL literal, as the type spells it; an enum's label is cast."""
    status = columns.get("status")
    if status is None:
        raise TableError("has no column status")
    if status["generated"]:
        raise TableError("has a generated column status, which a worker must write")
    given = _LABEL.findall(shape["status_default"] or "")
    if enum := shape["status_enum"]:
        spelled = _spelled(shape["labels"], given)
        if missing := [name for name in STATUSES if name not in spelled]:
            raise TableError(f"has a status that is an enum without the label {', '.join(missing)}")
        return {name: f"{literal(spelled[name])}::{enum}" for name in STATUSES}
    if status["type"] not in TEXTS:
        raise TableError(f"has a status of type {status['type']}; it must be text, varchar or an enum")
    spelled = _spelled([*given, *(label for text in shape["mentions"] for label in _LABEL.findall(text))], given)
    upper = any(spelled[name].isupper() for name in STATUSES if name in spelled)
    spelled = {name: spelled.get(name, name.upper() if upper else name) for name in PLAIN_LABELS}
    if (status["length"] or max(map(len, STATUSES))) < max(map(len, STATUSES)):
        raise TableError(f"has a status of at most {status['length']} characters, too short for generating")
    return {name: literal(label) for name, label in spelled.items()}


def _spelled(labels: Collection[str], default: Collection[str]) -> dict[str, str]:
    """Each label by its lower case.

    If several differ only by case, the case of the default counts, or else the case in which all statuses are there.
    """
    by_name = {label.lower(): label for label in reversed([*labels]) if label.isascii()}
    upper = any(label.isupper() for label in default) or {*STATUSES} > {*labels} & {*STATUSES}
    in_case = str.upper if upper and {*map(str.upper, STATUSES)} <= {*labels} else str.lower
    return by_name | {name: in_case(name) for name in by_name if in_case(name) in labels}


def _prompt(columns: Mapping[str, Any], shape: Mapping[str, Any]) -> Authors | Column:
    if "author_id" in columns and shape["authors_name"] is not None:
        authors = orjson.loads(shape["authors_columns"] or b"{}")
        key = shape["authors_key"] or author_key(authors)
        if key is not None and "prompt_text" in authors:
            return Authors(shape["authors_schema"], shape["authors_name"], key)
    if column := _first(columns, ["prompt", "prompt_text"], TEXTS):
        return column
    raise TableError(
        "has no prompt: author_id leads to no table with a column prompt_text and a key id or author_id, and there is"
        " no column prompt or prompt_text; set PROMPT_SQL, as in PROMPT_SQL=token.description"
    )


def author_key(authors: Mapping[str, Any]) -> str | None:
    """The column of the authors that author_id refers to, by the facts about their columns; None if there is none."""
    return next((name for name in ("id", "author_id") if name in authors), None)


def in_words(table: TokensTable) -> list[tuple[str, str]]:
    """The mapping, for people: each need, and what it is taken from."""
    match table.prompt:
        case str() as expression:
            prompt = f"PROMPT_SQL: {expression}"
        case Column() as column:
            prompt = f"column {column.name}"
        case Authors() as authors:
            prompt = f"{authors.schema}.{authors.name}.prompt_text, by author_id = {authors.key}"
    return [
        ("table", f"{table.schema}.{table.name}"),
        ("key", f"{table.key.name} ({table.key.type})"),
        ("number", table.number.name),
        ("order", table.order.name + (", read as UTC" if table.order.type in TIMES[1:] else "")),
        ("status", ", ".join(table.labels.values())),
        ("prompt", prompt),
        *([("trace", f"column {table.trace.name}")] if table.trace else []),
    ]
