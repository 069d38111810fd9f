"""The provider's list of predictions, page by page."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx

from reactor.providers.transport import UnreadableError

_NEW = datetime.max.replace(tzinfo=UTC)


def page(body: dict[str, Any], base_url: str) -> tuple[list[dict[str, Any]], str | None]:
    """What is listed, and where the next page is; None: this is the last. Raises UnreadableError.

    A next page anywhere but at `base_url` is not followed: the token would go there too.
    """
    results, following = body.get("results"), body.get("next")
    if not isinstance(results, list) or not isinstance(following, str | None):
        raise UnreadableError("a listing without results")
    if following and not _same_origin(following, base_url):
        raise UnreadableError("the listing goes on at another host")
    return [entry for entry in results if isinstance(entry, dict)], following or None


def created_at(entry: dict[str, Any]) -> datetime:
    """When a listed prediction was made; one that does not say is taken for new."""
    try:
        made = datetime.fromisoformat(str(entry.get("created_at")))
    except ValueError:
        return _NEW
    return made if made.tzinfo else made.replace(tzinfo=UTC)


def _same_origin(url: str, base_url: str) -> bool:
    """Whether a URL, absolute or relative, leads to where `base_url` does. Raises httpx.InvalidURL."""
    here, there = httpx.URL(base_url), httpx.URL(base_url).join(url)
    return (there.scheme, there.host, there.port, there.userinfo) == (here.scheme, here.host, here.port, here.userinfo)
