"""Walks the provider's listing back to a time, for an audit: every prediction of the account, whoever bought it.

A day's listing may have thousands of pages, so they are read slowly, and a page that cannot be read is asked for again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from reactor.backoff import jittered
from reactor.errors import RateLimitedError, TransientError
from reactor.providers.bodies import UnreadableError
from reactor.providers.limits import Limits
from reactor.providers.listing import FIRST_PAGE, created_at, listed, next_page
from reactor.providers.outputs import page_about
from reactor.providers.times import parse_time
from reactor.providers.transport import AnsweredError
from reactor.text.echoes import Echoes
from reactor.text.messages import message_of
from reactor.tokens import PREDICTION_ID

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from datetime import datetime

    from reactor.providers.replicate import ReplicateProvider

T = TypeVar("T")

GENTLE = Limits(reads_per_second=5.0, reads_at_once=1.0, most_pages=20_000)  # a tenth of what the account may read
TRIES = 8  # for a page
FIRST_TRIES = 3  # for the first page, if no answer comes at all: then the provider cannot be reached
LONGEST_PAUSE = 30.0  # seconds between two of them
_LARGEST_SEED = 2**31


@dataclass(frozen=True, slots=True)
class Listed:
    """A prediction as the listing shows it."""

    id: str
    created_at: datetime | None
    status: str
    seed: int | None  # None: it has none, or nobody can tell any more
    forgotten: bool  # the provider has removed its input
    ours: bool  # it has exactly the inputs that a worker sends, so a worker may have bought it
    web_url: str | None


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a worker sends as the model's input, besides the prompt."""

    seed_input: str  # the name of the seed's input; empty: the model has none
    fixed: Mapping[str, Any]

    def seed_of(self, given: Mapping[str, Any]) -> int | None:
        """The seed in an input, if it has one that a worker may have drawn."""
        seed = given.get(self.seed_input) if self.seed_input else None
        is_seed = isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < _LARGEST_SEED
        return seed if is_seed else None

    def are(self, given: Mapping[str, Any]) -> bool:
        """Whether these are the inputs that were given."""
        names = {*self.fixed, "prompt"} | ({self.seed_input} if self.seed_input else set())
        fixed = {name: value for name, value in self.fixed.items() if name not in {"prompt", self.seed_input}}
        seeded = not self.seed_input or self.seed_of(given) is not None
        return seeded and given.keys() == names and all(given[name] == value for name, value in fixed.items())


async def walk(provider: ReplicateProvider, since: datetime, inputs: Inputs, *, tries: int = TRIES) -> list[Listed]:
    """All predictions that were created at `since` or later. Raises GenerationError if the listing cannot be read."""
    found: dict[str, Listed] = {}
    try:
        read, page = await _first(provider, since, tries)
    except UnreadableError as error:
        raise TransientError(message_of(error)) from error
    while True:
        try:
            entries = listed(page)
            found |= {
                each.id: each for each in _shown(entries, inputs) if not each.created_at or each.created_at >= since
            }
            if any(created_at(entry) < since for entry in entries):
                return list(found.values())
            following = next_page(page, read)
        except UnreadableError as error:
            raise TransientError(f"The provider's listing cannot be read: {message_of(error)}") from error
        if following is None:
            return list(found.values())
        if len(read) >= GENTLE.most_pages:
            raise TransientError("The listing has too many pages")
        read.append(following)
        page = await patiently(lambda: provider.page(read[-1]), tries=tries)


async def _first(provider: ReplicateProvider, since: datetime, tries: int) -> tuple[list[str], dict[str, Any]]:
    """The first page. The API can begin at a time, but a server that imitates it may refuse that."""
    bounded = f"{FIRST_PAGE}?created_after={since:%Y-%m-%dT%H:%M:%SZ}"
    try:
        return [bounded], await patiently(lambda: provider.page(bounded), tries=tries, unanswered=FIRST_TRIES)
    except TransientError as error:
        if not _refused(error):
            raise
    return [FIRST_PAGE], await patiently(lambda: provider.page(FIRST_PAGE), tries=tries)


async def patiently(ask: Callable[[], Awaitable[T]], *, tries: int = TRIES, unanswered: int = TRIES) -> T:
    """Ask again and again for what cannot be read for now, but only `unanswered` times if no answer comes at all.

    Raises GenerationError.
    """
    silences = 0
    for tried in range(1, tries + 1):
        try:
            return await ask()
        except TransientError as error:
            silences += not error.answered
            if tried == tries or silences == unanswered or _refused(error):
                raise
            asked = error.retry_after if isinstance(error, RateLimitedError) else None
            await anyio.sleep(jittered(min(LONGEST_PAUSE, 0.1 * 2**tried if asked is None else asked), 0.1))
    raise AssertionError("unreachable")


def _refused(error: TransientError) -> bool:
    """Whether the request itself was refused, so that it would be refused again."""
    return isinstance(error.__cause__, AnsweredError) and error.__cause__.answer.status in {400, 404, 422}


def _shown(entries: list[dict[str, Any]], inputs: Inputs) -> Iterator[Listed]:
    for entry in entries:
        name, given = entry.get("id"), entry.get("input")
        if not isinstance(name, str) or not PREDICTION_ID.fullmatch(name):
            continue  # it is none of ours: a worker would not have recorded it
        known = given if isinstance(given, dict) else {}
        status = entry.get("status")
        yield Listed(
            id=name,
            created_at=parse_time(entry.get("created_at")),
            status=status if isinstance(status, str) and status.isascii() and status.isalpha() else "unknown",
            seed=inputs.seed_of(known),
            forgotten=not known,
            ours=inputs.are(known),
            web_url=page_about(entry, Echoes()),
        )
