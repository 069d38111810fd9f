"""A prediction's life, computed from the clock, and its JSON. Nothing runs, so a thousand predictions cost nothing.

created ──queue──▶ processing ──run──▶ succeeded | failed | canceled
   └── deadline before the start ──▶ aborted
"""

from __future__ import annotations

import base64
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from reactor.sandbox.bounds import LONGEST, is_within

TERMINAL = ("succeeded", "failed", "canceled", "aborted")
Output = Callable[[list[str]], Any]


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds, from least to most, in the queue and running. `latency`: the delay of every HTTP answer, in seconds."""

    queue: tuple[float, float] = (0.1, 0.7)
    run: tuple[float, float] = (0.5, 1.1)
    latency: float = 0.0

    def __post_init__(self) -> None:
        if not all(is_within(value, 0.0, LONGEST) for value in (*self.queue, *self.run, self.latency)):
            raise ValueError(f"durations are 0 to {LONGEST:.0f} seconds")

    @classmethod
    def instant(cls) -> Timing:
        return cls((0.0, 0.0), (0.0, 0.0))

    def drawn(self, given: dict[str, Any]) -> tuple[float, float]:
        """The seconds in the queue and running. They are random, but the same for the same prompt and seed."""
        dice = random.Random(f"{given.get('prompt')}|{given.get('seed')}")
        return dice.uniform(*self.queue), dice.uniform(*self.run)


def new_id() -> str:
    """26 characters of a … z and 2 … 7, as in the API's ids."""
    return base64.b32encode(secrets.token_bytes(17))[:26].decode().lower()


@dataclass(slots=True, eq=False)
class Prediction:
    """A prediction that was bought. Moments are seconds since 1970. Measure with `requested_monotonic`."""

    model: str
    version: str | None
    input: dict[str, Any]
    queue: float  # seconds; infinite: it never starts
    run: float  # seconds
    retention: float  # seconds after its end until its input, output and pictures are removed
    id: str = field(default_factory=new_id)
    requested_at: float = field(default_factory=time.time)
    requested_monotonic: float = field(default_factory=time.monotonic)
    end: str = "succeeded"  # its last status, unless it is canceled first
    error: Any = None
    output: Output = list  # of the URLs of its pictures
    deadline: float | None = None  # moment
    canceled_at: float | None = None
    unlisted: float = 0.0  # seconds until the listing shows it
    gone: bool = False  # it was bought, but no request finds it
    size: int = 0  # bytes of the request that made it
    spare_seed: int = field(default_factory=lambda: secrets.randbelow(2**16))

    @property
    def prompt(self) -> str:
        return str(self.input.get("prompt", ""))

    @property
    def seed(self) -> int | None:
        seed = self.input.get("seed")
        return seed if isinstance(seed, int) else None

    @property
    def used_seed(self) -> int:
        return self.spare_seed if self.seed is None else self.seed

    @property
    def billed(self) -> bool:
        """Whether it costs. An aborted prediction costs nothing."""
        return self.status != "aborted"

    @property
    def started_at(self) -> float:
        """When it started, or will start."""
        return self.requested_at + self.queue

    @property
    def finished_at(self) -> float:
        """When it ended or will end. Infinite: it never ends."""
        if self.canceled_at is not None:
            return self.canceled_at
        natural = self.started_at if self.end == "aborted" else self.started_at + self.run
        return natural if self.deadline is None else min(natural, self.deadline)

    @property
    def status(self) -> str:
        now, finished_at = time.time(), self.finished_at
        if now < finished_at:
            return "starting" if now < self.started_at else "processing"
        if self.canceled_at is not None:
            return "canceled"
        if finished_at == self.deadline:
            return "aborted" if self.deadline < self.started_at else "canceled"
        return self.end

    def cancel(self) -> None:
        if self.status not in TERMINAL:
            self.canceled_at = time.time()

    @property
    def data_removed(self) -> bool:
        """Whether its input, output and pictures are removed."""
        return time.time() >= self.finished_at + self.retention

    def listed(self, now: float) -> bool:
        return not self.gone and self.requested_at + self.unlisted <= now

    def pictures(self) -> list[str]:
        count, kind = self.input.get("num_outputs", 1), self.input.get("output_format", "webp")
        kind = kind if kind in ("webp", "jpg", "png") else "webp"
        return [f"out-{place}.{kind}" for place in range(count if isinstance(count, int) and 1 <= count <= 4 else 1)]


def described(prediction: Prediction, base_url: str) -> dict[str, Any]:
    """The body of GET. `base_url` is without /v1."""
    status, mine = prediction.status, f"{base_url}/v1/predictions/{prediction.id}"
    removed = prediction.data_removed
    body: dict[str, Any] = {
        "id": prediction.id,
        "model": prediction.model,
        "version": prediction.version,
        "input": {} if removed else prediction.input,
        "logs": "",
        "data_removed": removed,
        "error": None,
        "source": "api",
        "status": status,
        "created_at": _stamp(prediction.requested_at, 3),
        "urls": {
            "get": mine,
            "cancel": f"{mine}/cancel",
            "web": f"{base_url}/#{prediction.id}",
            "stream": f"{base_url}/stream/{prediction.id}",  # as in the real answers; the sandbox streams nothing
        },
    }
    if prediction.deadline is not None:
        body["deadline"] = _stamp(prediction.deadline, 3)
    if status == "starting":
        return body
    body["output"] = None
    never_started = prediction.finished_at < prediction.started_at or status == "aborted"
    body["started_at"] = None if never_started else _stamp(prediction.started_at, 9)
    if status in TERMINAL:
        _describe_end(body, prediction, base_url)
    return body


def _describe_end(body: dict[str, Any], prediction: Prediction, base_url: str) -> None:
    ended_at, status = prediction.finished_at, body["status"]
    body["completed_at"] = _stamp(ended_at, 6)
    body["metrics"] = {
        "predict_time": round(max(0.0, ended_at - prediction.started_at), 6),
        "total_time": round(ended_at - prediction.requested_at, 6),
    }
    if status == "succeeded" and not body["data_removed"]:
        urls = [f"{base_url}/files/{prediction.id}/{name}" for name in prediction.pictures()]
        body["output"] = output = prediction.output(urls)
        body["metrics"]["image_count"] = count = len(output) if isinstance(output, list) else 1
        body["logs"] = (
            f"Using seed: {prediction.used_seed}\n  0%|          | 0/4 [00:00<?, ?it/s]\n"
            "100%|##########| 4/4 [00:00<00:00, 13.43it/s]\n"
            f"Total safe images: {count} out of {len(prediction.pictures())}\n"
        )
    elif status == "failed":
        body["error"] = prediction.error
    elif status == "canceled":
        body["logs"] = None


def _stamp(moment: float, digits: int) -> str:
    """A moment in UTC. The real API writes 3, 6 or 9 decimals."""
    fraction = f"{moment % 1:.9f}"[2 : 2 + digits]
    return f"{datetime.fromtimestamp(int(moment), UTC):%Y-%m-%dT%H:%M:%S}.{fraction}Z"
