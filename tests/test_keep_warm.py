"""How an idle connection is kept open."""

import anyio
import pytest
from virtual import in_virtual_time

from reactor.errors import TransientError
from reactor.providers import keep_warm

pytestmark = pytest.mark.anyio


class EnoughError(Exception):
    """Ends the test."""


class Quiet:
    """A client that only keep_warm uses. Its server closes connections that were idle for `lasts` seconds."""

    def __init__(self, lasts):
        self.lasts = lasts
        self.connections = 1
        self.asked_at = 0.0
        self.pauses = []

    async def ask(self):
        self.pauses.append(anyio.current_time() - self.asked_at)
        if self.pauses[-1] > self.lasts:
            self.connections += 1
        self.asked_at = anyio.current_time()
        if len(self.pauses) == 9:
            raise EnoughError
        raise TransientError("keep_warm ignores this")


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
@in_virtual_time
async def test_the_server_is_asked_as_seldom_as_the_connection_lasts(lasts, pauses):
    quiet = Quiet(lasts)

    with pytest.raises(EnoughError):
        await keep_warm.keep_warm(quiet, quiet.ask)

    assert quiet.pauses == pytest.approx(pauses)
