"""How long we wait for the provider, and how much we read of its answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """A `ReplicateProvider` gets one and passes it to its parts; tests use smaller limits."""

    connect_within: float = 5.0  # seconds from the beginning of the request
    answer_within: float = 30.0  # seconds from the beginning of the request
    largest_body: int = 8 * 1024 * 1024  # bytes, also after decompression; a data URI may have an image's size
    most_unfinished: int = 32 * 1024 * 1024  # bytes of all unfinished answers; beyond it, only small ones are read on

    first_poll: float = 0.15  # seconds to it if nothing was learnt yet, or the prediction's age is unknown
    gone_after: float = 10.0  # seconds of polling until a 404 is believed: reads may lag behind creates
    reads_per_second: float = 24.0  # see `read_budget.py`
    reads_at_once: float = 10.0  # seconds' worth of reads that may be made at once
    most_pages: int = 1000  # of 100 predictions: more than an account makes while the listing keeps their seeds


LIMITS = Limits()
