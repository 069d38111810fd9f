"""One task listens for all who wait."""

import asyncio

import anyio
import pytest
from anyio.lowlevel import checkpoint

from reactor.database.listening import Listening

pytestmark = pytest.mark.anyio


async def test_who_comes_after_an_unexpected_error_is_listened_for():
    begun = []
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # else the first error fails the test

    async def listen():
        begun.append(len(begun))
        if len(begun) == 1:
            raise ValueError("unexpected")
        await anyio.sleep_forever()

    listening = Listening(listen, name="test")
    with anyio.fail_after(5):
        with listening.awaited():
            while not begun:
                await checkpoint()
            await checkpoint()
            with listening.awaited():
                while len(begun) < 2:
                    await checkpoint()

    assert begun == [0, 1]
