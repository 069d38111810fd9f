"""Completes a database, and removes what was added: the revisions for what all tables share, then one table's steps.

What cannot be mapped is refused before anything is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO, cast

from alembic import command
from alembic.config import Config
from sqlalchemy import MetaData, text
from sqlalchemy.exc import DBAPIError

from reactor.database.shape import in_words
from reactor.database.table import HEAD, Authors, plain_query
from reactor.migrations import removal, schema
from reactor.migrations.files import body, home
from reactor.migrations.migration_lock import (
    INDEX_LOCK_TIMEOUT,
    LOCK_TIMEOUT,
    PATIENCE,
    MigrationError,
    Patience,
    autocommit,
    is_denied,
    one_line,
    run_alone,
)
from reactor.migrations.steps import NOBODY, TRIGGERS, Step, complete_table, make_authors, make_table
from reactor.migrations.survey import Survey, found, survey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from reactor.secret import Secret

PLANNER = "a plan needs USAGE on schema reactor and on the table's schema, and SELECT on reactor.alembic_version"


@dataclass(frozen=True, slots=True)
class Plan:
    """What `migrate` would do: what each need is taken from, and the steps."""

    mapping: list[tuple[str, str]]
    steps: list[Step]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done or removed, in words, and the columns that --down keeps because nothing marks them as ours."""

    done: list[str]
    unmarked: list[str]


async def upgrade(
    dsn: str | Secret,
    *,
    table: str = "tokens_s0",
    prompt_sql: str | None = None,
    direct: bool = False,
    patience: Patience = PATIENCE,
) -> Outcome:
    """Create or complete the tables; return what was done to this one. Raises MigrationError.

    It may be run again, and in several places at once.
    """
    outcome = Outcome([], [])

    def work(connection: Connection) -> None:
        surveyed = survey(connection, table, prompt_sql)
        connection.rollback()
        _complete_shared(connection, table)
        for step in _steps(connection, surveyed):
            run(connection, step)
            outcome.done.append(step.what)
        there = survey(connection, table, prompt_sql)
        if not there.table.triggers_enabled:
            raise MigrationError(f"{table}: its triggers could not be enabled: mints would wake no worker")
        outcome.unmarked[:] = there.unmarked

    await run_alone(dsn, work, direct=direct, patience=patience)
    return outcome


async def plan(
    dsn: str | Secret, *, table: str = "tokens_s0", prompt_sql: str | None = None, direct: bool = False
) -> Plan:
    """Find out what `upgrade` would do. Changes nothing, and needs no right to. Raises MigrationError."""
    plans: list[Plan] = []

    def work(connection: Connection) -> None:
        try:
            surveyed = survey(connection, table, prompt_sql)
            steps = [*_shared_steps(connection, table), *_steps(connection, surveyed)]
        except DBAPIError as error:
            if is_denied(error):
                raise MigrationError(f"{one_line(error)}: {PLANNER}") from error
            raise
        connection.rollback()
        plans.append(Plan(in_words(surveyed.table), steps))

    await run_alone(dsn, work, direct=direct)
    return plans[-1]


async def downgrade(
    dsn: str | Secret, *, table: str = "tokens_s0", direct: bool = False, with_rows: bool = False
) -> Outcome:
    """Remove what was added to the table, and schema reactor after the last one; return what was removed.

    It refuses to drop a table that still has rows, the history too, or a column that holds images, unless `with_rows`.
    Raises MigrationError.
    """
    outcome = Outcome([], [])

    def work(connection: Connection) -> None:
        if place := found(connection, table):
            outcome.done.extend(removal.remove(connection, place, with_rows=with_rows))
            outcome.unmarked[:] = removal.kept(connection, place)
        elif not with_rows and not removal.marked(connection):
            removal.refuse_to_lose_history(connection)
        if _shared(connection)["schema"] and not removal.marked(connection):
            _remove_shared(connection, table)
            outcome.done.append("schema reactor")

    await run_alone(dsn, work, direct=direct)
    return outcome


def run(connection: Connection, step: Step) -> None:
    """Run one step, in a transaction of its own."""
    with autocommit(connection):
        if step.concurrently:
            connection.exec_driver_sql(f"SET lock_timeout = '{INDEX_LOCK_TIMEOUT}'")
        connection.exec_driver_sql(step.statement)
        if step.concurrently:
            connection.exec_driver_sql(f"SET lock_timeout = '{LOCK_TIMEOUT}'")


def _steps(connection: Connection, surveyed: Survey) -> list[Step]:
    if surveyed.columns is not None:
        return list(complete_table(connection, surveyed.table, surveyed.columns, made=surveyed.made))
    authors = [] if surveyed.author_type else [make_authors(surveyed.table)]
    beside = surveyed.authors or Authors(surveyed.table.schema)
    return [*authors, *make_table(connection, surveyed.table, beside, surveyed.author_type or "uuid")]


def _shared(connection: Connection) -> Mapping[str, Any]:
    columns = [column.name for column in schema.intake(MetaData()).columns]
    given = (list(TRIGGERS), [body(function) for function in TRIGGERS], columns)
    return dict(connection.exec_driver_sql(plain_query("shared"), given).mappings().one())


def _revision(connection: Connection, shared: Mapping[str, Any]) -> str | None:
    return (
        connection.exec_driver_sql(plain_query("revision")).mappings().one()["revision"] if shared["versions"] else None
    )


def _complete_shared(connection: Connection, table: str) -> None:
    """Run the revisions: all of them again if something that they made is gone, or was made before the first."""
    shared = _shared(connection)
    if not shared["schema"]:
        # Not IF NOT EXISTS, which needs the privilege to create even if the schema is there.
        connection.execute(text("CREATE SCHEMA reactor"))
    elif shared["versions"]:
        revision = _revision(connection, shared)
        _refuse_a_newer(revision)
        if revision is not None and (revision < HEAD or not shared["complete"]):
            connection.execute(text("DELETE FROM reactor.alembic_version"))
    connection.commit()
    command.upgrade(config(connection, table), "head")
    connection.execute(text("INSERT INTO reactor.intake DEFAULT VALUES ON CONFLICT DO NOTHING"))
    connection.commit()


def _refuse_a_newer(revision: str | None) -> None:
    if revision is not None and revision > HEAD:
        raise MigrationError(f"the database was migrated by a newer reactor (at {revision}, not {HEAD}): use that one")


def _shared_steps(connection: Connection, table: str) -> list[Step]:
    """The revisions' statements, as steps, if they would be run."""
    shared = _shared(connection)
    revision = _revision(connection, shared)
    _refuse_a_newer(revision)
    if shared["complete"] and revision is not None and revision >= HEAD:
        return []
    statements = _Statements()
    command.upgrade(config(None, table, statements), "head", sql=True)
    before = [] if shared["schema"] else ["CREATE SCHEMA reactor"]
    if shared["versions"]:
        before.append("DELETE FROM reactor.alembic_version")
        statements.found = [each for each in statements.found if not each.startswith("CREATE TABLE reactor.alembic_")]
    return [Step(_what(each), each, NOBODY) for each in [*before, *statements.found]]


def _what(statement: str) -> str:
    """The first words of a statement."""
    line = next(line for line in statement.splitlines() if not line.startswith("--"))
    return line.partition("(")[0].strip()


class _Statements:
    """A buffer into which Alembic writes one statement after the other, and a remark before those of each revision."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def write(self, text: str) -> None:
        if not text.startswith("-- Running "):
            self.found.append(text.strip().rstrip(";"))

    def flush(self) -> None:
        """Do nothing: nothing is buffered."""


def _remove_shared(connection: Connection, table: str) -> None:
    """Remove what the revisions made, and the schema."""
    if _shared(connection)["versions"]:
        connection.execute(text("UPDATE reactor.alembic_version SET version_num = :head"), {"head": HEAD})
        connection.commit()
        command.downgrade(config(connection, table), "base")
    connection.execute(text("DROP TABLE IF EXISTS reactor.alembic_version"))
    connection.execute(text("DROP SCHEMA reactor"))
    connection.commit()


def config(connection: Connection | None, table: str, output: _Statements | None = None) -> Config:
    """Alembic's configuration, which hands the connection to env.py; or the output, if the revisions are only shown."""
    given = Config()
    given.output_buffer = cast("TextIO", output)  # it needs no more than write and flush
    given.set_main_option("script_location", str(home("alembic")).replace("%", "%%"))
    given.attributes["connection"] = connection
    given.attributes["table"] = table
    return given
