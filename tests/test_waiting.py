"""Waiting with the real SDK on a server of bytes, in virtual time that only the provider's pauses move."""

from datetime import UTC, datetime, timedelta

import anyio.lowlevel
import pytest
from wire import Wire, http, quick_tls  # noqa: F401  (a fixture)

from reactor.providers import waiting
from reactor.providers.replicate import ReplicateProvider

pytestmark = pytest.mark.anyio

AN_HOUR_AHEAD = datetime(2026, 11, 28, 13, tzinfo=UTC)


class Clock:
    """Stands in for `time` and `anyio`: a sleep returns at once, with the clock moved."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    async def sleep(self, seconds):
        self.now += seconds
        await anyio.lowlevel.checkpoint()


class Model:
    """A server whose next prediction takes `seconds` of the clock. It counts the looks at the newest prediction."""

    def __init__(self, clock):
        self._clock = clock
        self.seconds = self._made_at = 0.0
        self.looks = 0
        self.wire = Wire(*[self._answer] * 10_000)

    async def _answer(self, stream):
        if self.wire.requests[-1][0].startswith("POST"):
            self._made_at, self.looks = self._clock.now, 0
        else:
            self.looks += 1
        await stream.send(http(self._prediction()))

    def _prediction(self):
        told = {"id": "p1", "status": "processing", "created_at": self._said(0.0)}
        if self._clock.now >= self._made_at + self.seconds:
            told |= {"status": "succeeded", "completed_at": self._said(self.seconds)}
            told |= {"output": ["https://replicate.delivery/1.webp"]}
        return told

    def _said(self, later):
        return (AN_HOUR_AHEAD + timedelta(seconds=self._made_at + later)).isoformat()


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(waiting, "time", clock)
    monkeypatch.setattr(waiting, "anyio", clock)
    return clock


@pytest.fixture
def model(clock):
    return Model(clock)


@pytest.fixture
async def bought(clock, model):
    """Buy a prediction that takes `seconds`, and wait for it; return how late its end was noticed, and the looks."""
    async with model.wire.serve() as base_url:
        provider = ReplicateProvider("r8_x", base_url=base_url)

        async def bought(seconds):
            model.seconds, began = seconds, clock.now
            await provider.wait(await provider.create("a lighthouse", 1), lambda _: None)
            return clock.now - began - seconds, model.looks

        yield bought
        await provider.aclose()


async def test_quick_pictures_after_a_slow_spell_are_noticed_quickly(bought):
    slow = [await bought(20.0) for _ in range(20)]
    quick = [await bought(0.7) for _ in range(15)]

    assert max(late for late, _ in slow) <= 20.0 / 7
    assert max(late for late, _ in quick) <= 0.5
    assert max(late for late, _ in quick[5:]) <= 0.05
    assert max(looks for _, looks in quick) <= 3
