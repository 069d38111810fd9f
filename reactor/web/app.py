"""The endpoints. `/livez` does not ask the database: it answers while the worker's loop runs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from reactor.hosts import LoopbackOnly, is_loopback
from reactor.text.foreign import fit_values
from reactor.web.guard import Guard

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from reactor.engine.health import Health
    from reactor.web.metrics import Metrics
    from reactor.web.refusals import Refusals

OPEN = frozenset({"/livez", "/readyz"})  # an orchestrator's probes carry no token
# The fields of the gate that anybody may see. The reason is not among them: the provider or an operator wrote it.
PUBLIC_GATE_FIELDS = frozenset({"paused", "resumes_in", "opens_on", "limit_per_minute"})


def application(health: Health, metrics: Metrics, refusals: Refusals, *, token: str | None, host: str) -> ASGIApp:
    """The worker's pages. With `token`, all but the probes require it. A loopback `host` answers only this machine."""

    async def livez(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        ready, state = await health.ready()
        shown = fit_values(state) if getattr(request.state, "trusted", False) else without_texts(state)
        return JSONResponse(shown, status_code=200 if ready else 503, headers={"cache-control": "no-store"})

    async def scrape(_request: Request) -> Response:
        return Response(metrics.render(await health.gauges()), media_type=CONTENT_TYPE_LATEST)

    pages = Starlette(routes=[Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", scrape)])
    pages.router.redirect_slashes = False  # a redirect would go to the Host that the request names
    app: ASGIApp = pages
    if token is not None:
        app = Guard(app, token, unguarded=OPEN, refused=partial(refusals.met, "token"))
    return LoopbackOnly(app, refused=partial(refusals.met, "host")) if is_loopback(host) else app


def without_texts(state: dict[str, Any]) -> dict[str, Any]:
    """The state without the gate's reason: only states and times."""
    gate = state["intake"]
    return state | {"intake": gate and {name: gate[name] for name in gate if name in PUBLIC_GATE_FIELDS}}
