"""One generation of one token: resume or look or buy, then wait.

    recorded prediction? ──yes──▶ wait
      │ no
    seed set by an earlier claim? ──yes──▶ look ──found──▶ record, wait
      │ no                                  │ not there
      └───────────────▶ create ◀────────────┘
                          ├── accepted ──▶ record, wait
                          ├── refused, or never sent: an error with nothing bought
                          └── ambiguous ──▶ look for SURE_AFTER ──found──▶ record, wait
                                              └── not there: an error with nothing bought, due at once

Paid once. Replicate has no idempotency key, so the seed is one of ours: random for each purchase, written by the claim
before anything can be sent, sent as the model's seed, and found again in the provider's listing. A prediction is bought
only by an attempt that knows that none carries its seed. The listing lags by seconds, so "not there" counts only
SURE_AFTER a request could last have been sent: a rescued token waits that long after it was taken over; a token that is
put back while a create was under way is made due that much later; and an owner whose lease ran out by its own clock
sends nothing.

What is left: a create that reaches the provider more than SURE_AFTER after its answer was given up (a request held back
in a proxy, say), or one that the listing shows later than that, is bought twice. Every such chance is an ambiguous
create, and they are counted.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import anyio

from reactor.backoff import jittered
from reactor.errors import (
    AmbiguousCreateError,
    ContentPolicyError,
    GenerationError,
    TransientError,
)
from reactor.prompts import validate_prompt
from reactor.providers import Prediction
from reactor.tokens import Released, Succeeded
from reactor.verdict import verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactor.intake import Intake
    from reactor.providers import Provider
    from reactor.settler import Settler
    from reactor.telemetry import Telemetry
    from reactor.tokens import Claim, Outcome

SURE_AFTER = 10.0  # seconds after a request until a listing without it is believed
LOOK_EVERY = 1.0  # seconds between looks
LOOK_BACK = timedelta(seconds=60)  # before the seed was written: the provider's clock is not the database's
CANCEL_WITHIN = 5.0  # seconds


class LeaseOverError(Exception):
    """The token may be somebody else's by now: nothing more is bought or written for it."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that attempts go by. Durations are seconds."""

    fallback_prompt: str
    default_prompt: str | None
    deadline: float
    max_attempts: int
    count_rate_limits: bool


class Attempt:
    """Brings one claim to an outcome. `claim` changes when the fallback prompt takes over."""

    def __init__(  # noqa: PLR0913  (the roles that an attempt talks to)
        self,
        claim: Claim,
        *,
        provider: Provider,
        intake: Intake,
        settler: Settler,
        telemetry: Telemetry,
        rules: Rules,
        lease_runs: Callable[[], bool],
    ) -> None:
        self.claim = claim
        self._provider = provider
        self._intake = intake
        self._settler = settler
        self._telemetry = telemetry
        self._rules = rules
        self._lease_runs = lease_runs
        self._prediction = Prediction(claim.prediction_id) if claim.prediction_id else None
        # Monotonic time before which "not there" is not believed; infinite while a create is under way.
        self._sure_at = claim.asked_at + SURE_AFTER if claim.rescued else 0.0

    @property
    def prediction_id(self) -> str | None:
        """What was bought, once it is known."""
        return self._prediction.id if self._prediction else None

    def released(self) -> Released:
        """The outcome of an attempt that was cut short: as it was, due once a single look is enough."""
        remaining = min(max(0.0, self._sure_at - time.monotonic()), SURE_AFTER)
        return Released(self.claim, None, None, remaining if self._prediction is None else 0.0, self.prediction_id)

    async def run(self) -> Outcome | None:
        """Return the outcome; None where the token was lost. Raises LeaseOverError."""
        try:
            return await self._within_deadline()
        except ContentPolicyError as error:
            if self.claim.censored:
                return await self._judged(error)
            if not await self._fall_back(error):
                return None
        except GenerationError as error:
            return await self._judged(error)
        return await self.run()  # once: the claim is censored now

    async def _within_deadline(self) -> Outcome:
        with anyio.move_on_after(self._rules.deadline):
            return await self._generate()
        return await self._timed_out()

    async def _generate(self) -> Succeeded:
        if self._prediction is None:
            prediction = await self._find() or await self._buy()
            self._own(prediction)
        else:
            prediction = self._prediction
        image_url = await self._provider.wait(prediction)
        return Succeeded(self.claim, image_url, prediction.id)

    def _own(self, prediction: Prediction) -> None:
        self._prediction = prediction
        self._settler.record(self.claim, prediction.id)

    async def _find(self) -> Prediction | None:
        """Look for what an earlier claim may have bought with this seed."""
        if not (self.claim.seed_was_set and self._provider.seedable):
            return None
        return await self._look()

    async def _look(self) -> Prediction | None:
        """Return our prediction, or None once a complete listing without it is believed."""
        since = self.claim.seeded_at - LOOK_BACK
        while True:
            try:
                found = await self._provider.find(self.claim.seed, since)
            except TransientError as error:  # the listing is away: waiting is cheaper than buying
                found, pause = None, error.retry_after or LOOK_EVERY
            except GenerationError as error:
                error.purchase_over = False
                raise
            else:
                if found is not None or time.monotonic() >= self._sure_at:
                    return found
                pause = min(LOOK_EVERY, max(0.0, self._sure_at - time.monotonic()) + 0.05)
            await anyio.sleep(jittered(pause, 0.1))

    async def _buy(self) -> Prediction:
        prompt = self._prompt()
        if not self._lease_runs():
            raise LeaseOverError
        self._sure_at = float("inf")
        self._telemetry.emit("token.create_sent", age=self.claim.age, waited=time.monotonic() - self.claim.asked_at)
        try:
            prediction = await self._provider.create(prompt, self.claim.seed)
        except AmbiguousCreateError as error:
            prediction = await self._after_ambiguous(error)
        except GenerationError:
            self._sure_at = 0.0
            raise
        self._sure_at = 0.0
        await self._intake.accepted(self.claim)
        return prediction

    async def _after_ambiguous(self, error: AmbiguousCreateError) -> Prediction:
        """Find what an unanswered create bought; raise a TransientError, due at once, where it bought nothing.

        A model without a seed input leaves nothing to look for: there the next attempt buys again, and is counted.
        """
        self._telemetry.emit("token.create_ambiguous", token_id=self.claim.token_id, error_message=str(error))
        self._sure_at = time.monotonic() + SURE_AFTER
        found = await self._look() if self._provider.seedable else None
        if found is None:
            raise TransientError(str(error), retry_after=0.0) from error
        return found

    def _prompt(self) -> str:
        if self.claim.censored:
            return self._rules.fallback_prompt
        return validate_prompt(self._rules.default_prompt if self.claim.prompt is None else self.claim.prompt)

    async def _fall_back(self, error: ContentPolicyError) -> bool:
        """Make a new intent to buy, with the fallback prompt; return whether the token is still ours."""
        attempts = self.claim.attempts + 1
        intent = await self._settler.censor(self.claim, attempts, str(error))
        if intent is None:
            return False
        self._prediction, self._sure_at = None, 0.0
        self.claim = replace(
            self.claim,
            attempts=attempts,
            censored=True,
            seed=intent["seed"],
            seeded_at=intent["seeded_at"],
            seed_was_set=False,
            rescued=False,
            prediction_id=None,
            age=None,
        )
        return True

    async def _timed_out(self) -> Outcome:
        """Stop what was bought, as long as it is ours to stop; a success that comes just then is taken."""
        over = self._prediction is None and self._sure_at == 0.0 and not self.claim.seed_was_set
        if self._prediction is not None and self._lease_runs():
            with anyio.move_on_after(CANCEL_WITHIN):
                try:
                    stopped = await self._provider.cancel(self._prediction)
                except GenerationError:
                    over = False  # it may still come: the next attempt resumes it
                else:
                    if stopped.image_url is not None:
                        return Succeeded(self.claim, stopped.image_url, stopped.id)
                    over = stopped.ended
        retry_after = SURE_AFTER if self._prediction is None and self._sure_at > 0.0 else None
        message = f"Timed out after {self._rules.deadline:g} s"
        return await self._judged(TransientError(message, purchase_over=over, retry_after=retry_after))

    async def _judged(self, error: GenerationError) -> Outcome:
        await self._intake.learn(error)
        return verdict(
            self.claim,
            error,
            prediction_id=self.prediction_id,
            max_attempts=self._rules.max_attempts,
            count_rate_limits=self._rules.count_rate_limits,
        )
