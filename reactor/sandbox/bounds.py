"""How much the sandbox accepts and keeps. The limits are there so that no client can make it run out of memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LONGEST = 31_536_000.0  # seconds: a year, so that every moment can still be written as a date
LONGEST_PATH = 500  # characters of a request's path that are kept
FAULTS = 1_000  # in force at a time
LONGEST_TEXT = 4_000  # characters of a fault's text
LONGEST_DIRECTIVE = 1_000  # characters of the directive in a prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much one sandbox accepts and keeps. A `Sandbox` gets one; tests use smaller numbers."""

    largest_body: int = 10_000_000  # bytes of a request
    predictions: int = 100_000  # that are kept; older ones are forgotten
    predictions_bytes: int = 32_000_000  # of the requests that made the predictions that are kept
    requests: int = 200_000  # that are kept; older ones are forgotten
    directing: int = 10_000  # prompts with a directive whose faults are counted


BOUNDS = Bounds()


def is_within(value: float | None, least: float, most: float) -> bool:
    """Whether a number is between two finite bounds. NaN never is, and None always is."""
    return value is None or least <= value <= most


class BoundedBodies:
    """Refuses a request as soon as more than `largest` bytes of its body have arrived."""

    def __init__(self, app: ASGIApp, *, largest: int) -> None:
        self._app = app
        self._largest = largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._largest:
                raise HTTPException(413)
            return message

        await self._app(scope, bounded, send)
