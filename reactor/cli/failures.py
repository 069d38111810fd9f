"""Turns the errors of a command into the one line that its user reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import click

from reactor.database.connections import ConnectionLostError, DatabaseError, ReadOnlyError
from reactor.database.session import Session
from reactor.database.table import TableError
from reactor.text.messages import first_line_of, unreachable
from reactor.text.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from reactor.settings import DatabaseSettings

T = TypeVar("T")


def run_async(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a command's coroutine, on uvloop if it is installed."""
    try:
        import uvloop  # noqa: F401  (optional, and slow to import for commands that need no loop)
    except ImportError:
        return anyio.run(main)
    return anyio.run(main, backend_options={"use_uvloop": True})


def line(error: DatabaseError | TableError) -> str:
    """The error as one line, not redacted: the driver's message, if the driver's error caused ours."""
    if isinstance(error, ReadOnlyError):
        return first_line_of(error)
    cause = error.__cause__ or error
    if isinstance(error, ConnectionLostError):
        return unreachable(cause)
    return first_line_of(cause)


def no_such_value(error: DatabaseError) -> bool:
    """Whether a value does not fit its column's type: no number, out of range, or not in the database's encoding."""
    state: str | None = getattr(error.__cause__, "sqlstate", None)
    return state is not None and state.startswith("22")


def with_database(settings: DatabaseSettings, work: Callable[[Session], Awaitable[T]]) -> T:
    """Run `work` with a session, and turn the database's errors into one line and exit code 1."""
    redact = Redactor(settings.secrets())

    async def main() -> T:
        pooled = settings.listen_database_url is not None
        session = Session(settings.database_url.get_secret_value(), name="reactor command", pooled=pooled)
        try:
            return await work(session)
        except (DatabaseError, TableError) as error:
            raise click.ClickException(redact(line(error))) from error
        finally:
            await session.aclose()

    return run_async(main)
