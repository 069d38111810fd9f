"""Turns our settings and a prompt into the SDK's arguments."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from replicate.version import Versions

from reactor.errors import PermanentError
from reactor.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from replicate.client import Client

_MODEL = re.compile(r"(?:(?P<owner>[\w.-]+)/(?P<name>[\w.-]+)(?::(?P<version>[\w.-]+))?|(?P<id>[\w-]+))")


def usable_token(api_token: str | Secret) -> Secret:
    """The token; a text loses surrounding white space. Raises ValueError if it is empty or no header can carry it.

    The SDK would replace an empty token by the environment's.
    """
    token = Secret(api_token.strip()) if isinstance(api_token, str) else api_token
    if not is_token(token.value):
        raise ValueError("not an API token")
    return token


def is_token(value: str) -> bool:
    """Whether a header can carry it."""
    return bool(value) and value.isascii() and value.isprintable()


def sdk_target(model: str) -> dict[str, Any]:
    """The SDK's arguments for owner/name, owner/name:version or a version id. Raises ValueError."""
    named = _MODEL.fullmatch(model)
    if named is None:
        raise ValueError(f"not a model: {model!r}")
    version = named["version"] or named["id"]
    return {"version": version} if version else {"model": f"{named['owner']}/{named['name']}"}


def describe_call(client: Client, model: str) -> Callable[[], Awaitable[object]] | None:
    """The SDK's call that describes the model; None for a version id alone, because it does not name the model."""
    named = _MODEL.fullmatch(model)
    if named is None or not named["owner"]:
        return None
    if named["version"]:
        return partial(Versions(client, model=(named["owner"], named["name"])).async_get, named["version"])
    return partial(client.models.async_get, named["owner"], named["name"])


def check_sendable(given: dict[str, Any]) -> None:
    """Raise PermanentError for input that cannot be sent as JSON."""
    try:
        json.dumps(given, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise PermanentError("The model's input cannot be sent as JSON") from error
