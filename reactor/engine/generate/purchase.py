"""Buying at most one prediction for a seed.

    recorded prediction? ──yes──▶ that one
      │ no
    seed set by an earlier claim? ──yes──▶ look ──found──▶ record it
      │ no                                  │ not there
      └───────────────▶ create ◀────────────┘
                          ├── accepted ──▶ record it
                          ├── refused, or never sent: an error with nothing bought
                          └── ambiguous ──▶ look for 10 s ──found──▶ record it
                                              └── not there: an error with nothing bought, due at once

Replicate has no idempotency key, so the seed is one of ours: random for each purchase, written by the claim before
anything can be sent, sent as the model's seed, and found again in the provider's listing. A prediction is bought only
by an attempt that knows that none carries its seed. The listing lags by seconds, so "not there" counts only 10 s after
a request could last have been sent: a rescued token waits that long after it was taken over; a token that is put back
while a create was under way is made due that much later; and an owner whose lease ran out by its own clock sends
nothing.

What is left: a create that reaches the provider more than 10 s after its answer was given up (a request held back
in a proxy, say), or one that the listing shows later than that, is bought twice. Every such chance is an ambiguous
create, and they are counted.
And a worker that freezes between its look at the lease and the socket, for longer than lease and those 10 s together,
sends when it wakes.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

import anyio

from reactor import events
from reactor.backoff import jittered
from reactor.errors import AmbiguousCreateError, GenerationError, PermanentError, TransientError
from reactor.failpoints import reached
from reactor.providers import Prediction
from reactor.text.messages import message_of
from reactor.tokens import Bought

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactor.engine.settle.settler import Settler
    from reactor.engine.timings import Timings
    from reactor.providers import Provider
    from reactor.telemetry import Telemetry
    from reactor.tokens import Claim

LOOK_BACK = timedelta(seconds=60)  # before the seed was written: the provider's clock is not the database's


class LeaseOverError(Exception):
    """The token may be somebody else's by now: nothing more is bought or written for it."""


class Purchase:
    """What one claim's seed bought. Recorded as soon as it is known, without waiting for the database."""

    def __init__(
        self,
        claim: Claim,
        *,
        provider: Provider,
        settler: Settler,
        telemetry: Telemetry,
        lease_runs: Callable[[], bool],
        timings: Timings,
    ) -> None:
        self._claim = claim
        self._timings = timings
        self._provider = provider
        self._settler = settler
        self._telemetry = telemetry
        self._lease_runs = lease_runs
        self.prediction = Prediction(claim.prediction_id) if claim.prediction_id else None
        self.last_seen = ""  # in a few words, for an attempt that ran out of time
        # Monotonic time before which "not there" is not believed; infinite while a create is under way.
        self._sure_at = claim.asked_at + timings.sure_after if claim.rescued else 0.0

    @property
    def sure_in(self) -> float:
        """Seconds until the next owner needs a single look to know what was bought."""
        if self.prediction:
            return 0.0
        return min(max(0.0, self._sure_at - time.monotonic()), self._timings.sure_after)

    @property
    def nothing_bought(self) -> bool:
        """Whether it is certain that this seed has bought nothing."""
        return self.prediction is None and self._sure_at == 0.0 and not self._claim.seed_was_set

    async def resume(self) -> Prediction | None:
        """Return what an earlier claim bought with this seed, None where it bought nothing."""
        if self.prediction is None and self._claim.seed_was_set and self._provider.seedable:
            self._own(await self._look())
            self._tell_what_is_out_of_reach()
        return self.prediction

    def _tell_what_is_out_of_reach(self) -> None:
        """Say that a prediction may have been bought which nobody can find: it is counted like an ambiguous create."""
        if self.prediction is None and self._claim.seeded_at < self._provider.finds_since:
            told = f"its seed is from {self._claim.seeded_at:%Y-%m-%d %H:%M} UTC, longer ago than the provider keeps"
            self._telemetry.emit(events.CREATE_AMBIGUOUS, token_id=self._claim.token_id, error_message=told)

    async def make(self, prompt: str) -> Prediction:
        """Buy. Raises LeaseOverError, and TransientError, due at once, where an unanswered create bought nothing."""
        await reached("before_create")
        if not self._lease_runs():
            raise LeaseOverError
        self._sure_at = float("inf")
        waited = time.monotonic() - self._claim.asked_at
        self._telemetry.emit(
            events.CREATE_SENT, token_id=self._claim.token_id, age_seconds=self._claim.age, waited_seconds=waited
        )
        self._see("without an answer to the create")
        try:
            prediction = await self._provider.create(prompt, self._claim.seed)
        except AmbiguousCreateError as error:
            prediction = await self._after_ambiguous(error)
        except GenerationError as error:
            self._sure_at = 0.0
            # Nothing could be looked for; what is left of a seed would only say that a create was sent blindly.
            error.purchase_over |= not self._provider.seedable
            raise
        await reached("created")
        self._own(prediction)
        return prediction

    async def image(self, prediction: Prediction) -> str:
        """Return the image's URL once the prediction ends; raise its error where it ends without."""
        self._see(f"still {prediction.doing}" if prediction.doing else "")
        return await self._provider.wait(prediction, self._see)

    def _see(self, told: str) -> None:
        self.last_seen = told

    def _own(self, prediction: Prediction | None) -> None:
        self._sure_at = 0.0
        self.prediction = prediction
        if prediction is not None:
            self._settler.record(Bought(self._claim, prediction.id))

    async def _after_ambiguous(self, error: AmbiguousCreateError) -> Prediction:
        """Find what an unanswered create bought."""
        self._telemetry.emit(events.CREATE_AMBIGUOUS, token_id=self._claim.token_id, error_message=message_of(error))
        if not self._provider.seedable:
            self._sure_at = 0.0
            raise self._sent_blindly(error) from error
        self._sure_at = time.monotonic() + self._timings.sure_after
        found = await self._look()
        if found is None:
            self._sure_at = 0.0
            raise TransientError(message_of(error), retry_after=0.0, answered=error.answered) from error
        return found

    def _sent_blindly(self, error: AmbiguousCreateError) -> GenerationError:
        """A model without a seed input leaves nothing to look for: its create is sent once more, and then no more.

        The seed stays on the token, to tell that it was sent before.
        """
        if self._claim.seed_was_set:
            return PermanentError(f"{message_of(error)}; sent before, and a model without a seed cannot be looked for")
        return TransientError(message_of(error), retry_after=0.0, answered=error.answered, purchase_over=False)

    async def _look(self) -> Prediction | None:
        """Return our prediction, or None once a complete listing without it is believed."""
        since = self._claim.seeded_at - LOOK_BACK
        self._see("still looking for what a create bought")
        await reached("before_look")
        while True:
            try:
                found = await self._provider.find(self._claim.seed, since)
            except TransientError as error:  # the listing is away: waiting is cheaper than buying
                pause = error.retry_after or self._timings.listing_every
                self._see(f"the listing cannot be read: {message_of(error)}")
            except GenerationError as error:
                error.purchase_over = False
                raise
            else:
                if found is not None or time.monotonic() >= self._sure_at:
                    return found
                until_sure = max(0.0, self._sure_at - time.monotonic())
                pause = min(self._timings.listing_every, until_sure + 0.05)
            await anyio.sleep(jittered(pause, 0.1))
