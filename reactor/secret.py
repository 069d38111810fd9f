"""A secret that may be rotated: once it is refused, it is read again from where it came."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio.to_thread

if TYPE_CHECKING:
    from collections.abc import Callable


class Secret:
    """The value of a secret. All who use it share one object, so that a new value is read once for all.

    `read`: reads the value from where it came; it returns None if it cannot, or if the value is not usable. Without it
    the value never changes, because a caller gave it.
    """

    def __init__(self, value: str, read: Callable[[], str | None] | None = None) -> None:
        self.value = value
        self._read = read
        self._learners: list[Callable[[str], None]] = []

    @classmethod
    def of(cls, given: str | Secret) -> Secret:
        """The secret; a text becomes one that never changes."""
        return given if isinstance(given, Secret) else cls(given)

    def teach(self, learn: Callable[[str], None]) -> None:
        """Pass each further value to `learn`, before anybody uses it: a log must not show it."""
        self._learners.append(learn)

    def tell(self, text: str) -> None:
        """Pass a text that is as secret as this, as a password that the secret leads to."""
        for learn in self._learners:
            learn(text)

    async def renewed(self, refused: str) -> bool:
        """Whether there is another value than the refused one; it is read again unless somebody has done so already."""
        if self.value == refused:
            read = await anyio.to_thread.run_sync(self._read) if self._read else None  # a file may be on a slow disk
            if read and read != self.value:
                self.tell(read)
                self.value = read
        return self.value != refused
