"""Buys at most one prediction for a seed.

    recorded prediction? ──yes──▶ that one
      │ no
    seed set by an earlier claim? ──yes──▶ look ──found──▶ record it
      │ no                                  │ not there
      └───────────────▶ create ◀────────────┘
                          ├── accepted ──▶ record it
                          ├── refused, or never sent: an error with nothing bought
                          └── ambiguous ──▶ look for 10 s ──found──▶ record it
                                              └── not there: an error with nothing bought, due at once

A "look" reads the provider's list of predictions. Replicate has no idempotency key, so the seed is ours: it is random
for each purchase, the claim writes it before anything can be sent, it is sent as the model's seed, and the list shows
it. An attempt buys only if it knows that no prediction has its seed.

The list lags by seconds, so "not there" counts only 10 s after the last moment at which a request may have been sent. A
rescued token waits that long after it was taken over. A token that goes back while a create is under way becomes due
10 s later. And a holder sends nothing once its lease is over by its own clock.

A model without a seed input cannot be looked for: an unanswered create is sent once more, and may be paid twice. With a
seed, three cases remain in which a prediction is bought twice. First, a create reaches the provider more than 10 s
after we gave up its answer (a proxy held it back, say), or the list shows it later than that. Each of these is an
ambiguous create, and ambiguous creates are counted. Second, a worker freezes after it has checked its lease and before
the request leaves, for longer than the lease and those 10 s together, and sends when it wakes. Third, nobody looks
within the hour after which Replicate removes the seed from its list.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import anyio

from reactor import events
from reactor.backoff import jittered
from reactor.errors import AmbiguousCreateError, GenerationError, PermanentError, TransientError
from reactor.failpoints import reached
from reactor.providers import Prediction
from reactor.text.messages import message_of
from reactor.tokens import NO_RECEIPT, Bought, Receipt

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactor.engine.settle.settler import Settler
    from reactor.engine.timings import Timings
    from reactor.providers import Provider
    from reactor.telemetry import Telemetry
    from reactor.tokens import Claim

LOOK_BACK = timedelta(seconds=60)  # before the seed was written, because the provider's clock is not the database's


class LeaseOverError(Exception):
    """The lease may be over, so another worker may hold the token: this one buys and writes nothing more for it."""


class Purchase:
    """The prediction that a claim's seed buys. Its id is recorded at once, without waiting for the database."""

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
        self._bought_at: float | None = None  # monotonic seconds; None if an earlier claim bought
        self.last_seen = ""  # what the attempt waits for, in a few words; the error of a timeout names it
        # Monotonic time before which "not there" is not believed: infinite while a create is under way, 0.0 if nothing
        # is in doubt.
        self._sure_at = claim.asked_at + timings.sure_after if claim.rescued else 0.0

    @property
    def receipt(self) -> Receipt:
        """What is known of the purchase so far."""
        if self.prediction is None:
            return NO_RECEIPT
        seen = self.prediction
        return Receipt(self._bought_at, seen.predict_seconds, seen.images, seen.web_url)

    @property
    def sure_in(self) -> float:
        """Seconds until one look at the provider's list is enough to know what was bought."""
        if self.prediction:
            return 0.0
        return min(max(0.0, self._sure_at - time.monotonic()), self._timings.sure_after)

    @property
    def nothing_bought(self) -> bool:
        """Whether it is certain that this seed has bought nothing."""
        return self.prediction is None and self._sure_at == 0.0 and not self._claim.seed_was_set

    async def resume(self) -> Prediction | None:
        """Return the prediction that an earlier claim bought with this seed; None if it bought none."""
        if self.prediction is None and self._claim.seed_was_set and self._provider.seedable:
            self._conclude(await self._look())
            self._tell_what_is_out_of_reach()
        return self.prediction

    def _tell_what_is_out_of_reach(self) -> None:
        """Count an ambiguous create if a prediction may have been bought that nobody can find any more."""
        if self.prediction is None and self._claim.seeded_at < self._provider.finds_since:
            message = f"its seed is from {self._claim.seeded_at:%Y-%m-%d %H:%M} UTC, longer ago than the provider keeps"
            self._telemetry.emit(events.CREATE_AMBIGUOUS, token_id=self._claim.token_id, error_message=message)

    async def make(self, prompt: str) -> Prediction:
        """Buy. Raises LeaseOverError, and TransientError, due at once, if an unanswered create bought nothing."""
        await reached("before_create")
        if not self._lease_runs():
            raise LeaseOverError
        self._sure_at = float("inf")
        waited = time.monotonic() - self._claim.asked_at
        self._telemetry.emit(
            events.CREATE_SENT,
            token_id=self._claim.token_id,
            epoch=self._claim.epoch,
            seed=self._claim.seed if self._provider.seedable else None,
            age_seconds=self._claim.age,
            waited_seconds=waited,
        )
        self._see("without an answer to the create")
        try:
            prediction = await self._provider.create(prompt, self._claim.seed)
        except AmbiguousCreateError as error:
            prediction = await self._after_ambiguous(error)
        except GenerationError as error:
            self._sure_at = 0.0
            # Nothing was bought. Without a seed input, a seed left in the row would mean "sent, and not answered".
            error.purchase_over |= not self._provider.seedable
            raise
        self._bought_at = time.monotonic()
        await reached("created")
        self._conclude(prediction)
        return prediction

    async def image(self, prediction: Prediction) -> str:
        """Return the image's URL once the prediction has ended; raise its error if it ended without an image."""
        self._see(f"still {prediction.doing}" if prediction.doing else "")
        ended = await self._provider.wait(prediction, self._see)
        self.ended(ended)
        if ended.error is not None:
            raise ended.error
        return str(ended.image_url)

    def ended(self, prediction: Prediction) -> None:
        """Note the state of the ended prediction, for the receipt."""
        if self.prediction is not None:
            self.prediction = replace(prediction, web_url=prediction.web_url or self.prediction.web_url)

    def _see(self, state: str) -> None:
        self.last_seen = state

    def _conclude(self, prediction: Prediction | None) -> None:
        """Keep what the seed has bought, now that it is certain. None: nothing."""
        self._sure_at = 0.0
        self.prediction = prediction
        if prediction is not None:
            self._settler.record(Bought(self._claim, prediction.id))

    async def _after_ambiguous(self, error: AmbiguousCreateError) -> Prediction:
        """Find the prediction that an unanswered create bought; raise the error if it bought none."""
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
        """Return the error for an unanswered create that cannot be looked for, because the model has no seed input.

        It is sent once more, and then never again. The seed stays on the token, to show that a create was sent before.
        """
        if self._claim.seed_was_set:
            return PermanentError(f"{message_of(error)}; sent before, and a model without a seed cannot be looked for")
        return TransientError(message_of(error), retry_after=0.0, answered=error.answered, purchase_over=False)

    async def _look(self) -> Prediction | None:
        """Return our prediction, or None once a complete list without it can be believed."""
        since = self._claim.seeded_at - LOOK_BACK
        self._see("still looking for what a create bought")
        await reached("before_look")
        while True:
            try:
                found = await self._provider.find(self._claim.seed, since)
            except TransientError as error:  # the list cannot be read: waiting is cheaper than buying
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
