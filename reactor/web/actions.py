"""What a reader may do: retry tokens, close and open the gate. Each action is logged with who did what."""

from __future__ import annotations

import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reactor import events
from reactor.operations import gate
from reactor.operations.tokens import (
    Count,
    count_matching,
    failures_among,
    failures_by_cause,
    retry_matching,
    retry_tokens,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reactor.operations.gate import Paused, Resumed
    from reactor.operations.tokens import Causes, TokenFilter
    from reactor.telemetry import Telemetry
    from reactor.web.reads import Reads

WITHIN = 4.0  # seconds after which a retry of many begins no further step
MOST_IDS = 1_000  # tokens of one request
LONGEST_ID = 100  # characters
_LOGGED_IDS = 20


@dataclass(frozen=True, slots=True)
class Retried:
    """Tokens that were set back, and tokens that somebody else has locked; not `done`: more match."""

    tokens: int
    locked: int
    done: bool


class Actions:
    """`who` names the client, as the guard does."""

    def __init__(self, reads: Reads, telemetry: Telemetry) -> None:
        self._reads = reads
        self._telemetry = telemetry

    async def retry(self, who: str, token_ids: Sequence[str]) -> set[str]:
        """Set these tokens back, if they failed; return those that were set back."""
        table = await self._reads.table()
        retried = await retry_tokens(self._reads.session, table, token_ids)
        self._log(who, "retry", token_ids=sorted(retried)[:_LOGGED_IDS], count=len(retried))
        return retried

    async def dry_run(self, wanted: TokenFilter) -> tuple[Count, Causes]:
        """Count what `retry_all` would set back, and group it by cause."""
        table = await self._reads.table()
        number = await count_matching(self._reads.session, table, wanted)
        return number, await failures_by_cause(self._reads.session, table, wanted)

    async def dry_run_of(self, token_ids: Sequence[str]) -> tuple[Count, Causes]:
        """Count which of these `retry` would set back, and group them by cause."""
        causes = await failures_among(self._reads.session, await self._reads.table(), token_ids)
        return Count(sum(each.tokens for each in causes.causes), exact=True), causes

    async def retry_all(self, who: str, wanted: TokenFilter) -> Retried:
        """Set back all failed tokens that match, as many as WITHIN allows."""
        table, until = await self._reads.table(), time.monotonic() + WITHIN
        tokens, locked, done = 0, 0, True
        try:
            async with aclosing(retry_matching(self._reads.session, table, wanted)) as steps:
                async for step in steps:
                    tokens, locked = tokens + step.retried, locked + step.locked
                    if time.monotonic() > until:
                        done = False
                        break
        finally:
            self._log(
                who, "retry", matching=wanted.matching, since_seconds=wanted.since_seconds, count=tokens, done=done
            )
        return Retried(tokens, locked, done)

    async def pause(self, who: str, seconds: float | None, reason: str) -> Paused:
        """Close the gate, unless the day's budget keeps it closed for longer."""
        await self._reads.table()  # its error says what to do if nothing is migrated
        paused = await gate.pause(self._reads.session, seconds=seconds, reason=reason, redact=self._reads.redact)
        self._log(who, "pause", seconds=seconds, reason=paused.reason)
        return paused

    async def resume(self, who: str) -> Resumed | None:
        """Open the gate, unless the day's budget keeps it closed; None if it was open."""
        resumed = await gate.resume(self._reads.session, await self._reads.table())
        self._log(who, "resume", reason=resumed and resumed.reason)
        return resumed

    def _log(self, who: str, action: str, **fields: Any) -> None:
        self._reads.overview.forget()
        self._telemetry.emit(events.HTTP_ACTED, action=action, who=who, **fields)
