"""An event loop in virtual time, for tests without sockets. Instead of waiting for a moment it jumps to it."""

import asyncio
import selectors

import pytest


class _Jumps(selectors.DefaultSelector):
    now = 0.0  # seconds

    def select(self, timeout=None):
        if timeout:
            self.now += timeout
            timeout = 0
        return super().select(timeout)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self._jumps = _Jumps()
        super().__init__(self._jumps)

    def time(self):
        return self._jumps.now


VIRTUAL = pytest.param(("asyncio", {"loop_factory": VirtualLoop}), id="virtual time")
in_virtual_time = pytest.mark.parametrize("anyio_backend", [VIRTUAL], indirect=True)
