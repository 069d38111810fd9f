"""Says in one sentence why a request was not served, and with which status."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from reactor.database.connections import (
    ConnectionLostError,
    DatabaseError,
    DeniedError,
    RowRefusedError,
    why_unreachable,
)
from reactor.database.table import TableError
from reactor.operations.tokens import FilterError
from reactor.text.messages import first_line_of, message_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from reactor.text.redaction import Redactor

    Handler = Callable[[Request], Awaitable[Response]]
    Say = Callable[[Request, int, str], Response]

KNOWN = (DatabaseError, TableError, FilterError, HTTPException)
_TOO_LONG = "57014"  # PostgreSQL's code for a statement that reached its time limit


def problem_of(error: Exception, redact: Redactor) -> tuple[int, str]:
    """The status and the sentence."""
    driver = first_line_of(error.__cause__ or error)
    match error:
        case HTTPException():
            return error.status_code, error.detail
        case FilterError():
            found = 400, message_of(error)
        case ConnectionLostError():
            found = 503, why_unreachable(error)
        case TableError():
            found = 503, message_of(error)
        case DeniedError():
            found = 403, f"the worker's database role may not do that: {driver}; see: reactor doctor"
        case RowRefusedError():
            found = 400, f"the database refused that: {driver}"
        case _ if getattr(error.__cause__, "sqlstate", None) == _TOO_LONG:
            found = 503, "the database took too long; ask for less, by a status or a shorter time"
        case _:
            found = 503, driver
    return found[0], redact(found[1])


def answering_errors(handler: Handler, redact: Redactor, say: Say) -> Handler:
    """Return the handler, which now answers by `say` the errors that it may meet."""

    async def answered(request: Request) -> Response:
        try:
            return await handler(request)
        except KNOWN as error:
            return say(request, *problem_of(error, redact))

    return answered
