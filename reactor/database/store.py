"""The queries about tokens, one short method for each. No other module of a worker runs them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal, cast

from reactor.database.connections import RowRefusedError
from reactor.database.rows import (
    KINDS,
    Abandoned,
    Answer,
    Intent,
    Rescued,
    batch_of,
    claim_of,
    fences,
    outcome_columns,
    start_of,
)
from reactor.database.table import TokensTable, plain_query
from reactor.failpoints import reached
from reactor.tokens import FRONT, Waiting, known_as

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import asyncpg

    from reactor.database.accounting import Accounting
    from reactor.database.session import Session
    from reactor.text.redaction import Redactor
    from reactor.tokens import Batch, Bought, Claim, Key, Outcome, Place, Rejected


async def gauges(session: Session, table: TokensTable) -> asyncpg.Record:
    """How many tokens wait, how long, and how full the NOTIFY queue is: see the query. Raises DatabaseError."""
    return (await session.fetch(table.query("gauges"), table.relation))[0]


class Store:
    """The queries of one worker, each on the connection of its role.

    The connection `maintenance` is for what is not about one claim: the sweep, the rescuer, the gate, rights, pruning.
    """

    def __init__(
        self,
        table: TokensTable,
        redact: Redactor,
        *,
        claims: Session,
        writes: Session,
        renewals: Session,
        maintenance: Session,
        lease: float,
        create_interval: float,
        accounting: Accounting,
    ) -> None:
        self.table = table
        self.availability = maintenance.availability
        self.maintenance = maintenance
        self.redact = redact
        self._claims, self._writes, self._renewals = claims, writes, renewals
        self._lease = lease
        self._create_interval = create_interval
        self._accounting = accounting
        self._next_due = table.query("next_due")
        self._claim = {kinds: table.query("claim", after=kinds) for kinds in KINDS}
        self._look = {kinds: table.query("look", after=kinds) for kinds in KINDS}
        self._claim_among = table.query("claim", among=True)
        self._abandoned, self._rescue = map(table.query, ("abandoned", "rescue"))
        self._renew, self._record, self._censor, self._settle = map(
            table.query, ("renew", "record", "censor", "settle")
        )

    async def claim(self, slots: int, worker: int, after: Place = FRONT) -> Batch:
        """Claim up to `slots` tokens behind `after`, under the key `worker`, in mint order."""
        kinds, keys = start_of(after)
        return await self._claimed(self._claim[kinds], slots, worker, keys)

    async def claim_among(self, tokens: Sequence[Key], worker: int) -> Batch:
        """Claim those of `tokens` that can be claimed now, as `claim` does."""
        return await self._claimed(self._claim_among, len(tokens), worker, [tokens])

    async def _claimed(self, query: str, slots: int, worker: int, more: Sequence[Any]) -> Batch:
        asked_at = time.monotonic()
        rows = await self._claims.fetch(query, self._create_interval, slots, worker, self._lease, *more)
        await reached("claimed")
        return batch_of(rows, worker, asked_at)

    async def look(self, tokens: int, after: Place) -> list[Waiting]:
        """Name up to `tokens` tokens behind `after` that a claim would take, in its order."""
        kinds, keys = start_of(after)
        rows = await self._claims.fetch(self._look[kinds], tokens, *keys)
        return [Waiting(row["id"], known_as(row["token_id"], row["id"]), row["fresh"]) for row in rows]

    async def fail_if_unreadable(self, token: Key) -> str | None:
        """Fail a waiting token if PROMPT_SQL raises for its row; return the reason, None if it did not fail.

        The reason does not repeat the server's message, because that may repeat the row.
        """
        if not isinstance(self.table.prompt, str):
            return None
        try:
            await self._claims.fetch(self.table.query("prompt_of"), token)
        except RowRefusedError as error:
            reason = f"PROMPT_SQL raises {error.kind} for this token"
            failed = await self._claims.fetch(self.table.query("fail_unclaimed"), token, reason)
            return reason if failed else None
        return None

    async def abandoned(
        self,
        tokens: int,
        worker: int,
        *,
        renewed_every: float,
        known: Collection[Key],
        uptime: float,
        after: Key,
        held: int,
    ) -> tuple[list[Abandoned], Key | None]:
        """Find up to `tokens` tokens that their holders cannot finish, our own lost claims included.

        It walks through `held` tokens behind the key `after`, and also returns the last key, None if it saw all tokens.
        """
        rows = await self.maintenance.fetch(
            self._abandoned, tokens, self._lease, renewed_every, list(known), [worker, -worker], uptime, after, held
        )
        found = [
            Abandoned(id=row["id"], epoch=row["epoch"], lease_ends_at=row["lease_ends_at"], owner=row["owner"])
            for row in rows
            if row["id"] is not None
        ]
        return found, rows[0]["last"]

    async def rescue(self, abandoned: Sequence[Abandoned], worker: int, *, most_rescues: int) -> list[Rescued]:
        """Take over those of the tokens that nobody has changed since `abandoned` saw them."""
        asked_at = time.monotonic()
        await reached("before_rescue")
        rows = await self._claims.fetch(
            self._rescue,
            [token.id for token in abandoned],
            [token.epoch for token in abandoned],
            [token.lease_ends_at for token in abandoned],
            [token.owner for token in abandoned],
            worker,
            self._lease,
            most_rescues,
            self._accounting.rescued(),
        )
        await reached("rescued")
        return [
            Rescued(
                # A claim of our own may be a rescue whose answer was lost: a dead worker's request may be in flight.
                claim_of(row, worker, asked_at, rescued=row["owner"] != "own" or row["rescues"] > 0),
                row["owner"],
                row["error"] if row["failed"] else None,
            )
            for row in rows
        ]

    async def next_due(self) -> float | None:
        """Seconds until a claim could find something; None if nothing waits for a known time."""
        rows = await self.maintenance.fetch(self._next_due, self._create_interval)
        return rows[0]["due_in"] if rows else None

    async def renew(self, claims: Sequence[Claim]) -> dict[Key, bool]:
        """Renew the leases; return for each token still held whether it was renewed; False: locked for now."""
        await reached("before_renew")
        rows = await self._renewals.fetch(self._renew, *fences(claims), self._lease)
        await reached("renewed")
        return {row["id"]: row["renewed"] for row in rows}

    async def record(self, bought: Sequence[Bought]) -> list[Answer]:
        """Write prediction ids down; return the answers in the order of `bought`."""
        claims = [each.claim for each in bought]
        await reached("before_record")
        rows = await self._writes.fetch(
            self._record,
            *fences(claims),
            [each.prediction_id for each in bought],
            [claim.seed for claim in claims],
            self._accounting.budget,
        )
        await reached("recorded")
        answers: dict[Key, Answer] = {row["id"]: "won" if row["recorded"] else "locked" for row in rows}
        return [answers.get(claim.id, "lost") for claim in claims]

    async def censor(self, rejected: Rejected) -> Intent | Literal["locked"] | None:
        """Switch to the fallback prompt; return the new intent, None if the token was lost."""
        claim, history = rejected.claim, self._accounting.rejected(rejected)
        error, bought = self.redact(rejected.error), rejected.prediction_id
        await reached("before_censor")
        rows = await self._writes.fetch(
            self._censor,
            claim.id,
            claim.epoch,
            claim.worker,
            rejected.attempts,
            error,
            bought,
            history,
            self._accounting.budget,
        )
        await reached("censored")
        if not rows:
            return None
        return "locked" if rows[0]["seed"] is None else Intent(**rows[0])

    async def settle(self, outcomes: Sequence[Outcome]) -> list[Answer]:
        """Settle tokens in one statement; return the answers in the order of the outcomes."""
        claims = [outcome.claim for outcome in outcomes]
        columns = outcome_columns(outcomes, self.redact, self._accounting)
        await reached("before_settle")
        answers = await self._writes.fetch(self._settle, *fences(claims), *columns, self._accounting.budget)
        await reached("settled")
        by_fence = {(row["id"], row["epoch"]): cast("Answer", row["answer"]) for row in answers}
        return [by_fence[claim.fence] for claim in claims]

    async def prune_history(self, days: int, rows: int) -> int:
        """Remove up to `rows` entries of the history that are older than `days` days; return how many those were."""
        return int((await self.maintenance.fetch(plain_query("prune_history"), days, rows))[0]["pruned"])

    async def unfinished(self) -> bool:
        """Whether any token is detected or generating."""
        return bool((await self.maintenance.fetch(self.table.query("unfinished")))[0]["unfinished"])

    async def close_idle(self) -> None:
        """Close idle connections; but keep that of the claims working, because no mint may wait for it to open."""
        for session in (self._writes, self._renewals):
            await session.close_if_idle()
        await self._claims.prove()

    async def give_up_a_connection(self) -> None:
        """Close the connections that can be done without, because the listener gets none."""
        for session in (self._writes, self._renewals, self._claims):
            await session.give_up()

    async def ring(self, channel: str) -> None:
        """Ring a channel, from a connection that does not listen to it."""
        await self.maintenance.fetch(plain_query("ring"), channel)
