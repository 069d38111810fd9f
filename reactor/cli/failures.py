"""Turns the errors of a command into the one line that its user reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import click

from reactor.database.connections import ConnectionLostError, DatabaseError, UntrustedServerError, why_unreachable
from reactor.database.session import Session
from reactor.database.table import TableError
from reactor.database.timings import CONNECTION_TIMINGS
from reactor.text.messages import first_line_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from reactor.database.timings import ConnectionTimings
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
    if isinstance(error, ConnectionLostError):
        return why_unreachable(error)
    return first_line_of(error.__cause__ or error)


class WrongUrl(click.ClickException):
    """The URL trusts another server than the one it names, which is a bad setting."""

    exit_code = 2


def failure(said: str, error: BaseException | None) -> click.ClickException:
    """The error as one line of the command's, with its exit code."""
    return WrongUrl(said) if isinstance(error, UntrustedServerError) else click.ClickException(said)


def with_database(
    settings: DatabaseSettings,
    work: Callable[[Session], Awaitable[T]],
    *,
    timings: ConnectionTimings = CONNECTION_TIMINGS,
) -> T:
    """Run `work` with a session, and turn the database's errors into one line and its exit code."""

    async def main() -> T:
        pooled = settings.listen_database_url is not None
        dsn = settings.secret("database_url")
        session = Session(dsn, name="reactor command", pooled=pooled, timings=timings)
        try:
            return await work(session)
        except (DatabaseError, TableError) as error:
            raise failure(settings.redact(line(error)), error) from error
        finally:
            await session.aclose()

    return run_async(main)
