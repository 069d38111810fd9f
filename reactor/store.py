"""What the worker says to the database: one short method per query, and the only module that knows them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, assert_never, cast

from reactor.table import TokensTable, described, plain_query
from reactor.tokens import Claim, Failed, Released, Retry, Succeeded

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    import asyncpg

    from reactor.database import Session
    from reactor.redaction import Redactor
    from reactor.tokens import Outcome

Answer = Literal["won", "already", "lost"]


@dataclass(frozen=True, slots=True)
class Rescued:
    """What a rescue took over: tokens to go on with, and those that died too often."""

    claims: list[Claim]
    failed: list[tuple[int, str]]  # token_id, reason
    recovered: int  # those that a dead worker or another program had left


async def discover(session: Session, tokens_table: str) -> TokensTable:
    """Look the tokens table up. Raises TableError, DatabaseError."""
    rows = await session.fetch(plain_query("discover"), tokens_table)
    return described(dict(rows[0]) if rows else None, tokens_table)


class Store:
    """The queries of one worker, each on the connection of its role."""

    def __init__(  # noqa: PLR0913  (each is a value that queries need)
        self,
        table: TokensTable,
        redact: Redactor,
        *,
        claims: Session,
        writes: Session,
        renewals: Session,
        rest: Session,
        lease: float,
        create_interval: float,
    ) -> None:
        self.table = table
        self._redact = redact
        self._claims, self._writes, self._renewals, self._rest = claims, writes, renewals, rest
        self._lease = lease
        self._create_interval = create_interval
        self._claim, self._rescue, self._next_due = map(table.query, ("claim", "rescue", "next_due"))
        self._renew, self._record, self._censor, self._settle = map(
            table.query, ("renew", "record", "censor", "settle")
        )

    async def claim(self, slots: int, worker: int) -> list[Claim]:
        """Claim up to `slots` tokens under the key `worker`, in mint order."""
        asked_at = time.monotonic()
        rows = await self._claims.fetch(self._claim, slots, worker, self._lease, self._create_interval)
        return [_claim(row, worker, asked_at, age=row["age"], probe=row["probe"]) for row in rows]

    async def rescue(  # noqa: PLR0913  (what decides whose tokens may be taken)
        self, slots: int, worker: int, *, renewed_every: float, held: Iterable[UUID], uptime: float, most_rescues: int
    ) -> Rescued:
        """Take over up to `slots` tokens that nobody can finish, our own lost claims included."""
        asked_at = time.monotonic()
        keys = [worker, -worker]
        rows = await self._claims.fetch(
            self._rescue, slots, worker, self._lease, renewed_every, list(held), keys, uptime, most_rescues
        )
        return Rescued(
            claims=[_claim(row, worker, asked_at, rescued=row["owner"] != "own") for row in rows if not row["failed"]],
            failed=[(row["token_id"], row["error"]) for row in rows if row["failed"]],
            recovered=sum(row["owner"] != "own" for row in rows),
        )

    async def next_due(self) -> float | None:
        """Seconds until a claim could find something; None where nothing waits for a known time."""
        rows = await self._rest.fetch(self._next_due, self._create_interval)
        return rows[0]["due_in"] if rows else None

    async def renew(self, claims: Sequence[Claim]) -> set[UUID]:
        """Renew the leases; return the ids still held."""
        rows = await self._renewals.fetch(self._renew, *_fences(claims), self._lease)
        return {row["id"] for row in rows}

    async def record(self, bought: Sequence[tuple[Claim, str]]) -> set[UUID]:
        """Write prediction ids down; return the ids of the tokens still held."""
        claims = [claim for claim, _ in bought]
        rows = await self._writes.fetch(self._record, *_fences(claims), [prediction for _, prediction in bought])
        return {row["id"] for row in rows}

    async def censor(self, claim: Claim, attempts: int, error: str) -> asyncpg.Record | None:
        """Turn to the fallback prompt; return the new seed and seeded_at, None where the token was lost."""
        rows = await self._writes.fetch(
            self._censor, claim.id, claim.epoch, claim.worker, attempts, self._redact(error)
        )
        return rows[0] if rows else None

    async def settle(self, outcomes: Sequence[Outcome]) -> list[Answer]:
        """Let tokens go, in one statement; return the answers in the order of the outcomes."""
        rows = [_row(outcome, self._redact) for outcome in outcomes]
        answers = await self._writes.fetch(
            self._settle, *_fences([outcome.claim for outcome in outcomes]), *map(list, zip(*rows, strict=True))
        )
        by_id = {answer["id"]: cast("Answer", answer["answer"]) for answer in answers}
        return [by_id[outcome.claim.id] for outcome in outcomes]

    async def unfinished(self) -> bool:
        """Whether any token is detected or generating."""
        return bool((await self._rest.fetch(self.table.query("unfinished")))[0]["unfinished"])

    async def pause_intake(self, seconds: float | None, reason: str) -> bool | None:
        """Close the gate for the fleet, None: without end; return whether it was open, None: closed for longer."""
        rows = await self._rest.fetch(plain_query("pause_intake"), seconds, self._redact(reason))
        return rows[0]["was_open"] if rows else None

    async def open_intake(self, reason: str | None) -> str | None:
        """Open the gate, only where it was closed for `reason` if given; return what it had been closed for."""
        rows = await self._rest.fetch(plain_query("open_intake"), reason)
        return rows[0]["reason"] or "" if rows else None

    async def intake(self) -> asyncpg.Record:
        """How the gate stands: paused, reason, resumes_in."""
        return (await self._rest.fetch(plain_query("intake")))[0]

    async def ring(self, channel: str) -> None:
        """Ring a channel, from a connection that does not listen to it."""
        await self._rest.fetch(plain_query("ring"), channel)


def _claim(  # noqa: PLR0913  (the ways in which a claim and a rescue differ)
    row: asyncpg.Record,
    worker: int,
    asked_at: float,
    *,
    age: float | None = None,
    probe: bool = False,
    rescued: bool = False,
) -> Claim:
    names = ("id", "token_id", "epoch", "prompt", "attempts", "censored", "seed", "seeded_at", "seed_was_set")
    return Claim(
        **{name: row[name] for name in names},
        prediction_id=row["prediction_id"],
        worker=worker,
        asked_at=asked_at,
        age=age,
        probe=probe,
        rescued=rescued,
    )


def _fences(claims: Sequence[Claim]) -> tuple[list[UUID], list[int], list[int]]:
    return [claim.id for claim in claims], [claim.epoch for claim in claims], [claim.worker for claim in claims]


def _row(outcome: Outcome, redact: Redactor) -> tuple[Any, ...]:
    """status, image_url, error, prediction_id, attempts, due_in, purchase_over: as settle.sql takes them."""
    match outcome:
        case Succeeded():
            return ("uploading", outcome.image_url, None, outcome.prediction_id, outcome.claim.attempts, None, False)
        case Retry():
            return (
                "detected", None, redact(outcome.error), outcome.prediction_id,
                outcome.attempts, outcome.due_in, outcome.purchase_over,
            )  # fmt: skip
        case Failed():
            return ("failed", None, redact(outcome.error), outcome.prediction_id, outcome.attempts, None, False)
        case Released():
            reason = redact(outcome.reason) if outcome.reason is not None else None
            return (
                "detected", None, reason, outcome.prediction_id,
                outcome.claim.attempts, outcome.due_in, outcome.purchase_over,
            )  # fmt: skip
        case _:
            assert_never(outcome)
