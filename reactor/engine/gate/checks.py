"""When a refused API token is checked again, by the whole fleet.

An API token may be valid for the account but not for the model. Then its check passes, and creates are still refused.
With a check every 10 s, each check would open the gate and fail one token of the queue. So if a create is refused after
a check has opened the gate, the fleet waits twice as long for the next check. The gate's row keeps that wait until a
create with this API token is accepted, also when workers stop and start meanwhile: see `refuse_gate.sql`.

Another API token is checked at once, whether the operator restarts the worker with it or rotates it in its file: while
the gate is closed for the API token, the file is read again. The row holds a mark of the refused API token, so a worker
knows whether its own differs.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from reactor.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

REFUSED = "Invalid API token"


def mark_of(token: str) -> str:
    """24 bits that tell an API token from others, and do not reveal it: one in 16 million has the same mark."""
    return blake2b(token.encode(), digest_size=3, person=b"reactor gate").hexdigest()


class Checks:
    """What one worker knows about refusals of its API token."""

    def __init__(self, token: str | Secret) -> None:
        self._token = Secret.of(token)
        self._known = self._token.value  # the API token at the last look at the gate
        self.unproven = False  # the API token was refused, and no create with it was accepted since
        self._began = True  # at every look so far, the gate was closed for a refused API token

    @property
    def mark(self) -> str:
        """The mark of this worker's API token, which may be rotated."""
        return mark_of(self._token.value)

    async def renew(self) -> None:
        """Read the API token again, because the gate is closed for it. If it changed, forget what was known."""
        if await self._token.renewed(self._known):
            self._known, self._began, self.unproven = self._token.value, True, False

    def looked(self, state: Mapping[str, Any]) -> None:
        """Remember the state of the gate, as it was just read."""
        self.unproven = state["refused_token"] == self.mark
        self._began = self._began and state["opens_on"] == "check"

    @property
    def may_be_new(self) -> bool:
        """Whether this worker began with the gate closed for another API token than its own."""
        return self._began and not self.unproven

    def due(self, state: Mapping[str, Any]) -> bool:
        """Whether to check now."""
        return state["opens_on"] == "check" and (self.may_be_new or state["check_in"] <= 0)
