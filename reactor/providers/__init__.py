"""The provider makes the images. `Provider` is the protocol that the engine calls; `replicate.py` implements it.

replicate.py       the adapter: every call of `Provider`, through Replicate's official SDK
transport.py       how the SDK's requests travel: our timeouts, no hidden retries, the whole answer kept
http_client.py     sends a request with aiohttp, and says of a failed one whether it may have arrived
proxies.py         the proxy that the environment names
keep_warm.py       keeps a connection open while no requests are made
arguments.py       turns settings and a prompt into the SDK's arguments
bodies.py          decompresses and parses an answer's body, within bounds
pages.py           parses a page of the listing that is too large for that
listing.py         reads the list of the account's predictions, page by page
walk.py            walks that list back to a time, for an audit
outputs.py         turns a prediction's JSON into a `Prediction`
times.py           a prediction's timestamps and its duration
seeds.py           whether the model accepts a seed
classification.py  turns a refused request or a failed prediction into one of our errors
failure_texts.py   the known texts of failed predictions and what they mean
rate_limits.py     what a 429 asks for: a wait, or fewer creates
unanswered.py      which failed requests were never sent, and how the others failed
waiting.py         polls a prediction until it ends; polling.py says when
read_budget.py     how many reads a worker may make
limits.py          how long we wait for the provider, and how much we read of its answers
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from reactor.errors import GenerationError


@dataclass(frozen=True, slots=True)
class Prediction:
    """A bought generation, as the provider last showed it. It has ended if `image_url` or `error` is set."""

    id: str
    image_url: str | None = None  # checked: may be stored
    error: GenerationError | None = None  # why it ended without an image
    doing: str = field(default="", compare=False)  # the provider's name for its status, if that is a single word
    bought_in: float | None = field(default=None, compare=False)  # seconds that `create` took; None from other calls
    took: float | None = field(default=None, compare=False)  # its duration by the provider's clock, once it has ended
    predict_seconds: float | None = field(default=None, compare=False)  # of it, those that the model ran
    images: int | None = field(default=None, compare=False)  # outputs that are paid for, once it has ended
    web_url: str | None = field(default=None, compare=False)  # the provider's page about it; checked: may be stored

    @property
    def ended(self) -> bool:
        """Whether its status is terminal."""
        return self.image_url is not None or self.error is not None


class Provider(Protocol):
    """Buys predictions. Each call has its own deadline and raises only `reactor.errors`."""

    @property
    def seedable(self) -> bool:
        """Whether a create sends the seed, so that `find` can tell our prediction from others."""

    @property
    def finds_since(self) -> datetime:
        """`find` finds no prediction created before this, because the provider does not keep it."""

    def hiding(self, *prompts: str | None) -> Self:
        """The same provider, whose errors repeat none of these prompts."""

    async def create(self, prompt: str, seed: int) -> Prediction:
        """Send one create, and never repeat it.

        Raises AmbiguousCreateError if a prediction may have been bought. Any other error means that none was, or
        (`purchase_over=False`) that the listing should be searched once before the next create.
        """

    async def wait(self, prediction: Prediction, report: Callable[[str], None]) -> Prediction:
        """Return the prediction once it has ended.

        A poll that fails (429, 5xx, network) does not end the wait, because the caller's deadline bounds it. `report`
        is called after each poll with a few words: the prediction's status, or why it is unknown.
        """

    async def find(self, seed: int, since: datetime) -> Prediction | None:
        """Return our prediction with this seed created at `since` or later; None if the whole listing lacks it.

        Searches no further back than `finds_since`. Raises TransientError if the listing cannot be read to its end.
        """

    async def cancel(self, prediction: Prediction) -> Prediction:
        """Ask the provider to stop it, and return it as it is then. If it succeeded before, it stays a success."""

    async def check(self) -> None:
        """Return if the account and the model may be used; raise UnauthorizedError or another GenerationError if not.

        AccountError is also raised if the model certainly has no input for the seed.
        """

    async def keep_warm(self) -> None:
        """Keep a connection open until cancelled, so that no create has to wait for a TLS handshake."""

    async def aclose(self) -> None:
        """Close the connections."""
