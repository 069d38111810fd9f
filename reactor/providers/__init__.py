"""What the engine asks of whoever makes the images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from reactor.errors import GenerationError


@dataclass(frozen=True, slots=True)
class Prediction:
    """A bought generation, as it was last seen.

    It has ended once one of `image_url` and `error` is set; never are both.
    """

    id: str
    image_url: str | None = None  # checked: fit to be stored
    error: GenerationError | None = None  # why it ended without an image
    doing: str = field(default="", compare=False)  # the provider's word for its status, where that is one word
    bought_in: float | None = field(default=None, compare=False)  # seconds that `create` took; else None
    took: float | None = field(default=None, compare=False)  # seconds by the provider's clock, once it has ended

    @property
    def ended(self) -> bool:
        """Whether its status is terminal."""
        return self.image_url is not None or self.error is not None


class Provider(Protocol):
    """Buys predictions. Every call has its own deadline and raises only `reactor.errors`."""

    @property
    def seedable(self) -> bool:
        """Whether the seed is sent with a create, so that `find` can tell our prediction from others."""

    @property
    def finds_since(self) -> datetime:
        """What was created before this is not found by `find`: the provider does not keep it."""

    def hiding(self, *prompts: str | None) -> Self:
        """The same provider, whose errors repeat none of these prompts."""

    async def create(self, prompt: str, seed: int) -> Prediction:
        """Buy one prediction, never twice.

        Raises AmbiguousCreateError where it may have been bought all the same; any other error says that it was not,
        or (`purchase_over=False`) that one look at the listing should precede the next create.
        """

    async def wait(self, prediction: Prediction, seen: Callable[[str], None]) -> str:
        """Return the image's URL once the prediction ends; raise its error where it ends without.

        Faults while asking (429, 5xx, network) are absorbed: the caller's deadline bounds the wait. `seen` is told
        after each look, in a few words, what the prediction does or why that is unknown.
        """

    async def find(self, seed: int, since: datetime) -> Prediction | None:
        """Return our prediction with this seed created at `since` or later; None where a complete listing lacks it.

        Looks no further back than `finds_since`.

        Raises TransientError where the listing could not be read to its end.
        """

    async def cancel(self, prediction: Prediction) -> Prediction:
        """Ask the provider to stop it, and return what it then is: a success that came first is still a success."""

    async def check(self) -> None:
        """Return where account and model may be used; raise UnauthorizedError or another GenerationError where not.

        AccountError: the model certainly has no input for the seed.
        """

    async def keep_warm(self) -> None:
        """Keep what a create would have to wait for (a TLS handshake) done, until cancelled."""

    async def aclose(self) -> None:
        """Close the connections."""
