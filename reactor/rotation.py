"""The secrets among the settings: how each is checked, and how it is read again once it is refused.

A password or an API token may be rotated while a worker runs: its file, or `.env`, then has another value. A variable
of the environment stays as it was, and so does a value that a caller gave.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pydantic import SecretStr

from reactor.database.target import target_of
from reactor.environment import given
from reactor.secret import Secret
from reactor.text.redaction import Redactor
from reactor.urls import UrlError, database_url, passwords

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SECRETS = ("database_url", "listen_database_url", "replicate_api_token", "http_token", "http_read_token")


def usable_url(value: SecretStr) -> SecretStr:
    """Return the URL if a connection can be made as it says: `run` would wait as for a database that is away."""
    url = database_url(value.get_secret_value())
    target_of(url).tls.tries()  # reads the certificates
    return SecretStr(url)


def usable_token(value: SecretStr) -> SecretStr:
    """Return the token, stripped: with a newline the HTTP client's error would repeat the whole header."""
    stripped = value.get_secret_value().strip()
    if not stripped.isascii() or not stripped.isprintable():
        raise ValueError("has characters that no HTTP header can carry")
    return SecretStr(stripped)


_CHECKS = {"database_url": usable_url, "listen_database_url": usable_url, "replicate_api_token": usable_token}


class Rotation:
    """The secrets that are read again, each one object for all who use it, and the redactor that knows every value.

    `secrets`: the values by the settings' names. `by_caller`: the names of those that are never read again.
    """

    def __init__(self, secrets: Mapping[str, str], *, by_caller: set[str], dotenv: Path | None) -> None:
        self.known = [each for text in secrets.values() for each in _and_passwords(text)]
        self.redact = Redactor(self.known)
        self.secrets = {
            name: Secret(text, None if name in by_caller else partial(_read, name, dotenv))
            for name, text in secrets.items()
            if name in _CHECKS
        }
        for secret in self.secrets.values():
            secret.teach(lambda text: self.redact.learn(*_and_passwords(text)))


def _and_passwords(text: str) -> list[str]:
    try:
        return [text, *passwords(text)]
    except UrlError:  # it is no URL
        return [text]


def _read(name: str, dotenv: Path | None) -> str | None:
    """Read a secret again. None if that fails: the old one is refused, and that is logged."""
    try:
        value = given([name], secrets=SECRETS, dotenv=dotenv).get(name)
        return _CHECKS[name](SecretStr(value)).get_secret_value() if isinstance(value, str) else None
    except (OSError, ValueError):
        return None
