"""Waiting for the end of a prediction."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio

from reactor.errors import RateLimitedError, TransientError
from reactor.providers.polling import PollHistory, PollSchedule
from reactor.text.messages import message_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from reactor.providers import Prediction


async def until_ended(
    bought: Prediction, poll: Callable[[], Awaitable[Prediction]], history: PollHistory, report: Callable[[str], None]
) -> Prediction:
    """Poll until the prediction has ended. A failed poll says nothing about it. `report` is called after each poll."""
    now, schedule = bought, PollSchedule(history, time.monotonic(), bought_in=bought.bought_in)
    while not now.ended:
        if pause := schedule.pause(time.monotonic()):
            await anyio.sleep(pause)
            continue
        polled_at = time.monotonic()
        try:
            now = await poll()
        except TransientError as error:
            report(f"the last poll failed: {message_of(error)}")
            wait, throttled = error.retry_after or 0.0, isinstance(error, RateLimitedError)
            schedule.failed(polled_at, time.monotonic(), wait=wait, throttled=throttled)
        else:
            report(f"still {now.doing or 'not ended'}")
            schedule.answered(polled_at, time.monotonic(), now)
    return now
