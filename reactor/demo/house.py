"""The demo's database: an embedded PostgreSQL, or a given database that holds nobody else's data.

The provider of the demo is a sandbox. A real token must never get an image of the sandbox, and no real worker may buy
images for the demo's tokens. So the demo uses a given database only if it is empty or holds only a sandbox's tokens,
and if no worker runs on it. When the demo ends, it removes its tokens that still wait. See also `Stories.stray`.
"""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING

from rich.console import Console

from reactor.database.connections import session_name
from reactor.database.discovery import discover
from reactor.database.table import TableError, plain_query
from reactor.embedded import EmbeddedPostgres, EmbeddedPostgresError
from reactor.engine.gate.gate_store import gate_state
from reactor.text.messages import message_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reactor.database.session import Session


# Without this asyncpg reads certificates in HOME, which may be another user's folder: sudo keeps HOME on some systems.
WITHOUT_TLS = "?sslmode=disable"


class DemoError(Exception):
    """The demo cannot run. The message is one line that says why and what to do."""


@contextmanager
def house(database_url: str | None) -> Iterator[str]:
    """Yield the URL of the database. Main thread only.

    Raises DemoError, and KeyboardInterrupt also on the signals of `ending_signals`.
    """
    before = {end: signal.signal(end, signal.default_int_handler) for end in ending_signals()}
    try:
        with ExitStack() as stack:
            try:
                with Console().status("starting PostgreSQL …") if sys.stdout.isatty() else nullcontext():
                    url = database_url or stack.enter_context(EmbeddedPostgres()).url() + WITHOUT_TLS
            except EmbeddedPostgresError as error:
                raise DemoError(message_of(error)) from error
            yield url
    finally:
        for end, handler in before.items():
            signal.signal(end, handler)


def ending_signals() -> list[signal.Signals]:
    """SIGTERM, and SIGHUP, which comes when the terminal is closed, unless it is ignored: `nohup` does that."""
    return [signal.SIGTERM, *[signal.SIGHUP] * (signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN)]


async def inspect(session: Session, tokens_table: str) -> None:
    """Raise DemoError if the database may hold somebody else's data. Changes nothing."""
    try:
        table = await discover(session, tokens_table)
    except TableError:
        if (await session.fetch(plain_query("demo_inhabited")))[0]["inhabited"]:
            raise DemoError(_refusal("has tables that are not the demo's")) from None
        return
    if (await session.fetch(table.query("demo_strangers")))[0]["strangers"]:
        raise DemoError(_refusal(f"has tokens in {tokens_table} that are not the demo's"))
    names = session_name("listener"), session_name("claims")
    if (await session.fetch(table.query("count_workers"), *names))[0]["workers"]:
        raise DemoError(_refusal("has a reactor running, which would buy images for the demo's tokens"))
    if (await gate_state(session))["paused"]:
        raise DemoError(_refusal("has its intake paused"))


def _refusal(why: str) -> str:
    return f"DATABASE_URL {why}; give the demo an empty database, or unset it for an embedded one"
