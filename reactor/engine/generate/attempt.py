"""One attempt at one token: resume or buy a prediction, wait for its image, and decide the outcome.

    purchase ──▶ wait for the image ──▶ Succeeded
       │                │
       └──── error ─────┴──▶ the prompt was rejected for the first time ──▶ a new purchase with the fallback prompt
                        └──▶ any other error ──▶ outcome.py: Retry, Failed or Released

purchase.py buys, outcome.py says what an error does to the token, and gate.py what it does to the fleet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import checkpoint

from reactor import events
from reactor.database.connections import REFUSED, HostRefusedError
from reactor.engine.generate.outcome import outcome_of
from reactor.engine.generate.purchase import Purchase
from reactor.engine.settle.unwritable import MOST_REFUSALS
from reactor.errors import ContentPolicyError, GenerationError, TransientError
from reactor.failpoints import reached
from reactor.text.messages import message_of
from reactor.text.prompts import fingerprint, validate_prompt
from reactor.tokens import TIMED_OUT, Failed, Rejected, Released, Succeeded

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactor.database.rows import Intent
    from reactor.engine.gate.gate import Gate
    from reactor.engine.settle.settler import Settler
    from reactor.engine.timings import Timings
    from reactor.providers import Provider
    from reactor.telemetry import Telemetry
    from reactor.tokens import Claim, Outcome


SPENT = "The daily budget is spent"


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings for attempts. `deadline` is in seconds."""

    fallback_prompt: str
    default_prompt: str | None
    deadline: float
    max_attempts: int
    count_rate_limits: bool

    @property
    def prompts(self) -> tuple[str, str | None]:
        """The operator's own prompts. They are sent too, so the provider's answers may repeat them."""
        return self.fallback_prompt, self.default_prompt


class Attempt:
    """Brings one claim to an outcome. `claim` changes when the fallback prompt takes over."""

    def __init__(
        self,
        claim: Claim,
        *,
        probe: str | None,
        provider: Provider,
        gate: Gate,
        settler: Settler,
        telemetry: Telemetry,
        rules: Rules,
        lease_runs: Callable[[], bool],
        timings: Timings,
    ) -> None:
        self._timings = timings
        self._provider = provider.hiding(claim.prompt, *rules.prompts)
        self._gate = gate
        self._settler = settler
        self._telemetry = telemetry
        self._rules = rules
        self._lease_runs = lease_runs
        self._probe = probe  # what opens the gate, while it is half-open and waits for this token; else None
        self._spent = False  # the day's budget allows no create any more
        self._begin(claim)

    def _begin(self, claim: Claim) -> None:
        self.claim = claim
        self._purchase = Purchase(
            claim,
            provider=self._provider,
            settler=self._settler,
            telemetry=self._telemetry,
            lease_runs=self._lease_runs,
            timings=self._timings,
        )

    @property
    def prediction_id(self) -> str | None:
        """The prediction that was bought, once it is known."""
        return self._purchase.prediction.id if self._purchase.prediction else None

    def released(self) -> Released:
        """The outcome of an attempt that was cut short: nothing counts, and one look will tell what was bought."""
        bought = self._purchase.receipt
        return Released(self.claim, None, None, self._purchase.sure_in, self.prediction_id, receipt=bought)

    def failed(self, reason: str, *, attempts: int) -> Failed:
        """The outcome of an attempt that we cannot finish."""
        bought = self._purchase.receipt
        return Failed(self.claim, reason, "PermanentError", attempts, self.prediction_id, receipt=bought)

    async def run(self) -> Outcome | None:
        """Return the outcome; None if the token was lost. Raises LeaseOverError."""
        try:
            return await self._within_deadline()
        except ContentPolicyError as error:
            if self.claim.censored:
                return await self._outcome_of(error)
            try:
                ours = await self._fall_back(error)
            except REFUSED as refused:
                reason = f"The database refused the fallback prompt ({refused.kind})"
                return self.failed(reason, attempts=self.claim.attempts + 1)
            if not ours:
                return None
        except GenerationError as error:
            return await self._outcome_of(error)
        return await self._with_fallback()

    async def _with_fallback(self) -> Outcome | None:
        await checkpoint()  # if a stop came meanwhile, nothing more is bought
        if self._spent:  # the gate stops claims only, and the second create of this claim would pass it
            return Released(self.claim, SPENT, None, 0.0, None, purchase_over=True)
        return await self.run()  # only once, because the claim is censored now

    async def _within_deadline(self) -> Outcome:
        with anyio.move_on_after(self._rules.deadline):
            return await self._generate()
        return await self._timed_out()

    async def _generate(self) -> Succeeded:
        prediction = await self._purchase.resume()
        if prediction is not None:
            await self._gate.let_another_through(self.claim, self._probe)
            self._probe = None  # from now on a failure is the token's own
        else:
            prediction = await self._purchase.make(self._prompt())
            await self._gate.accepted(self._probe)
            if self._probe == "create":
                self._probe = None
        image_url = await self._purchase.image(prediction)
        await reached("result_seen")
        await self._gate.succeeded(self._probe)
        return Succeeded(self.claim, image_url, prediction.id, self._purchase.receipt)

    def _prompt(self) -> str:
        rules = self._rules
        given = rules.default_prompt if self.claim.prompt is None else self.claim.prompt
        return validate_prompt(rules.fallback_prompt if self.claim.censored else given)

    async def _fall_back(self, error: ContentPolicyError) -> bool:
        """Write a new intent to buy, with the fallback prompt; return whether the token is still ours."""
        bought = Rejected(self.claim, message_of(error), error.kind, self.prediction_id, self._purchase.receipt)
        intent = await self._censored(bought)
        if intent is None:
            return False
        self._spent = intent.spent
        rejected = {"prediction_id": self.prediction_id, **fingerprint(self.claim.prompt)}
        self._telemetry.emit(events.CENSORED, token_id=self.claim.token_id, epoch=self.claim.epoch, **rejected)
        if self.prediction_id is not None:
            told = {"prediction_id": self.prediction_id, "images": bought.receipt.images}
            self._telemetry.emit(events.PURCHASE_ENDED, token_id=self.claim.token_id, outcome="rejected", **told)
        new = replace(self.claim, attempts=bought.attempts, censored=True, seed=intent.seed, seeded_at=intent.seeded_at)
        self._begin(replace(new, seed_was_set=False, prediction_id=None, rescued=False, age=None))
        return True

    async def _censored(self, rejected: Rejected) -> Intent | None:
        """Return the new intent once it is certainly written; None if the token was lost.

        Shielded: if this were cut short after the commit, the release would replace the new intent by the rejected
        prediction. Raises RowRefusedError or HostRefusedError.
        """
        refusals = 0
        while True:
            try:
                with anyio.move_on_after(self._timings.answer_within, shield=True):
                    return await self._settler.censor(rejected)
            except HostRefusedError:
                refusals += 1
                if refusals >= MOST_REFUSALS:
                    raise
                await anyio.sleep(self._timings.reconnect_delay(refusals))
            await checkpoint()  # no answer in time: ask again, unless the attempt is being cut short

    async def _timed_out(self) -> Outcome:
        """Cancel the prediction while the lease runs; if it succeeds just then, take the success."""
        bought, over = self._purchase.prediction, self._purchase.nothing_bought
        if bought is not None and self._lease_runs():
            with anyio.move_on_after(self._timings.cancel_within):
                try:
                    stopped = await self._provider.cancel(bought)
                except GenerationError:
                    over = False  # the image may still come: the next attempt resumes the prediction
                else:
                    self._purchase.ended(stopped)
                    if stopped.image_url is not None:
                        await self._gate.succeeded(self._probe)
                        return Succeeded(self.claim, stopped.image_url, stopped.id, self._purchase.receipt)
                    if isinstance(stopped.error, ContentPolicyError):
                        raise stopped.error
                    over = stopped.ended
        message = ", ".join(filter(None, (f"{TIMED_OUT} {self._rules.deadline:g} s", self._purchase.last_seen)))
        return await self._outcome_of(TransientError(message, purchase_over=over, answered=bought is not None))

    async def _outcome_of(self, error: GenerationError) -> Outcome:
        blame = await self._gate.learn(self.claim, error, bought=self.prediction_id is not None, probe=self._probe)
        outcome = outcome_of(
            self.claim,
            error,
            blame=blame,
            sure_in=self._purchase.sure_in,
            prediction_id=self.prediction_id,
            max_attempts=self._rules.max_attempts,
            count_rate_limits=self._rules.count_rate_limits,
        )
        return replace(outcome, receipt=self._purchase.receipt)
