"""When a refused API token is checked again, by the whole fleet.

A token may be good for the account and not for the model: its check passes, and creates are refused all the same. With
a check every 10 s, each of them would fail one token. So a create that is refused after a check has opened the
gate has the fleet wait twice as long for the next check. The gate's row keeps that wait until a create with this token
is accepted, whatever processes stop and start meanwhile: see `refuse_gate.sql`.

Whoever has put in another API token and started the worker again is served at once. The row says which token was
refused, by a mark of it, so a worker can tell whether its own is another one.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

REFUSED = "Invalid API token"


def mark_of(token: str) -> str:
    """24 bits that tell an API token from others. One in 16 million has the same, so nobody can find it out by them."""
    return blake2b(token.encode(), digest_size=3, person=b"reactor gate").hexdigest()


class Checks:
    """What one worker knows of the refusals of its API token."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.unproven = False  # it was refused, and no create with it was accepted since
        self._began = True  # the gate was closed for a refused token whenever this worker looked

    def looked(self, state: Mapping[str, Any]) -> None:
        """The gate stands like this."""
        self.unproven = state["refused_token"] == self.mark
        self._began = self._began and state["opens_on"] == "check"

    @property
    def may_be_new(self) -> bool:
        """Whether this worker began with the gate closed for another API token than its own."""
        return self._began and not self.unproven

    def due(self, state: Mapping[str, Any]) -> bool:
        """Whether to check now."""
        return state["opens_on"] == "check" and (self.may_be_new or state["check_in"] <= 0)
