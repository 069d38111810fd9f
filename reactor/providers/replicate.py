"""Replicate, through its official SDK. What the SDK gets wrong is dealt with in `transport.py`."""

from __future__ import annotations

import ipaddress
import random
import re
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import httpx
from pydantic.v1 import ValidationError
from replicate.client import Client

from reactor.errors import (
    AccountError,
    AmbiguousCreateError,
    PermanentError,
    TransientError,
    UnauthorizedError,
)
from reactor.providers import Prediction
from reactor.providers.classification import refusal
from reactor.providers.outputs import prediction
from reactor.providers.transport import AnsweredError, Transport, UnreadableError, forget_body, last_body

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

DEFAULT_BASE_URL = "https://api.replicate.com"
CALL_WITHIN = 30.0  # seconds for one request and its answer, however slowly that drips
MOST_PAGES = 100  # of 100 predictions
FIRST_POLL, SLOWEST_POLL = 0.15, 2.0  # seconds
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_NEW = datetime.max.replace(tzinfo=UTC)
_MODEL = re.compile(r"(?:(?P<owner>[\w.-]+)/(?P<name>[\w.-]+)(?::(?P<version>[\w.-]+))?|(?P<id>[\w-]+))")


class ReplicateProvider:
    """Buys predictions of one model on one account. `base_url` is without /v1; None is the SDK's own."""

    def __init__(
        self,
        api_token: str,
        *,
        model: str = "black-forest-labs/flux-schnell",
        base_url: str | None = None,
        model_input: dict[str, Any] | None = None,
        seed_input: str = "seed",
    ) -> None:
        self._target: dict[str, Any] = _target(model)
        self._input = dict(model_input or {})
        self._seed_input = seed_input
        self._transport = Transport()
        self._client = Client(api_token=api_token.strip(), base_url=base_url, transport=self._transport)
        self._host = urlsplit(base_url or DEFAULT_BASE_URL).netloc
        self._plain_http = base_url is not None and _is_loopback(base_url)

    @property
    def seedable(self) -> bool:
        """Whether the model takes a seed."""
        return bool(self._seed_input)

    async def create(self, prompt: str, seed: int) -> Prediction:
        """See Provider."""
        given = {**self._input, "prompt": prompt}
        if self._seed_input:
            given[self._seed_input] = seed
        async with _asking(creating=True):
            body = await self._body(lambda: self._client.predictions.async_create(**self._target, input=given))
            return prediction(body, plain_http=self._plain_http)

    async def wait(self, bought: Prediction) -> str:
        """See Provider."""
        seen, polls = bought, 0
        while not seen.ended:
            await anyio.sleep(poll_delay(polls))
            polls += 1
            try:
                seen = await self._get(bought.id)
            except TransientError as error:  # asking failed, not the prediction
                await anyio.sleep(error.retry_after or 0.0)
        if seen.error is not None:
            raise seen.error
        if seen.image_url is None:
            raise TransientError("Prediction succeeded without an output")
        return seen.image_url

    async def find(self, seed: int, since: datetime) -> Prediction | None:
        """See Provider."""
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            async with _asking():
                listed, cursor = await self._page(cursor)
                match = next((entry for entry in listed if self._is_ours(entry, seed)), None)
                if match is not None:
                    return prediction(match, plain_http=self._plain_http)
            if cursor is None or any(_created_at(entry) < since for entry in listed):
                return None
        raise TransientError("The listing has too many pages")

    async def cancel(self, bought: Prediction) -> Prediction:
        """See Provider."""
        async with _asking():
            body = await self._body(lambda: self._client.predictions.async_cancel(bought.id))
            return prediction(body, plain_http=self._plain_http)

    async def check(self) -> None:
        """See Provider."""
        async with _asking():
            try:
                await self._body(self._client.accounts.async_current)
            except AnsweredError as error:
                if error.answer.status != 404:  # a server without accounts has accepted the token all the same
                    raise

    async def aclose(self) -> None:
        """Close the connections; the SDK has no way to."""
        await self._transport.aclose()

    async def _get(self, prediction_id: str) -> Prediction:
        """Look at a prediction. Whatever is refused about the account, what was bought stays bought."""
        try:
            async with _asking():
                try:
                    body = await self._body(lambda: self._client.predictions.async_get(prediction_id))
                except AnsweredError as error:
                    if error.answer.status != 404:
                        raise
                    return Prediction(prediction_id, error=TransientError("The prediction is not there any more"))
                return prediction(body, plain_http=self._plain_http)
        except (UnauthorizedError, AccountError) as error:
            error.purchase_over = False
            raise
        except PermanentError as error:
            raise TransientError(str(error), purchase_over=False) from error

    async def _page(self, cursor: str | None) -> tuple[list[dict[str, Any]], str | None]:
        """One page of the listing, and where the next one is, on the same host: the token goes nowhere else."""
        body = await self._body(
            lambda: self._client.predictions.async_list(cursor) if cursor else self._client.predictions.async_list()
        )
        results, following = body.get("results"), body.get("next")
        if not isinstance(results, list) or not isinstance(following, str | None):
            raise UnreadableError("a listing without results")
        if following and urlsplit(following).netloc not in {"", self._host}:
            raise UnreadableError("the listing goes on at another host")
        return [entry for entry in results if isinstance(entry, dict)], following or None

    async def _body(self, call: Callable[[], Awaitable[object]]) -> dict[str, Any]:
        """The JSON that a call of the SDK got. Its own model of it is stricter than the API, and not asked."""
        forget_body()
        with anyio.fail_after(CALL_WITHIN):
            try:
                await call()
            except (ValidationError, KeyError, TypeError):
                return last_body()
        return last_body()

    def _is_ours(self, entry: dict[str, Any], seed: int) -> bool:
        # The answer's model may be an internal name; 31 random bits are ours alone within a listing.
        given = entry.get("input")
        return isinstance(given, dict) and given.get(self._seed_input) == seed


def poll_delay(polls: int) -> float:
    """Seconds before the n-th look at a prediction: 0.15 at first, slowly growing to 2, ± 10 %."""
    return min(FIRST_POLL * 1.15 ** min(polls, 100), SLOWEST_POLL) * random.uniform(0.9, 1.1)  # noqa: S311  (jitter)


@asynccontextmanager
async def _asking(*, creating: bool = False) -> AsyncIterator[None]:
    """Turn whatever a request can end in into our errors; of a create, only what was never sent is certain."""
    try:
        yield
    except AnsweredError as error:
        raise refusal(error.answer, creating=creating) from error
    except _NEVER_SENT as error:
        raise TransientError(f"Cannot reach Replicate: {_said(error)}", answered=False) from error
    except (UnreadableError, httpx.TransportError, httpx.DecodingError, TimeoutError) as error:
        if creating:
            raise AmbiguousCreateError(f"Replicate's answer to a create is unknown: {_said(error)}") from error
        raise TransientError(f"Replicate gave no usable answer: {_said(error)}", answered=False) from error


def _said(error: Exception) -> str:
    return f"{type(error).__name__.removesuffix('Error') or 'error'}: {error}".rstrip(": ")


def _target(model: str) -> dict[str, str]:
    """The SDK's arguments for owner/name, owner/name:version or a version id. Raises ValueError."""
    named = _MODEL.fullmatch(model)
    if named is None:
        raise ValueError(f"not a model: {model!r}")
    version = named["version"] or named["id"]
    return {"version": version} if version else {"model": f"{named['owner']}/{named['name']}"}


def _is_loopback(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _created_at(entry: dict[str, Any]) -> datetime:
    """When a listed prediction was made; one that does not say is taken for new."""
    try:
        made = datetime.fromisoformat(str(entry.get("created_at")))
    except ValueError:
        return _NEW
    return made if made.tzinfo else made.replace(tzinfo=UTC)
