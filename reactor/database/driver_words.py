"""The words of the driver's errors, cut to what can be told."""

from __future__ import annotations

import asyncpg

from reactor.database.sqlstates import UNDEFINED
from reactor.text.messages import message_of

_REPEATS_AN_ARGUMENT = "invalid input for query argument"  # an asyncpg DataError begins so; it may repeat a prompt

# A host's trigger may raise a message that repeats a row, with hundreds of MB. We keep more than a Redactor reads, so
# that the Redactor sees that the message was cut.
LONGEST_MESSAGE = 10_000  # characters
_LONGEST_CONTEXT = 500  # characters


def kind_and_message(error: Exception) -> str:
    """The error's kind and message, cut. Left out: the detail, and a message that repeats an argument."""
    said = str(error.args[0]) if isinstance(error, asyncpg.PostgresError) and error.args else message_of(error)
    said = said[:LONGEST_MESSAGE]
    unencodable = isinstance(error, ValueError) and isinstance(error, asyncpg.InterfaceError)
    if unencodable or said.startswith(_REPEATS_AN_ARGUMENT):
        said = "a value that PostgreSQL cannot take"
    return f"{type(error).__name__}: {said}{_in_a_function(error)}"


def _in_a_function(error: Exception) -> str:
    """A hint, if a host's function names something without its schema: our search path may lack that schema."""
    context = str(getattr(error, "context", None) or "")[:_LONGEST_CONTEXT].partition("\n")[0]
    if getattr(error, "sqlstate", None) not in UNDEFINED or "function" not in context:
        return ""
    return f", in {context}: our search path leaves out schemas in which other roles may create, or have created"
