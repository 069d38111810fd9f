"""How much the sandbox accepts and keeps. The limits are there so that no client can make it run out of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LONGEST = 31_536_000.0  # seconds: a year, so that every moment can still be written as a date
LARGEST_BODY = 10_000_000  # bytes of a request
PREDICTIONS = 100_000  # that are kept; older ones are forgotten
PREDICTIONS_BYTES = 32_000_000  # of the requests that made the predictions that are kept
REQUESTS = 200_000  # that are kept; older ones are forgotten
LONGEST_PATH = 500  # characters of a request's path that are kept
FAULTS = 1_000  # in force at a time
LONGEST_TEXT = 4_000  # characters of a fault's text
DIRECTING = 10_000  # prompts with a directive whose faults are counted
LONGEST_DIRECTIVE = 1_000  # characters of the directive in a prompt


def is_within(value: float | None, least: float, most: float) -> bool:
    """Whether a number is between two finite bounds. NaN never is, and None always is."""
    return value is None or least <= value <= most


class BoundedBodies:
    """Refuses a request as soon as more than LARGEST_BODY bytes of its body have arrived."""

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
