"""Named places in the engine where a test makes something go wrong: a death, an error, a stop.

Inert unless switched on, and only tests do that: nothing here reads the environment. A statement's two points stand
around it: before the database is asked, and once it has answered and nobody knows yet.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

NAMES = frozenset(
    {
        "listening",  # LISTEN is done, nothing has been looked for since
        "before_watch",  # a slot is free, and mints may still be quiet
        "on_watch",  # mints ring, and what came while they were quiet has not been looked for
        "claimed",  # tokens are ours, and no attempt has begun
        "before_look",  # something may have been bought with the seed
        "before_create",  # the lease has yet to be checked
        "before_send",  # the lease was found running, and nothing has left
        "request_sent",  # a create was answered, and the answer is not read
        "created",  # bought, and only this task knows of it
        "before_record",
        "recorded",
        "result_seen",  # the image is there, and only this task knows of it
        "before_censor",
        "censored",  # the fallback's intent is written, nothing is bought with it
        "before_settle",
        "settled",
        "before_release",  # a stop has cut an attempt short
        "released",
        "before_renew",
        "renewed",
        "before_rescue",  # an abandoned token was seen
        "rescued",  # it is ours, and no attempt has begun
    }
)

_on: dict[str, Callable[[], Awaitable[None]]] = {}


async def reached(name: str) -> None:
    """Do what was switched on for this point, the first time it is reached."""
    if _on and (action := _on.pop(name, None)) is not None:
        await action()


@contextmanager
def switched_on(name: str, action: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """Have `action` happen once at a point. Raises ValueError for a point that there is not."""
    if name not in NAMES:
        raise ValueError(f"no failpoint {name}; there are {', '.join(sorted(NAMES))}")
    _on[name] = action
    try:
        yield
    finally:
        _on.pop(name, None)
