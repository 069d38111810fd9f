"""Requests without a usable answer: which were never sent, and how each failed, in words."""

from __future__ import annotations

import re

import httpx

from reactor.providers.bodies import UnreadableError
from reactor.text.messages import message_of

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.LocalProtocolError, httpx.UnsupportedProtocol)
UNANSWERED = (httpx.RequestError, OSError)  # OSError: an ssl.SSLError may be raised amid an answer
_CODES = re.compile(r"\[[^\]]*\]|\(_ssl\.c:\d+\)")  # that the system and OpenSSL put around their words


def describe(error: Exception) -> str:
    """How a request failed, in words. The exceptions have names, but often no message."""
    match error:
        case httpx.ConnectTimeout():
            return "no connection in time"
        case httpx.RemoteProtocolError():
            return "it broke off or is not HTTP"
        case (
            httpx.ConnectError()
            | httpx.LocalProtocolError()
            | httpx.UnsupportedProtocol()
            | httpx.ReadTimeout()
            | UnreadableError()
        ):
            return _CODES.sub("", message_of(error)).strip()
        case _:
            return "the connection was lost"
