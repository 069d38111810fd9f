"""Named places in the engine where a test makes something go wrong: a death, an error, a stop.

A point does nothing unless a test switches it on; the environment cannot. A statement has two points: one before it is
sent, and one after its answer has come and before any code has used it.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

NAMES = frozenset(
    {
        "listening",  # LISTEN is done, and no claim has been made since
        "before_watch",  # a slot is free, and mints may not ring yet
        "on_watch",  # mints ring, and the mints that did not ring have not been claimed yet
        "claimed",  # the tokens are claimed, and no attempt has begun
        "before_look",  # a prediction may have been bought with the seed
        "before_create",  # the lease is not checked yet
        "before_send",  # the lease is checked, and the request is not sent yet
        "request_sent",  # the create is answered, and the answer is not read
        "created",  # a prediction is bought, and only this task knows its id
        "before_record",
        "recorded",
        "result_seen",  # the image is there, and only this task knows its URL
        "before_censor",
        "censored",  # the row says that the fallback prompt is used, and nothing is bought with it
        "before_settle",
        "settled",
        "before_release",  # a stop has cut an attempt short
        "released",
        "before_renew",
        "renewed",
        "before_rescue",  # an abandoned token was seen
        "rescued",  # the abandoned token is claimed, and no attempt has begun
    }
)

_on: dict[str, Callable[[], Awaitable[None]]] = {}


async def reached(name: str) -> None:
    """Run the action that is switched on for this point, the first time the point is reached."""
    if _on and (action := _on.pop(name, None)) is not None:
        await action()


@contextmanager
def switched_on(name: str, action: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """Run `action` once at a point. Raises ValueError for an unknown point."""
    if name not in NAMES:
        raise ValueError(f"no failpoint {name}; there are {', '.join(sorted(NAMES))}")
    _on[name] = action
    try:
        yield
    finally:
        _on.pop(name, None)
