"""The tokens that open the port, and the cookies that stand for them in a browser.

A cookie holds no token: it says what its bearer may do and until when, signed with a key derived from the token. So it
works at every process that has the same token, and ends when the token changes. The derivation is slow on purpose,
because who steals a cookie could otherwise try out tokens against it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactor.settings import Settings

Access = Literal["act", "read"]  # whoever may act may read
SIGNED_IN_FOR = 12 * 3600  # seconds
_LONGEST_COOKIE = 200  # characters


class Keys:
    """`act`: HTTP_TOKEN. `read`: HTTP_READ_TOKEN. Every comparison takes the same time, whatever was given."""

    def __init__(self, act: str | None, read: str | None, *, clock: Callable[[], float] = time.time) -> None:
        given: dict[Access, str | None] = {"act": act, "read": read}
        self._tokens: dict[Access, bytes] = {name: token.encode() for name, token in given.items() if token is not None}
        self._clock = clock

    @classmethod
    def of(cls, settings: Settings) -> Keys:
        """The tokens of the settings."""
        given = settings.http_token, settings.http_read_token
        return cls(*(None if each is None else each.get_secret_value() for each in given))

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def access_of(self, token: bytes) -> Access | None:
        """What the token allows."""
        matching = {name: secrets.compare_digest(token, each) for name, each in self._tokens.items()}
        return next((name for name, same in matching.items() if same), None)

    def cookie_for(self, access: Access) -> str:
        """A cookie for somebody who gave a token that allows this."""
        said = f"{access}.{int(self._clock()) + SIGNED_IN_FOR}.{secrets.token_urlsafe(9)}"
        return f"{said}.{self._signature(access, said)}"

    def access_of_cookie(self, cookie: str) -> Access | None:
        """What the cookie allows, if we made it and it has not ended."""
        said, _, signature = cookie[:_LONGEST_COOKIE].rpartition(".")
        name, ends, *_ = (*said.split("."), "", "")
        access = next((each for each in self._tokens if each == name), None)
        if access is None or not ends.isdecimal() or not ends.isascii():
            return None
        genuine = secrets.compare_digest(signature.encode(), self._signature(access, said).encode())
        return access if genuine and int(ends) > self._clock() else None

    def _signature(self, access: Access, said: str) -> str:
        return hmac.digest(_slow_key(self._tokens[access]), said.encode(), "sha256").hex()


@cache
def _slow_key(token: bytes) -> bytes:
    """Takes about 50 ms, once for each token."""
    return hashlib.scrypt(token, salt=b"reactor: a cookie of the HTTP port", n=2**14, r=8, p=1)
