"""Waiting for the end of a prediction."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio

from reactor.errors import RateLimitedError, TransientError
from reactor.providers.polling import Looks, Watch
from reactor.text.messages import message_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from reactor.providers import Prediction


async def until_ended(
    bought: Prediction, look: Callable[[], Awaitable[Prediction]], looks: Looks, seen: Callable[[str], None]
) -> Prediction:
    """Look until it has ended. A look that fails says nothing about the prediction; `seen` is told of each."""
    now, watch = bought, Watch(looks, time.monotonic(), bought_in=bought.bought_in)
    while not now.ended:
        if pause := watch.pause(time.monotonic()):
            await anyio.sleep(pause)
            continue
        looked_at = time.monotonic()
        try:
            now = await look()
        except TransientError as error:
            seen(f"the last look at it failed: {message_of(error)}")
            wait, throttled = error.retry_after or 0.0, isinstance(error, RateLimitedError)
            watch.failed(looked_at, time.monotonic(), wait=wait, throttled=throttled)
        else:
            seen(f"still {now.doing or 'not ended'}")
            watch.looked(looked_at, time.monotonic(), now)
    return now
