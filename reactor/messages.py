"""The words for an error. Many exceptions carry no message, and an event or a line without one helps nobody."""

import re

_OS_NUMBER = re.compile(r"^\[Errno -?\d+\] ")


def message_of(error: BaseException) -> str:
    """Return what the error says, never an empty text; not redacted.

    An error without a message speaks by its cause, and without a cause by its kind. A group speaks by its first member.
    """
    if isinstance(error, BaseExceptionGroup):
        return message_of(error.exceptions[0])
    said = str(error).strip()
    if said:
        return said
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if error.__cause__ is not None:
        return message_of(error.__cause__)
    return f"{type(error).__name__.strip('_')}, without a message"


def first_line_of(error: BaseException) -> str:
    """Return the first line of what the error says; the driver adds details and hints on further lines."""
    return message_of(error).split("\n")[0]


def unreachable(error: BaseException) -> str:
    """Return the line for a database that cannot be reached, whichever command says it; not redacted."""
    return f"cannot reach the database: {_OS_NUMBER.sub('', first_line_of(error))}"
