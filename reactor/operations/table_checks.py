"""Checks of the tokens table, and of what our role may do with it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio

from reactor.database.discovery import refuse_bad_prompts
from reactor.database.rights import look_at_rights
from reactor.database.table import HEAD, TableError, plain_query
from reactor.migrations import revisions
from reactor.migrations.migration_lock import MigrationError
from reactor.migrations.steps import TRIGGERS, trigger_arguments
from reactor.operations.finding import Finding, UnknownError
from reactor.text.messages import first_line_of, message_of

if TYPE_CHECKING:
    from reactor.database.session import Session
    from reactor.database.table import TokensTable
    from reactor.migrations.revisions import Plan
    from reactor.secret import Secret

PLAN_WITHIN = 20.0  # seconds; a migration that runs makes it wait
MANY_DEAD, DEAD_SHARE = 50_000, 0.5  # rows that slow no claim down; of the live ones
MIGRATE = "run: reactor migrate"


def unfit(error: TableError) -> Finding:
    """The table was not found, or cannot be mapped."""
    found, _, todo = message_of(error).partition("; ")
    return Finding("table", "failed", found, todo or "see: reactor migrate --plan")


async def privileges(session: Session, table: TokensTable) -> Finding:
    rights, result = await look_at_rights(session.fetch, table), partial(Finding, "privileges")
    if not rights.grants:
        return result("ok", "this role may do all that a worker does")
    if rights.only_reads:
        return result("unknown", f"role {rights.role} may only read: run this as the worker's role")
    return result("failed", f"role {rights.role} lacks what a worker needs", "; ".join(rights.grants))


async def row_security(session: Session, table: TokensTable) -> Finding:
    rights = await look_at_rights(session.fetch, table)
    if rights.row_security is None:
        return Finding("row security", "ok", "hides nothing from this role")
    if rights.hidden:
        return Finding("row security", "failed", rights.row_security, rights.remedy)
    todo = "check that the policies show every token that this worker is to serve"
    return Finding("row security", "warning", rights.row_security, todo)


async def prompt(session: Session, table: TokensTable) -> Finding:
    try:
        await refuse_bad_prompts(session, table)
    except TableError as error:
        return Finding("prompt", "failed", message_of(error), "correct PROMPT_SQL, or GRANT SELECT on what it reads")
    return Finding("prompt", "ok", "can be read")


async def revision(session: Session) -> Finding:
    (row,) = await session.fetch(plain_query("revision"))
    at = row["revision"]
    if at is None or at < HEAD:
        return Finding("revision", "failed", f"at {at or 'the beginning'}, not at {HEAD}", MIGRATE)
    if at > HEAD:
        said = f"at {at}: a newer reactor has migrated; this one knows {HEAD}"
        return Finding("revision", "warning", said, "update this reactor")
    return Finding("revision", "ok", f"at {at}, as this reactor needs")


async def planned(dsn: Secret, table: str, prompt_sql: str | None, *, direct: bool) -> Plan:
    """What `migrate` would do. Raises TableError if it would refuse the table, UnknownError if it cannot tell."""
    try:
        with anyio.fail_after(PLAN_WITHIN):
            return await revisions.plan(dsn, table=table, prompt_sql=prompt_sql, direct=direct)
    except TimeoutError:
        raise UnknownError("another migration is running") from None
    except MigrationError as error:
        if isinstance(error.__cause__, TableError):
            raise error.__cause__ from None
        raise UnknownError(first_line_of(error)) from error


def refused(error: TableError) -> Finding:
    """`migrate` would refuse the table."""
    return Finding(
        "drift", "failed", f"reactor migrate refuses: {message_of(error)}", "change the table, or name another one"
    )


def drift(plan: Plan) -> Finding:
    if not plan.steps:
        return Finding("drift", "ok", "reactor migrate would do nothing")
    steps = "; ".join(step.what for step in plan.steps[:3])
    more = f" and {len(plan.steps) - 3:,} more" if len(plan.steps) > 3 else ""
    return Finding("drift", "failed", f"missing or different: {steps}{more}", MIGRATE)


async def dead_rows(session: Session, table: TokensTable, *, many: int = MANY_DEAD) -> Finding:
    (row,) = await session.fetch(plain_query("dead_rows"), table.relation)
    when = "" if row["vacuumed"] is None else f", vacuumed {row['vacuumed']:,.0f} s ago"
    said = f"{row['dead']:,} dead rows beside {row['live']:,} live ones{when}"
    if row["dead"] <= max(many, row["live"] * DEAD_SHARE):
        return Finding("dead rows", "ok", said)
    todo = f"end what keeps them (see: old snapshots), then VACUUM {table.relation}; see deploy/postgres/settings.sql"
    return Finding("dead rows", "warning", f"{said}: claims slow down", todo)


async def triggers(session: Session, table: TokensTable) -> Finding:
    given = "".join(f"{each}," for each in trigger_arguments(table))
    there = {row["function"]: row for row in await session.fetch(plain_query("triggers"), table.relation, given)}
    wrong = [
        *(f"no trigger calls reactor.{function}" for function in TRIGGERS if function not in there),
        *(f"{row['name']} is disabled" for row in there.values() if row["enabled"] not in {"O", "A"}),
        *(
            f"{row['name']} rings other channels, as after the table was renamed"
            for row in there.values()
            if not row["as_wanted"]
        ),
    ]
    if wrong:
        return Finding("triggers", "failed", f"{'; '.join(wrong)}: mints wait for the sweep", MIGRATE)
    return Finding("triggers", "ok", f"enabled, and ring {table.wake_channel}")
