"""What was asked and what was bought, and the listing of it."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from reactor.sandbox import bounds, catalog
from reactor.sandbox.predictions import Prediction, described

PAGE = 100  # predictions
_CURSOR = re.compile(r"before(\d{1,12})")


@dataclass(slots=True)
class Seen:
    """A request. `monotonic` is for measuring; `status` is 0 if the request got no answer."""

    method: str
    path: str
    received_at: float
    monotonic: float
    status: int


class Page(NamedTuple):
    """A part of the listing, newest first, and the cursor of the next part."""

    predictions: list[Prediction]
    following: str | None


class Books:
    """Every request and every purchase, in their order. `retention` is how long data are kept, in seconds."""

    def __init__(self, retention: float) -> None:
        self.ledger: list[Prediction] = []
        self.requests: list[Seen] = []
        self._retention = retention
        self._bytes = 0  # of the requests that made the predictions in the ledger
        self._forgotten = 0  # predictions that were in the ledger
        example = Prediction(
            catalog.SDXL, catalog.EXAMPLE_VERSION, catalog.EXAMPLE_INPUT, 0.0, 1.0, catalog.EXAMPLE_PREDICTION,
            requested_at=1_700_000_000.0, source="web",
        )  # fmt: skip
        self._by_id = {example.id: example}

    def enter(self, prediction: Prediction) -> None:
        """Write down a purchase. If there are too many, forget the older half."""
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
        """Write down a request; the caller sets the status of its answer later."""
        seen = Seen(method, path[: bounds.LONGEST_PATH], time.time(), time.monotonic(), 0)
        self.requests.append(seen)
        bounds.keep_newest(self.requests, bounds.REQUESTS)
        return seen

    def find(self, prediction_id: str) -> Prediction | None:
        """The prediction of that id, unless there is none or it is gone."""
        found = self._by_id.get(prediction_id)
        return None if found is None or found.gone else found

    def described(self, prediction: Prediction, base_url: str) -> dict[str, Any]:
        return described(prediction, base_url, self._retention)

    def has_data(self, prediction: Prediction) -> bool:
        """Whether the pictures of a prediction are still there."""
        return not prediction.data_removed(self._retention)

    def page(self, cursor: str) -> Page:
        """The predictions before a cursor; without one the newest."""
        now, first = time.time(), len(self.ledger)
        if given := _CURSOR.fullmatch(cursor):
            first = min(first, max(0, int(given[1]) - self._forgotten))
        listed = (place for place in range(first - 1, -1, -1) if self.ledger[place].listed(now))
        found = list(islice(listed, PAGE + 1))
        following = f"before{found[PAGE - 1] + self._forgotten}" if len(found) > PAGE else None
        return Page([self.ledger[place] for place in found[:PAGE]], following)
