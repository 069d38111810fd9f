"""What an audit joins, as frozen values: the rows of our tables, and the entries of the history."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reactor.tokens import UNFINISHED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from decimal import Decimal

Place = tuple[str, str]  # a token: its table, as schema.name, and its key as text


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """A token, as its row is now."""

    at: Place
    token_id: str | None
    status: str
    seed: int | None
    prediction_id: str | None
    seeded_at: datetime | None

    @property
    def uses(self) -> bool:
        """Whether the token has its image, from the prediction that the row names."""
        return self.status not in UNFINISHED and self.status != "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """An entry of the history: see sql/attempts.sql."""

    id: int
    at: Place
    token_id: str | None
    epoch: int
    attempt: int | None
    outcome: str
    error: str | None
    seed: int | None
    prediction_id: str | None
    bought_at: datetime | None
    ended_at: datetime
    images: int | None
    cost: Decimal | None

    @property
    def concludes(self) -> bool:
        """Whether it says what became of its purchase for good. Otherwise another claim takes the purchase up."""
        return self.outcome in {"rejected", "failed", "lost"} or self.images is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the database knows, read after the listing. `since` and `now` are by the database's clock."""

    since: datetime
    now: datetime
    tokens: Sequence[TokenRow] = ()
    endings: Sequence[Ending] = ()
    history_since: datetime | None = None  # None: there is no history
    unread: Sequence[str] = ()  # our tables that could not be read
    seeded: bool = True  # whether purchases carry a seed


@dataclass(slots=True)
class Index:
    """The facts, sorted by what the audit looks them up by."""

    tokens_by_id: dict[str, TokenRow] = field(default_factory=dict)
    tokens_by_seed: dict[int, TokenRow] = field(default_factory=dict)
    endings_by_id: dict[str, list[Ending]] = field(default_factory=lambda: defaultdict(list))
    endings_by_seed: dict[int, list[Ending]] = field(default_factory=lambda: defaultdict(list))
    endings_by_token: dict[Place, list[Ending]] = field(default_factory=lambda: defaultdict(list))
    expired: set[str] = field(default_factory=set)  # predictions whose image the next stage did not take in time

    @classmethod
    def of(cls, facts: Facts) -> Index:
        """Sort the facts. Endings are in the order in which they ended."""
        index = cls()
        for token in facts.tokens:
            if token.prediction_id is not None:
                index.tokens_by_id[token.prediction_id] = token
            if token.seed is not None:
                index.tokens_by_seed[token.seed] = token
        for ending in sorted(facts.endings, key=lambda each: (each.ended_at, each.id)):
            index.endings_by_token[ending.at].append(ending)
            if ending.seed is not None:
                index.endings_by_seed[ending.seed].append(ending)
            if ending.prediction_id is not None:
                index.endings_by_id[ending.prediction_id].append(ending)
                if ending.outcome == "expired":
                    index.expired.add(ending.prediction_id)
        return index
