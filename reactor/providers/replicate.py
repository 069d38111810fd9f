"""Replicate, through its official SDK. `transport.py` deals with the SDK's faults."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import anyio

from reactor.errors import AccountError, AmbiguousCreateError, RateLimitedError, TransientError
from reactor.hosts import is_loopback
from reactor.providers import Prediction
from reactor.providers.arguments import check_sendable, describe_call, sdk_target, usable_token
from reactor.providers.bodies import UnreadableError
from reactor.providers.classification import classify_refusal
from reactor.providers.keep_warm import keep_warm
from reactor.providers.limits import LIMITS, Limits
from reactor.providers.listing import FIRST_PAGE, FORGIVEN, KEPT, created_at, has_seed, listed, next_page
from reactor.providers.outputs import read_prediction
from reactor.providers.polling import PollHistory
from reactor.providers.seeds import is_seed_refusal, lacks_input, seed_advice
from reactor.providers.transport import AnsweredError, DirectClient, forget_body, last_body
from reactor.providers.unanswered import NEVER_SENT, UNANSWERED, describe
from reactor.providers.waiting import until_ended
from reactor.text.echoes import Echoes
from reactor.text.redaction import Redactor
from reactor.urls import DEFAULT_BASE_URL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from reactor.secret import Secret

_SDK_REFUSES = (KeyError, TypeError, ValueError, RecursionError)  # raised when it parses an answer, by pydantic too


class ReplicateProvider:
    """Buys predictions of one model on one account. The API is at `base_url` (None: Replicate's own) + `api_prefix`.

    `cancel_after`: seconds from a prediction's creation until the provider ends it, because nobody waits for it then.
    Raises ValueError for a token that no header can carry, a malformed model, or an unusable URL or proxy.
    """

    def __init__(
        self,
        api_token: str | Secret,
        *,
        model: str = "black-forest-labs/flux-schnell",
        base_url: str | None = None,
        api_prefix: str = "/v1",
        model_input: dict[str, Any] | None = None,
        seed_input: str = "seed",
        cancel_after: float | None = None,
        limits: Limits = LIMITS,
    ) -> None:
        token = usable_token(api_token)
        self._target, self._input = sdk_target(model), dict(model_input or {})
        self._seed_input, self._limits = seed_input, limits
        self._redact = Redactor([token.value])
        token.teach(self._redact.learn)
        self._echoes = Echoes()
        base_url = base_url or DEFAULT_BASE_URL  # otherwise the SDK would take the environment's
        self._client = DirectClient(base_url, api_prefix, token, cancel_after=cancel_after, limits=limits)
        self._describe_call = describe_call(self._client, model)
        self._plain_http = is_loopback(urlsplit(base_url).hostname or "")
        self._history = PollHistory(limits=limits)

    @property
    def finds_since(self) -> datetime:
        """See Provider. By this machine's clock, which may be an hour ahead without harm."""
        return datetime.now(tz=UTC) - KEPT

    def hiding(self, *prompts: str | None) -> Self:
        """See Provider."""
        hiding = copy(self)
        hiding._echoes = Echoes(*prompts)  # noqa: SLF001  (its own)
        return hiding

    @property
    def seedable(self) -> bool:
        """Whether the model takes a seed."""
        return bool(self._seed_input)

    async def create(self, prompt: str, seed: int) -> Prediction:
        """See Provider."""
        given = {**self._input, "prompt": prompt}
        if self._seed_input:
            given[self._seed_input] = seed
        check_sendable(given)
        asked_at = time.monotonic()
        with self._translated_errors(buying=prompt):
            body = await self._body(lambda: self._client.predictions.async_create(**self._target, input=given))
            return replace(self._read(body), bought_in=time.monotonic() - asked_at)

    async def wait(self, bought: Prediction, report: Callable[[str], None]) -> Prediction:
        """See Provider."""
        since = time.monotonic()
        return await until_ended(bought, lambda: self._poll(bought.id, since), self._history, report)

    async def find(self, seed: int, since: datetime) -> Prediction | None:
        """See Provider.

        Our prediction is known by its seed alone. The answer's model may be an internal name and its version `hidden`,
        so comparing these would miss the purchase and buy it again. A seed has 31 random bits: that one of 100,000
        other predictions has the same happens once in 20,000 searches, and costs a picture of something else.
        """
        since, read = max(since, self.finds_since), [FIRST_PAGE]
        while len(read) <= self._limits.most_pages:
            page = await self.page(read[-1])
            with self._translated_errors():
                entries = listed(page)
                ours = (entry for entry in entries if has_seed(entry, self._seed_input, seed))
                match = next((entry for entry in ours if created_at(entry) > since - FORGIVEN), None)
                if match is not None:
                    return self._read(match)
                if any(created_at(entry) < since for entry in entries):
                    return None
                following = next_page(page, read)
            if following is None:
                return None
            read.append(following)
        raise TransientError("The listing has too many pages", purchase_over=False)

    async def cancel(self, bought: Prediction) -> Prediction:
        """See Provider. A 404 is a TransientError: the prediction may not be visible yet, and the next poll tells."""
        with self._translated_errors():
            return self._read(await self._body(lambda: self._client.predictions.async_cancel(bought.id)), of=bought.id)

    async def check(self) -> None:
        """See Provider."""
        await self._account()
        if self._seed_input:
            with suppress(AnsweredError, UnreadableError, *UNANSWERED):  # then the first create tells
                if lacks_input(await self.described() or {}, self._seed_input):
                    raise AccountError(seed_advice(self._seed_input))

    async def described(self) -> dict[str, Any] | None:
        """The model as the API describes it; None for a version id alone. Raises what the client raises."""
        return await self._body(self._describe_call) if self._describe_call is not None else None

    async def _account(self) -> None:
        with self._translated_errors():
            try:
                await self._body(self._client.accounts.async_current)
            except AnsweredError as error:
                if error.answer.status != 404:  # a server without accounts has accepted the token nevertheless
                    raise

    async def keep_warm(self) -> None:
        """See Provider."""
        await keep_warm(self._client.http, self._account)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _poll(self, prediction_id: str, since: float) -> Prediction:
        """Read a prediction once. A 404 means that it ended, if `gone_after` has passed since the monotonic `since`."""
        with self._translated_errors():
            try:
                body = await self._body(lambda: self._client.predictions.async_get(prediction_id))
                return self._read(body, of=prediction_id)
            except AnsweredError as error:
                if not error.of_nothing or time.monotonic() - since < self._limits.gone_after:
                    raise
                return Prediction(prediction_id, error=TransientError("The prediction is not there any more"), images=0)

    async def page(self, page: str) -> dict[str, Any]:
        """One page of the listing, once the read budget allows it, because a search may take hundreds of pages."""
        return await self._read_gently(lambda: self._client.predictions.async_list(page))

    async def knows(self, prediction_id: str) -> bool:
        """Whether the provider has such a prediction, once the read budget allows it."""
        try:
            await self._read_gently(lambda: self._client.predictions.async_get(prediction_id))
        except TransientError as error:
            if isinstance(error.__cause__, AnsweredError) and error.__cause__.of_nothing:
                return False
            raise
        return True

    async def _read_gently(self, call: Callable[[], Awaitable[object]]) -> dict[str, Any]:
        reads = self._history.reads
        await anyio.sleep(reads.book_next(now := time.monotonic()) - now)
        try:
            with self._translated_errors():
                return await self._body(call)
        except RateLimitedError as error:
            reads.refused(time.monotonic(), error.retry_after or 0.0)
            raise

    async def _body(self, call: Callable[[], Awaitable[object]]) -> dict[str, Any]:
        """The JSON that a call of the SDK got. The SDK's model of it is stricter than the API, so it is not used."""
        forget_body()
        with suppress(*_SDK_REFUSES):
            await call()
        return last_body()

    def _read(self, body: dict[str, Any], *, of: str | None = None) -> Prediction:
        """The prediction in an answer. Its id must be `of`, if that is given. Raises UnreadableError."""
        found = read_prediction(body, self._echoes, plain_http=self._plain_http, redact=self._redact)
        if of not in {None, found.id}:
            raise UnreadableError("an answer about another prediction")
        if of is None and self._echoes.in_word(found.id):  # it would be stored and logged
            raise UnreadableError("a prediction id that repeats the prompt")
        return found

    @contextmanager
    def _translated_errors(self, *, buying: str | None = None) -> Iterator[None]:
        """Turn every error of a request into one of ours. `buying` is a create's prompt.

        Without an answer, a create has certainly bought nothing only if it was never sent. Other calls buy nothing, so
        their errors leave open what was bought before.
        """
        creating = buying is not None
        try:
            yield
        except AnsweredError as error:
            hidden = self._echoes.also(buying)
            if creating and is_seed_refusal(error.answer, self._seed_input, hidden):
                raise AccountError(seed_advice(self._seed_input)) from error
            raise classify_refusal(error.answer, hidden, creating=creating, redact=self._redact) from error
        except NEVER_SENT as error:
            message = self._redact(f"Cannot reach Replicate: {describe(error)}")
            raise TransientError(message, purchase_over=creating, answered=False) from error
        except (UnreadableError, *UNANSWERED) as error:
            why, answered = self._redact(describe(error)), isinstance(error, UnreadableError)
            if creating:
                message = f"Replicate gave no usable answer to the create: {why}"
                raise AmbiguousCreateError(message, answered=answered) from error
            message = f"Replicate gave no usable answer: {why}"
            raise TransientError(message, purchase_over=False, answered=answered) from error
