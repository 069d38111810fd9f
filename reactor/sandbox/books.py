"""The requests that came, the predictions that were bought, and the listing of the predictions."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from reactor.sandbox.bounds import BOUNDS, LONGEST_PATH, Bounds

if TYPE_CHECKING:
    from reactor.sandbox.predictions import Prediction

PAGE = 100  # predictions
_CURSOR = re.compile(r"before(\d{1,12})")


@dataclass(slots=True)
class Seen:
    """A request. Measure with `monotonic`. `status` is 0 as long as there is no answer."""

    method: str
    path: str
    received_at: float
    monotonic: float
    status: int


class Page(NamedTuple):
    """A page of the listing, newest first, and the cursor of the next page. None: this is the last page."""

    predictions: list[Prediction]
    following: str | None


class Books:
    """The requests and the predictions, oldest first. See bounds.py for how many are kept."""

    def __init__(self, *, bounds: Bounds = BOUNDS) -> None:
        self.ledger: list[Prediction] = []
        self.requests: list[Seen] = []
        self._bounds = bounds
        self._bytes = 0  # of the requests that made the predictions in the ledger
        self._forgotten = 0  # predictions that were in the ledger and are no longer
        self._by_id: dict[str, Prediction] = {}

    def enter(self, prediction: Prediction) -> None:
        """Add a prediction to the ledger. If there are too many, forget the older half."""
        self.ledger.append(prediction)
        self._by_id[prediction.id] = prediction
        self._bytes += prediction.size
        most = self._bounds
        while len(self.ledger) > most.predictions or (self._bytes > most.predictions_bytes and self.ledger[1:]):
            self._forget(len(self.ledger) // 2)

    def _forget(self, oldest: int) -> None:
        for prediction in self.ledger[:oldest]:
            del self._by_id[prediction.id]
            self._bytes -= prediction.size
        del self.ledger[:oldest]
        self._forgotten += oldest

    def note(self, method: str, path: str) -> Seen:
        """Add a request, whose status the caller sets later. If there are too many, forget the older half."""
        seen = Seen(method, path[:LONGEST_PATH], time.time(), time.monotonic(), 0)
        self.requests.append(seen)
        if len(self.requests) > self._bounds.requests:
            del self.requests[: len(self.requests) // 2]
        return seen

    def find(self, prediction_id: str) -> Prediction | None:
        """The prediction with that id, or None if there is no such prediction or it is gone."""
        found = self._by_id.get(prediction_id)
        return None if found is None or found.gone else found

    def page(self, cursor: str, since: float = 0.0) -> Page:
        """The page of the predictions before a cursor, or the newest page if there is no cursor.

        `since`: none that was created before this moment is listed.
        """
        now, first = time.time(), len(self.ledger)
        if given := _CURSOR.fullmatch(cursor):
            first = min(first, max(0, int(given[1]) - self._forgotten))
        places = (place for place in range(first - 1, -1, -1) if self.ledger[place].requested_at >= since)
        listed = (place for place in places if self.ledger[place].listed(now))
        found = list(islice(listed, PAGE + 1))
        following = f"before{found[PAGE - 1] + self._forgotten}" if len(found) > PAGE else None
        return Page([self.ledger[place] for place in found[:PAGE]], following)
