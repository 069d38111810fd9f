"""The provider's list of predictions, page by page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from reactor.providers.bodies import UnreadableError
from reactor.providers.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST_PAGE = "/v1/predictions"  # the path that the SDK asks for
MOST_ENTRIES = 1000  # on a page; the API lists 100
KEPT = timedelta(hours=2)  # the API removes a prediction's seed after one hour; one more for a wrong clock
# How far the provider's clock may be behind the database's. Less than an hour: `retry --expired` buys again with the
# seed of an image that is an hour old, and must not find that image's prediction.
FORGIVEN = timedelta(minutes=55)
_LONGEST_QUERY = 4096  # characters
_NEW = datetime.max.replace(tzinfo=UTC)


def listed(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The predictions on a page. Raises UnreadableError."""
    results = body.get("results")
    if not isinstance(results, list):
        raise UnreadableError("a listing without results")
    if len(results) > MOST_ENTRIES:
        raise UnreadableError(f"more than {MOST_ENTRIES:,} predictions on a page")
    return [entry for entry in results if isinstance(entry, dict)]


def next_page(body: dict[str, Any], read: Sequence[str]) -> str | None:
    """The page after this one; None if this is the last. `read`: the pages so far. Raises UnreadableError.

    Only the query of `next` is used. A gateway passes the API's answers on, so host and path in them are the API's own.
    A request to these would bypass the gateway, or show our token to a stranger.
    """
    following = body.get("next")
    if following is None or following == "":
        return None
    query = following.partition("#")[0].partition("?")[2] if isinstance(following, str) else ""
    if not query.isprintable() or not 0 < len(query) <= _LONGEST_QUERY:
        raise UnreadableError("a listing without a usable next page")
    page = f"{FIRST_PAGE}?{query}"
    if page in read:
        raise UnreadableError("a listing that repeats a page")
    return page


def created_at(entry: dict[str, Any]) -> datetime:
    """When a listed prediction was created. One without a time counts as new."""
    return parse_time(entry.get("created_at")) or _NEW


def has_seed(entry: dict[str, Any], seed_input: str, seed: int) -> bool:
    """Whether a listed prediction was made with this seed."""
    return isinstance(entry.get("input"), dict) and entry["input"].get(seed_input) == seed
