"""How much the sandbox takes and keeps, so that no client can make it run out of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LONGEST = 31_536_000.0  # seconds; a moment that far ahead can still be written as a date
LARGEST_BODY = 10_000_000  # bytes of a request
PREDICTIONS = 100_000  # the newest, which are kept
PREDICTIONS_BYTES = 32_000_000  # of the requests that made them
REQUESTS = 200_000  # the newest, which are remembered
LONGEST_PATH = 500  # characters of a request's path that are remembered
FAULTS = 1_000  # in force
LONGEST_TEXT = 4_000  # characters of a fault's text
DIRECTING = 10_000  # prompts whose faults are counted
LONGEST_DIRECTIVE = 1_000  # characters


def is_within(value: float | None, least: float, most: float) -> bool:
    """Whether a number is within two finite bounds, and not NaN. None is within any bounds."""
    return value is None or least <= value <= most


def keep_newest(kept: list[Any] | dict[Any, Any], most: int) -> None:
    """Forget the older half if there are more than `most`."""
    if len(kept) <= most:
        return
    older = len(kept) // 2
    if isinstance(kept, list):
        del kept[:older]
    else:
        for name in list(kept)[:older]:
            del kept[name]


class BoundedBodies:
    """Refuses a request once more than LARGEST_BODY of its body has come."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > LARGEST_BODY:
                raise HTTPException(413)
            return message

        await self._app(scope, bounded, send)
