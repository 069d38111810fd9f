"""The endpoints. `/livez` asks nobody: it answers as long as the worker's loop runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from reactor.foreign import fit_values
from reactor.web.guard import Guard

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from reactor.health import Health
    from reactor.metrics import Metrics

OPEN = frozenset({"/livez", "/readyz"})  # an orchestrator's probes carry no token


def application(health: Health, metrics: Metrics, *, token: str | None) -> ASGIApp:
    """The worker's pages; with `token`, all but the probes ask for it."""

    async def livez(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        ready, told = await health.ready()
        return JSONResponse(fit_values(told), status_code=200 if ready else 503, headers={"cache-control": "no-store"})

    async def scrape(_request: Request) -> Response:
        return Response(metrics.render(await health.gauges()), media_type=CONTENT_TYPE_LATEST)

    pages = Starlette(routes=[Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", scrape)])
    return pages if token is None else Guard(pages, token, unguarded=OPEN)
