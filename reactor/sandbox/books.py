"""What was asked and what was bought, and the listing of it."""

from __future__ import annotations

import re
import time
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from reactor.sandbox import bodies, bounds, catalog
from reactor.sandbox.predictions import Prediction

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE = 100  # predictions
_CURSOR = re.compile(r"(before|after)(\d{1,12})")


@dataclass(slots=True)
class Seen:
    """A request, as it came. `monotonic` is for measuring; `status` 0 is a request that got no answer."""

    method: str
    path: str
    received_at: float
    monotonic: float
    status: int


class Page(NamedTuple):
    """A part of the listing, newest first; cursors of the parts before and after it."""

    predictions: list[Prediction]
    following: str | None
    previous: str | None


class Books:
    """Every request and every purchase, in their order. `retention` is how long data is kept, in seconds."""

    def __init__(self, retention: float) -> None:
        self.ledger: list[Prediction] = []
        self.requests: list[Seen] = []
        self._retention = retention
        self._bytes = 0  # of the requests that made what is in the ledger
        self._forgotten = 0  # predictions that were in the ledger
        example = Prediction(
            catalog.SDXL, catalog.EXAMPLE_VERSION, catalog.EXAMPLE_INPUT, 0.0, 1.0, catalog.EXAMPLE_PREDICTION,
            requested_at=1_700_000_000.0, source="web",
        )  # fmt: skip
        self._by_id = {example.id: example}

    def enter(self, prediction: Prediction) -> None:
        """Write down what was bought; forget the older half where that is more than we keep."""
        self.ledger.append(prediction)
        self._by_id[prediction.id] = prediction
        self._bytes += prediction.size
        while len(self.ledger) > bounds.PREDICTIONS or (self._bytes > bounds.PREDICTIONS_BYTES and self.ledger[1:]):
            self._forget(len(self.ledger) // 2)

    def _forget(self, oldest: int) -> None:
        for prediction in self.ledger[:oldest]:
            del self._by_id[prediction.id]
            self._bytes -= prediction.size
        del self.ledger[:oldest]
        self._forgotten += oldest

    def note(self, method: str, path: str) -> Seen:
        """Write down what is asked; its answer's status is set later."""
        seen = Seen(method, path[: bounds.LONGEST_PATH], time.time(), time.monotonic(), 0)
        self.requests.append(seen)
        bounds.keep_newest(self.requests, bounds.REQUESTS)
        return seen

    def find(self, prediction_id: str) -> Prediction | None:
        """The prediction, unless there is none, or it is gone."""
        found = self._by_id.get(prediction_id)
        return None if found is None or found.gone else found

    def described(self, prediction: Prediction, base_url: str) -> dict[str, Any]:
        """The API's JSON of it."""
        return bodies.described(prediction, base_url, self._retention)

    def has_data(self, prediction: Prediction) -> bool:
        """Whether its pictures are still there."""
        return not prediction.data_removed(self._retention)

    def page(self, query: Mapping[str, str]) -> Page:
        """The newest, or what a page's cursor leads to. Takes cursor, created_after and created_before."""
        now, key = time.time(), attrgetter("requested_at")
        low = bisect_left(self.ledger, _moment(query.get("created_after"), 0.0), key=key)
        high = bisect_right(self.ledger, _moment(query.get("created_before"), now), key=key)
        kind, place = _cursor(query.get("cursor", ""), high + self._forgotten)
        place = max(place - self._forgotten, -1 if kind == "after" else 0)
        if kind == "after":
            newer = self._listed(range(max(place + 1, low), high), now, PAGE)
            place = newer[-1] + 1 if newer else high
        found = self._listed(range(min(place, high) - 1, low - 1, -1), now, PAGE + 1)
        shown, more = found[:PAGE], found[PAGE:]
        newer = self._listed(range(max(place, low), high), now, 1)
        return Page(
            [self.ledger[index] for index in shown],
            f"before{shown[-1] + self._forgotten}" if more else None,
            f"after{place - 1 + self._forgotten}" if newer else None,
        )

    def _listed(self, places: range, now: float, most: int) -> list[int]:
        """The first places of the ledger that the listing shows now."""
        shown = (place for place in places if self.ledger[place].listed(now))
        return list(islice(shown, most))


def _cursor(text: str, newest: int) -> tuple[str, int]:
    found = _CURSOR.fullmatch(text)
    return (found[1], min(int(found[2]), newest)) if found else ("before", newest)


def _moment(text: str | None, default: float) -> float:
    try:
        return datetime.fromisoformat((text or "").replace(" ", "+")).timestamp()
    except (ValueError, OverflowError):
        return default
