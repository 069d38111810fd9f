"""The applications: of the worker's own port, and of a host that mounts the page below a path of its own."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from reactor.hosts import LoopbackOnly, is_loopback
from reactor.text.foreign import fit_line, fit_values
from reactor.web.api import Api, refusal
from reactor.web.guard import Guard, address_of
from reactor.web.headers import SafeHeaders
from reactor.web.origins import SameOriginOnly
from reactor.web.pages import Pages
from reactor.web.refusals import refused as answered
from reactor.web.render import static_files
from reactor.web.sign_in import SignIn
from reactor.web.wrong_tokens import WrongTokens

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from reactor.engine.health import Health
    from reactor.web.keys import Keys
    from reactor.web.metrics import Metrics
    from reactor.web.refusals import Refusals
    from reactor.web.site import Site

# The fields of the gate that anybody may see. The reason is not among them: the provider or an operator wrote it.
PUBLIC_GATE_FIELDS = frozenset({"paused", "resumes_in", "opens_on", "limit_per_minute"})


def application(
    site: Site,
    health: Health,
    metrics: Metrics,
    refusals: Refusals,
    *,
    keys: Keys,
    host: str,
    wrong: WrongTokens | None = None,
) -> ASGIApp:
    """The worker's port. With `keys`, all but the probes require one. A loopback `host` answers only this machine.

    `wrong`: slows the answers to wrong tokens.
    """
    wrong = wrong or WrongTokens()

    async def livez(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def scrape(_request: Request) -> Response:
        return Response(metrics.render(await health.gauges()), media_type=CONTENT_TYPE_LATEST)

    refused = {reason: partial(refusals.met, reason) for reason in ("host", "token", "origin")}
    sign_in = SignIn(keys, refused["token"], wrong)
    routes = [Route("/livez", livez), Route("/metrics", scrape), _readyz(health), *sign_in.routes, *_routes(site)]
    app: ASGIApp = SameOriginOnly(routed(routes), refused["origin"])
    app = Guard(app, keys, refused=refused["token"], ask=sign_in.ask, wrong=wrong)
    app = SafeHeaders(app, site.pictures)
    return LoopbackOnly(app, refused["host"], answered) if is_loopback(host) else app


def mounted(site: Site) -> ASGIApp:
    """The page, the API and /readyz, for a host application that asks its users who they are. Mount it below any path.

    Its paths begin with the scope's root_path. Another website cannot act through it, whatever the host allows.
    """
    routes = [_readyz(site.health)] if site.health is not None else []
    return _Hosted(SafeHeaders(SameOriginOnly(routed([*routes, *_routes(site)])), site.pictures))


def routed(routes: list[Route]) -> Starlette:
    """An application of these routes that never redirects, because a redirect would go to the Host of the request."""
    unknown = {status: partial(_unknown, status) for status in (404, 405)}
    app = Starlette(routes=routes, exception_handlers=unknown)
    app.router.redirect_slashes = False
    return app


def _routes(site: Site) -> list[Route]:
    async def events(_request: Request) -> Response:
        if site.changes.full:
            return PlainTextResponse("too many readers; ask again later\n", 503, headers={"retry-after": "10"})
        headers = {"x-accel-buffering": "no"}  # nginx would hold the events back
        return StreamingResponse(site.changes.stream(), media_type="text/event-stream", headers=headers)

    serve = static_files().serve
    return [*Pages(site).routes, *Api(site).routes, Route("/events", events), Route("/static/{name}", serve)]


def _readyz(health: Health) -> Route:
    async def readyz(request: Request) -> Response:
        ready, state = await health.ready()
        shown = fit_values(state) if getattr(request.state, "trusted", False) else without_texts(state)
        return JSONResponse(shown, status_code=200 if ready else 503)

    return Route("/readyz", readyz)


class _Hosted:
    """Names the user for the log, as the host's authentication does."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            user = getattr(scope.get("user"), "display_name", "") or "a user"
            who = f"{fit_line(str(user), longest=100)} of the host application from {address_of(scope)}"
            scope["state"] = {**scope.get("state", {}), "who": who}
        await self._app(scope, receive, send)


async def _unknown(status: int, request: Request, error: Exception) -> Response:
    words = {404: "there is nothing here", 405: "this method is not allowed here"}[status]
    path = request.url.path.removeprefix(request.scope.get("root_path", ""))
    answer = refusal(request, status, words) if path.startswith("/api/") else PlainTextResponse(f"{words}\n", status)
    answer.headers.update(getattr(error, "headers", None) or {})  # Allow, which a 405 must have
    return answer


def without_texts(state: dict[str, Any]) -> dict[str, Any]:
    """The state without the gate's reason: only states and times."""
    gate = state["intake"]
    return state | {"intake": gate and {name: gate[name] for name in gate if name in PUBLIC_GATE_FIELDS}}
