"""The sandbox and its routes: the API below /v1, the control below /sandbox, the pictures and their page."""

from __future__ import annotations

import secrets
import signal
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import anyio
from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from reactor.hosts import LoopbackOnly, is_loopback
from reactor.sandbox import catalog, gallery, wire
from reactor.sandbox.api import Api
from reactor.sandbox.books import Books
from reactor.sandbox.bounds import BOUNDS, LONGEST, BoundedBodies, Bounds
from reactor.sandbox.faults import Fault, FaultError, Faults, problem
from reactor.sandbox.guard import Guard, Handler, Limits, Locked
from reactor.sandbox.predictions import Timing
from reactor.sandbox.server import serving
from reactor.text.messages import message_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

RETENTION = 3600.0  # seconds after its end until a prediction's input and output are removed
REFUSED_INPUTS = 3  # tokens that fail, so that there is something to retry
BROKEN = f"""\
The sandbox is broken. It refuses the input of the next {REFUSED_INPUTS} tokens, which fail.
Then it says that credit is used up: the gate closes, and tokens wait.
To heal it: curl -X POST {{base_url}}/sandbox/heal
"""
HEALED = """\
The sandbox is healed, and takes every request.
A closed gate opens by itself within a minute, or at once by Resume on the page.
Tokens that failed wait for your retry, on the page or by: reactor retry --failed
"""
_LEDGER_KEYS = ("id", "model", "prompt", "seed", "requested_at", "finished_at", "status", "billed")


class _Config(BaseModel, extra="forbid"):
    timing: Timing = Timing()
    token: str | None = None
    limits: Limits = Limits()
    retention: Annotated[float, Field(ge=0, le=LONGEST, allow_inf_nan=False)] = RETENTION
    seed: int = 0
    faults: list[Fault] = []


class Sandbox:
    """`app` is the ASGI application. `ledger` has the predictions that were bought, `requests` the API's requests."""

    def __init__(
        self,
        timing: Timing | None = None,
        *,
        token: str | None = None,
        limits: Limits | None = None,
        retention: float = RETENTION,
        seed: int = 0,
        bounds: Bounds = BOUNDS,
    ) -> None:
        timing = timing or Timing()
        self.faults = Faults(seed, bounds=bounds)
        books = Books(bounds=bounds)
        self.ledger, self.requests = books.ledger, books.requests
        self._api = Api(books, timing, self.faults, retention)
        self.guard = Guard(books, self.faults, limits or Limits(), token=token, latency=timing.latency)
        self._gallery = gallery.Gallery(books)
        refusals = dict.fromkeys((404, 405, 413, 422), _refused)
        bodies = [Middleware(BoundedBodies, largest=bounds.largest_body)]
        self.app = Starlette(routes=self._routes(), exception_handlers=refusals, middleware=bodies)
        self.app.router.redirect_slashes = False  # because it would redirect to any Host that a request names

    @classmethod
    def from_config(cls, config: str) -> Sandbox:
        """Make a sandbox of a JSON object: timing, token, limits, retention, seed, faults. Raises ValueError."""
        try:
            given = _Config.model_validate_json(config)
        except ValidationError as error:
            raise ValueError(problem(error)) from error
        sandbox = cls(given.timing, token=given.token, limits=given.limits, retention=given.retention, seed=given.seed)
        for fault in given.faults:
            sandbox.fail(fault)
        return sandbox

    def fail(self, fault: Fault) -> Fault:
        """Put a fault in force and return it. Its `hits` say how often it struck."""
        return self.faults.add(fault)

    @asynccontextmanager
    async def serve(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
        """Serve on a socket in this event loop and yield the base URL, without /v1.

        Raises OSError if the port is taken. Off loopback the sandbox needs a token, which then guards the ledger, the
        requests, the faults and the page too. Raises ValueError if it has no token.
        """
        if is_loopback(host):
            app: ASGIApp = LoopbackOnly(self.app)
        elif self.guard.token is None:
            raise ValueError(f"a sandbox that others reach, at {host}, needs a token")
        else:
            app = Locked(self.app, self.guard.token)
        async with serving(app, host, port) as base_url:
            yield base_url

    def _routes(self) -> list[Route]:
        api, control = self._api, [("faults", self._faults), ("ledger", self._ledger), ("requests", self._requests)]
        switches = [("break", self._break), ("heal", self._heal)]
        guarded: list[tuple[str, str, str, Handler]] = [
            ("GET", "/predictions/{id}", "get", api.get),
            ("POST", "/models/{owner}/{name}/predictions", "create", api.create),
            ("POST", "/predictions", "create", api.create),
            ("GET", "/predictions", "list", api.list),
            ("POST", "/predictions/{id}/cancel", "cancel", api.cancel),
            ("GET", "/account", "account", catalog.account),
            *((method, path, "other", handler) for method, path, handler in catalog.ROUTES),
        ]
        return [
            *(Route(f"/v1{path}", self.guard.around(on, to), methods=[method]) for method, path, on, to in guarded),
            *(Route(f"/sandbox/{path}", to, methods=["GET", "POST", "DELETE"]) for path, to in control),
            *(Route(f"/sandbox/{path}", to, methods=["POST"]) for path, to in switches),
            Route("/files/{id}/{name}", self._picture),
            Route("/", self._gallery.page),
        ]

    async def _picture(self, request: Request) -> Response:
        return await self.guard.served("picture", request, self._gallery.picture)

    async def _faults(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.faults.clear()
        elif request.method == "POST":
            try:
                self.fail(Fault.from_json(await wire.json_object(request)))
            except FaultError as error:
                return wire.answered({"detail": message_of(error)}, 422)
        return wire.answered(list(self.faults))

    def break_down(self) -> None:
        """Refuse some inputs, and then every purchase for want of credit, until `heal`."""
        self.faults.clear()
        for fault in (Fault("422", times=REFUSED_INPUTS), Fault("402")):
            self.fail(fault)

    async def _break(self, request: Request) -> Response:
        self.break_down()
        return PlainTextResponse(BROKEN.format(base_url=wire.base_url(request)))

    async def _heal(self, _request: Request) -> Response:
        self.faults.clear()
        return PlainTextResponse(HEALED)

    async def _ledger(self, _request: Request) -> Response:
        return wire.answered([{name: getattr(bought, name) for name in _LEDGER_KEYS} for bought in self.ledger])

    async def _requests(self, _request: Request) -> Response:
        return wire.answered([asdict(seen) for seen in self.requests])


async def _refused(_request: Request, error: Exception) -> Response:
    status, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (404, "")
    return wire.problem(wire.NOT_FOUND if status == 404 else {"detail": detail.capitalize(), "status": status})


async def serve_forever(sandbox: Sandbox, host: str, port: int) -> None:
    """Serve until SIGTERM or Ctrl-C. The first line on stdout is the base URL. Raises OSError if the port is taken.

    If the sandbox has no token and is served off loopback, this makes one, and prints it in the second line as a
    worker's setting.
    """
    made = sandbox.guard.token is None and not is_loopback(host)
    if made:
        sandbox.guard.token = secrets.token_urlsafe()
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with sandbox.serve(host, port) as base_url:
            with suppress(OSError):  # stdout may be closed; then the starter knows the URL from its own arguments
                print(base_url, *[f"REPLICATE_API_TOKEN={sandbox.guard.token}"] * made, sep="\n", flush=True)  # noqa: T201
            async for _ in signals:
                return
