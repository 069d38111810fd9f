"""The message of an error. Many exceptions carry none, but a log line without a message helps nobody."""

import re

from reactor.urls import UrlError

_OS_NUMBER = re.compile(r"^\[Errno -?\d+\] ")


def first_of(error: BaseException) -> BaseException:
    """The error, or the first one in a group of groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def message_of(error: BaseException) -> str:
    """Return the error's message, never empty and not redacted.

    An error without a message has its cause's message, or else its class's name. A group has its first member's.
    """
    error = first_of(error)
    said = str(error).strip()
    if said:
        return said
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if error.__cause__ is not None:
        return message_of(error.__cause__)
    return f"{type(error).__name__.strip('_')}, without a message"


def first_line_of(error: BaseException) -> str:
    """Return the first line of the error's message; the driver adds details and hints on further lines."""
    return message_of(error).split("\n")[0]


def of_connecting(error: BaseException) -> str:
    """Return the first line of the reason why there is no connection; not redacted.

    A ValueError is about the URL. If it is not ours its message is replaced, because it may repeat a part of the
    password.
    """
    # The error of a certificate is an OSError and a ValueError, and is about no URL.
    about_the_url = isinstance(error, ValueError) and not isinstance(error, OSError | UnicodeDecodeError | UrlError)
    return "its URL cannot be used" if about_the_url else first_line_of(error)


def unreachable(error: BaseException) -> str:
    """Return the line that every command prints if the database cannot be reached; not redacted."""
    return f"cannot reach the database: {_OS_NUMBER.sub('', of_connecting(error))}"
