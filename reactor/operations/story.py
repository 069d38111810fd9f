"""All that is known about one token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reactor.database.connections import DeniedError, RowRefusedError
from reactor.operations.history import of_token
from reactor.operations.overview import shown_id
from reactor.operations.tokens import Token, values_of
from reactor.text.foreign import fit
from reactor.tokens import known_as

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from reactor.database.session import Session
    from reactor.database.table import TokensTable
    from reactor.operations.history import Entry
    from reactor.tokens import Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """What a page shows of a token beside its row: see captions.sql. Durations are seconds."""

    prompt: str | None = None
    minted_for: float | None = None
    image_for: float | None = None
    due_in: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Story(Token):
    """One token, and what is known about it: see show.sql."""

    row_key: Key  # as the row has it
    epoch: int | str
    worker: str | None
    seed: int | None
    lease_ends_at: datetime | None
    prompt_characters: int | None
    caption: Caption
    history: list[Entry] | None  # the newest first; None: this role may not read it


async def story_of(session: Session, table: TokensTable, token_id: str) -> Story | None:
    """Read one token; None if there is no such token. Raises DatabaseError."""
    try:
        rows = await session.fetch(table.query("show"), token_id)
    except RowRefusedError as error:
        if (getattr(error.__cause__, "sqlstate", None) or "").startswith("22"):  # it does not fit the column's type
            return None
        raise
    if not rows:
        return None
    row = rows[0]
    captions = await captions_of(session, table, [str(row["id"])])
    try:
        history = await of_token(session, table, row["id"])
    except DeniedError:
        history = None
    return _story(row, captions.get(str(row["id"]), Caption()), history)


async def captions_of(session: Session, table: TokensTable, keys: Sequence[str]) -> dict[str, Caption]:
    """Read what a page shows of the tokens with these keys, by key. Raises DatabaseError."""
    rows = await session.fetch(table.query("captions"), list(keys)) if keys else []
    return {
        row["id"]: Caption(
            prompt=None if row["prompt"] is None else fit(row["prompt"]),
            minted_for=row["minted_for"],
            image_for=row["image_for"],
            due_in=row["due_in"],
        )
        for row in rows
    }


def _story(row: Any, caption: Caption, history: list[Entry] | None) -> Story:
    return Story(
        token_id=shown_id(row["token_id"] or str(row["id"])),
        row_key=row["id"],
        epoch=known_as(row["epoch"], row["id"]),
        worker=None if row["worker"] is None else str(row["worker"]).lstrip("-"),
        seed=row["seed"],
        lease_ends_at=row["lease_ends_at"],
        prompt_characters=row["prompt_characters"],
        caption=caption,
        history=history,
        **values_of(row),
    )
