"""The reactor inside another application: `lifespan`, `running` and `page`.

Every process that enters one of them runs a reactor of its own: with four workers of uvicorn there are four, which
share the work as a fleet does.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from starlette.responses import PlainTextResponse

from reactor.application import health_of, traces_of, worker_of
from reactor.handle import Running
from reactor.logs import HostLog
from reactor.settings import Settings, SettingsError
from reactor.supervisor import Supervisor, beside
from reactor.telemetry import Telemetry
from reactor.waits import Waits
from reactor.web import Site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

# The reactors of this process: the application that each was begun for, its event loop, and itself.
_begun: list[tuple[Any, asyncio.AbstractEventLoop, Running]] = []


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    """Run the reactor while an ASGI application runs: `FastAPI(lifespan=reactor.lifespan)`.

    Or inside a lifespan of your own: `async with reactor.lifespan(app): yield`. It reads the environment, handles no
    signals, opens no port, and does not configure logging. The reactor begins once the table is migrated, and begins
    again if it dies. When the application stops, attempts get SHUTDOWN_GRACE_SECONDS, then their tokens are handed
    back. Raises SettingsError.
    """
    async with running(_settings()) as reactor:
        with _known(app, reactor):
            yield


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """Run the reactor while the body runs, as `lifespan` does, and yield it: see Running."""
    waits = Waits(settings)
    async with health_of(settings) as health:
        telemetry = Telemetry(HostLog(settings.redact), health, waits, *traces_of(settings))
        worker = partial(worker_of, settings, telemetry, settings.redact, health)
        supervisor = Supervisor(worker, telemetry, between=health.close_idle)  # no worker does it before the migration
        reactor = Running(supervisor, waits, Site(settings, telemetry, health))
        try:
            async with beside(supervisor):
                yield reactor
        finally:
            await reactor.aclose()


def page(reactor: Running | None = None) -> ASGIApp:
    """The page, the API and /readyz, as an ASGI application to mount: `app.mount("/reactor", reactor.page())`.

    It shows the reactor that `lifespan` runs, or the one passed in. Put it behind the authentication of your
    application: it asks nobody who they are, and whoever may see it may retry, pause and resume.
    """

    async def shown(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        found = reactor or _running_for(scope.get("app"))
        answer: ASGIApp = (
            found.app
            if found is not None
            else PlainTextResponse("no reactor runs in this process: give the application reactor.lifespan\n", 503)
        )
        await answer(_as_mounted(scope), receive, send)

    return shown


def _as_mounted(scope: Scope) -> Scope:
    """The scope as ASGI has it below a path: Litestar cuts that path off, and names it nowhere but in raw_path."""
    whole = unquote(scope.get("raw_path", b"").partition(b"?")[0].decode("latin-1")).rstrip("/")
    path = scope["path"].rstrip("/")
    if scope.get("root_path") or whole == path or not whole.endswith(path):
        return scope
    root = whole.removesuffix(path)
    return {**scope, "root_path": root, "path": f"{root}{path or '/'}"}


def _settings() -> Settings:
    """Raises SettingsError with all problems on one line, because servers show only the last line of a traceback."""
    try:
        return Settings.load()
    except SettingsError as error:
        raise SettingsError(["; ".join(error.problems)]) from None


@contextmanager
def _known(app: Any, reactor: Running) -> Iterator[None]:
    entry = app, asyncio.get_running_loop(), reactor
    _begun.append(entry)
    try:
        yield
    finally:
        _begun.remove(entry)


def _running_for(app: Any) -> Running | None:
    """The reactor that was begun for this application; else the last one that was begun on this event loop."""
    here = [(of, reactor) for of, loop, reactor in _begun if loop is asyncio.get_running_loop()]
    return next((reactor for of, reactor in here if of is app and app is not None), here[-1][1] if here else None)
