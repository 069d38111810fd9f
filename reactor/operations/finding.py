"""What a check found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from reactor.text.messages import message_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

State = Literal["ok", "warning", "failed", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer of one check. Each text is one sentence, not redacted."""

    name: str
    state: State
    found: str  # for `unknown`: why the check could not be made
    todo: str | None = None  # if something is wrong


class UnknownError(Exception):
    """A check cannot be made; the message says why."""


async def made(
    name: str, check: Callable[[], Awaitable[Finding]], reason: Callable[[Exception], str | None]
) -> Finding:
    """Make a check. If it raises an error for which there is a `reason`, its answer is unknown."""
    try:
        return await check()
    except Exception as error:
        if (why := message_of(error) if isinstance(error, UnknownError) else reason(error)) is None:
            raise
        return Finding(name, "unknown", why)
