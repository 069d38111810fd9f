"""Checks of the connections and of the server."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from reactor.database.table import plain_query
from reactor.operations.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import asyncpg

    Fetch = Callable[..., Awaitable[list[asyncpg.Record]]]

VERSIONS = range(14, 19)  # of PostgreSQL, on which the tests run
OLD = 300.0  # seconds; an open transaction of this age keeps many dead rows
NEARLY_FULL, FULL = 0.1, 0.5  # of the NOTIFY queue; the triggers are silent beyond FULL
CLOCK = 2.0  # seconds that this clock may differ from the server's
LOOKS = 5  # at the lock of NOTIFY
ASKED = 3  # times for the clock; the fastest answer counts


@dataclass(frozen=True, slots=True)
class Link:
    """An open connection, as it was found."""

    url: str  # the setting's name
    pid: int  # the server's process, as it said when the connection was opened
    took: float  # seconds to open it
    facts: Mapping[str, Any]  # see server.sql
    offset: float  # seconds that the server's clock is ahead of ours
    precision: float  # seconds, of `offset`

    @property
    def pooled(self) -> bool:
        """Whether a pooler is in between: another process answers than the one we connected to."""
        return bool(self.pid != self.facts["pid"])


async def link(url: str, connection: asyncpg.Connection[Any], fetch: Fetch, took: float) -> Link:
    """Read what is known of a connection."""
    answers = []
    for _ in range(ASKED):
        began, before = time.time(), time.monotonic()
        (facts,) = await fetch(plain_query("server"))
        spent = time.monotonic() - before
        answers.append((spent, facts["now"] - (began + spent / 2), facts))
    precision, offset, facts = min(answers, key=lambda answer: answer[0])
    return Link(url, connection.get_server_pid(), took, dict(facts), offset, precision)


def connected(link: Link) -> Finding:
    facts, took = link.facts, 1000 * link.took
    name = "connection" if link.url == "DATABASE_URL" else "listen connection"
    return Finding(name, "ok", f"{link.url}: role {facts['role']}, database {facts['database']}, {took:.0f} ms")


def version(link: Link) -> Finding:
    number = link.facts["version"]
    major = number // 10_000
    said = f"PostgreSQL {major}.{number % 10_000}"
    if major < VERSIONS[0]:
        return Finding("version", "failed", f"{said} lacks what we need", f"use PostgreSQL {VERSIONS[0]} or newer")
    if major not in VERSIONS:
        said += f" is newer than {VERSIONS[-1]}, the newest that was tested"
        return Finding("version", "warning", said, "see whether a newer reactor knows it")
    return Finding("version", "ok", said)


def encoding(link: Link) -> Finding:
    name = link.facts["encoding"]
    if name == "UTF8":
        return Finding("encoding", "ok", name)
    said = f"{name}: a character that it lacks is stored as '?' in errors and reasons"
    return Finding("encoding", "warning", said, "use a database with encoding UTF8 if prompts need more characters")


def writable(link: Link) -> Finding:
    name, facts = "writable", link.facts
    if facts["in_recovery"]:
        return Finding(name, "failed", "the server is a standby", f"set {link.url} to the primary")
    if facts["read_only"]:
        todo = "lift default_transaction_read_only of the server, the database or the role"
        return Finding(name, "failed", "the database is read-only: no worker claims", todo)
    return Finding(name, "ok", "the server is a primary, and takes writes")


def durable(link: Link) -> Finding:
    value = link.facts["synchronous_commit"]
    if value != "off":
        return Finding("durability", "ok", f"synchronous_commit = {value}")
    said = "synchronous_commit = off: workers raise it for themselves, but a crash of the server may lose mints"
    return Finding("durability", "warning", said, "set synchronous_commit = on for the roles that mint")


def clock(link: Link) -> Finding:
    apart = abs(link.offset)
    said = (
        f"the server's clock is {apart:.3f} s {'ahead' if link.offset > 0 else 'behind'}, ± {link.precision / 2:.3f} s"
    )
    if apart - link.precision / 2 <= CLOCK:
        return Finding("clock", "ok", said)
    return Finding("clock", "warning", said, "let NTP set both clocks: waits that a provider names are computed here")


def pooler(database: Link, listening: Link | None) -> Finding:
    """Whether a transaction pooler is in between; `listening` is None if LISTEN_DATABASE_URL is not set."""
    direct = "set LISTEN_DATABASE_URL to a direct connection: LISTEN does not work through a transaction pooler"
    if listening is not None and listening.pooled:
        return Finding("pooler", "failed", "LISTEN_DATABASE_URL is a pooler's", direct)
    if database.pooled and listening is None:
        return Finding("pooler", "failed", "DATABASE_URL is a pooler's: mints wait for the sweep", direct)
    if database.pooled:
        return Finding("pooler", "ok", "DATABASE_URL is a pooler's, LISTEN_DATABASE_URL is direct")
    return Finding("pooler", "ok", "no pooler in between")


async def prepared(fetch: Fetch, *, old: float = OLD) -> Finding:
    (row,) = await fetch(plain_query("prepared"))
    result = partial(Finding, "prepared transactions")
    if row["count"]:
        said = (
            f"{row['gid']!r} of role {row['owner']} is prepared since {row['age']:,.0f} s: it keeps locks and dead rows"
        )
        more = f" ({row['count']:,} in all)" if row["count"] > 1 else ""
        todo = f"COMMIT PREPARED or ROLLBACK PREPARED {row['gid']!r}"
        return result("failed" if row["age"] > old else "warning", said + more, todo)
    if not row["allowed"]:
        return result("ok", "none, and max_prepared_transactions = 0")
    said = f"none, but max_prepared_transactions = {row['allowed']}"
    if row["silenced"]:
        return result("ok", f"{said}; reactor.silent is set for a role or a database")
    todo = "if a transaction that mints calls PREPARE TRANSACTION, SET LOCAL reactor.silent = on in it"
    return result("warning", f"{said}: PREPARE TRANSACTION is refused after a NOTIFY", todo)


async def notify_queue(fetch: Fetch, *, nearly_full: float = NEARLY_FULL, full: float = FULL) -> Finding:
    (row,) = await fetch(plain_query("notify_queue"))
    said = f"the NOTIFY queue is {row['usage']:.1%} full"
    if row["usage"] < nearly_full:
        return Finding("notify queue", "ok", said)
    if row["usage"] >= full:
        said += ": the triggers are silent"
    (oldest,) = await fetch(plain_query("snapshots"))
    who = f"probably process {oldest['pid']} of role {oldest['role']}" if oldest["pid"] else "as a superuser sees it"
    todo = f"end the listening session that has been in a transaction for longest, {who}"
    return Finding("notify queue", "failed" if row["usage"] >= full else "warning", said, todo)


async def notify_waits(fetch: Fetch, *, looks: int = LOOKS, pause: float = 0.05) -> Finding:
    """Whether commits that NOTIFY wait for each other. A short wait is no fault, so most looks must see one."""
    seen = []
    for _ in range(looks):
        (row,) = await fetch(plain_query("notify_waits"))
        seen.append(row["waiting"])
        await anyio.sleep(pause)
    result = partial(Finding, "notify lock")
    if sum(map(bool, seen)) <= looks // 2:
        logged = "" if row["logged"] else "; log_lock_waits = on would tell of longer waits"
        return result("ok", f"commits that NOTIFY do not queue up{logged}")
    holder = f", which process {row['pid']} holds" if row["pid"] else ""
    said = f"up to {max(seen):,} commits wait for the lock of NOTIFY{holder}"
    todo = "mint several rows in one transaction, or without the bell: SET LOCAL reactor.silent = on"
    return result("warning", said, todo)


async def snapshots(fetch: Fetch, *, old: float = OLD) -> Finding:
    (row,) = await fetch(plain_query("snapshots"))
    result = partial(Finding, "old snapshots")
    if row["age"] is not None and row["age"] > old:
        who = f"process {row['pid']} of role {row['role']} ({row['application'] or 'no application_name'})"
        said = f"{who} has had a transaction open for {row['age']:,.0f} s: dead rows stay, and claims slow down"
        return result("warning", said, f"end it: SELECT pg_terminate_backend({row['pid']})")
    if row["slot"] is not None:
        said = f"replication slot {row['slot']} has no client, and keeps dead rows"
        return result("warning", said, f"connect its client, or SELECT pg_drop_replication_slot('{row['slot']}')")
    if row["hidden"]:
        said = f"this role may not see the transactions of {row['hidden']:,} other sessions"
        return result("unknown", said, "GRANT pg_read_all_stats to it, or run this as a superuser")
    return result("ok", f"no transaction is open for more than {old:,.0f} s")
