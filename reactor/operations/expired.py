"""Sets tokens back whose image the provider deleted before the next stage took it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reactor.operations.tokens import STEP, Count, Step, TokenFilter
from reactor.operations.verdict import PROVIDER_KEEPS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from reactor.database.session import Session
    from reactor.database.table import TokensTable

UPLOADING = TokenFilter(status="uploading")


async def count_expired(
    session: Session,
    table: TokensTable,
    wanted: TokenFilter = UPLOADING,
    *,
    step: int = STEP,
    kept: float = PROVIDER_KEEPS,
) -> Count:
    """Count the tokens that match and whose image is gone. `kept`: seconds for which the provider keeps an image."""
    query, tokens, begin_at, begin = table.query("count_expired"), 0, None, None
    while True:
        (row,) = await session.fetch(query, begin_at, step, *wanted.parameters, begin, kept)
        tokens, begin_at, begin = tokens + row["tokens"], row["next_at"], row["next"]
        if begin is None:
            return Count(tokens, exact=True)


async def retry_expired(
    session: Session,
    table: TokensTable,
    wanted: TokenFilter = UPLOADING,
    *,
    history: bool = True,
    step: int = STEP,
    kept: float = PROVIDER_KEEPS,
) -> AsyncGenerator[Step, None]:
    """Begin all these tokens anew with the same seed, in steps. A finished step stays, whatever happens then.

    `history`: whether an entry is written, by which an audit explains the second purchase of the seed.
    """
    query, begin_at, begin = table.query("retry_expired"), None, None
    while True:
        (row,) = await session.fetch(query, begin_at, step, *wanted.parameters, begin, kept, history)
        yield Step(row["retried"], row["locked"])
        begin_at, begin = row["next_at"], row["next"]
        if begin is None:
            return
