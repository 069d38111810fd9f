"""Requests that got no usable answer: which of them never left, and what became of the others, in words."""

from __future__ import annotations

import re

import httpx

from reactor.providers.bodies import UnreadableError
from reactor.providers.http_client import TIMEOUTS
from reactor.text.messages import message_of

NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.LocalProtocolError,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)
UNANSWERED = (httpx.RequestError, OSError)  # ssl.SSLError in the midst of an answer comes through as it is
_CODES = re.compile(r"\[[^\]]*\]|\(_ssl\.c:\d+\)")  # as the system and OpenSSL put around their words


def describe(error: Exception) -> str:
    """What a failed request came to, in words: the exceptions have names, and often no message."""
    match error:
        case httpx.ConnectTimeout():
            return "no connection in time"
        case TimeoutError() | httpx.TimeoutException():
            return f"nothing complete within {TIMEOUTS['answer']:g} s"
        case httpx.RemoteProtocolError():
            return "it broke off, or is no HTTP"
        case (
            httpx.ConnectError()
            | httpx.LocalProtocolError()
            | httpx.UnsupportedProtocol()
            | httpx.InvalidURL()
            | UnreadableError()
        ):
            return _CODES.sub("", message_of(error)).strip()
        case _:
            return "the connection was lost"
