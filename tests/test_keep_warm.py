"""How an idle connection is kept open."""

from types import SimpleNamespace

import anyio.lowlevel
import pytest

from reactor.errors import TransientError
from reactor.providers import keep_warm

pytestmark = pytest.mark.anyio


class Quiet:
    """A client in virtual time, used only by keep_warm. Its server closes connections idle for `lasts` seconds."""

    def __init__(self, lasts):
        self.lasts = lasts
        self.now = 0.0
        self.connections = 1
        self.asked_at = 0.0
        self.pauses = []

    async def ask(self):
        self.pauses.append(self.now - self.asked_at)
        if self.pauses[-1] > self.lasts:
            self.connections += 1
        self.asked_at = self.now
        if len(self.pauses) == 9:
            raise KeyboardInterrupt
        raise TransientError("keep_warm ignores this")

    async def sleep(self, seconds):
        self.now += seconds
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("lasts", "pauses"),
    [
        (400, [3, 6, 12, 24, 48, 48, 48, 48, 48]),
        (60, [3, 6, 12, 24, 48, 48, 48, 48, 48]),
        (15, [3, 6, 12, 24, 12, 12, 12, 12, 12]),
        (5, [3, 6, 3, 3, 3, 3, 3, 3, 3]),
        (1, [3] * 9),
    ],
)
async def test_the_server_is_asked_as_seldom_as_the_connection_lasts(monkeypatch, lasts, pauses):
    quiet = Quiet(lasts)
    monkeypatch.setattr(keep_warm, "time", SimpleNamespace(monotonic=lambda: quiet.now))
    monkeypatch.setattr(keep_warm, "anyio", SimpleNamespace(sleep=quiet.sleep))

    with pytest.raises(KeyboardInterrupt):
        await keep_warm.keep_warm(quiet, quiet.ask)

    assert quiet.pauses == pauses
