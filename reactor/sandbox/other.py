"""The account, the models and their versions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from reactor.sandbox import catalog, wire

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_PAGE = 5  # models
_PLACE = re.compile(r"[0-9]{1,6}")


async def account(_request: Request) -> Response:
    return wire.answered({"type": "organization", "username": "sandbox", "name": "Sandbox", "github_url": None})


async def _models(request: Request) -> Response:
    here = wire.base_url(request)
    start = int(cursor) if _PLACE.fullmatch(cursor := request.query_params.get("cursor", "")) else 0
    link, after = f"{here}/v1/models?cursor=", start + _PAGE
    return wire.paged(
        [catalog.described(model, here) for model in catalog.MODELS[start:after]],
        following=f"{link}{after}" if after < len(catalog.MODELS) else None,
        previous=f"{link}{max(0, start - _PAGE)}" if start else None,
    )


async def _search(request: Request) -> Response:
    wanted = (await request.body()).decode("utf-8", "replace").strip('"').lower()  # some clients send it as JSON
    return wire.paged([catalog.described(model, wire.base_url(request)) for model in catalog.MODELS if wanted in model])


async def _make_model(request: Request) -> Response:
    given = await wire.json_object(request)
    if not given or not isinstance(given.get("owner"), str) or not isinstance(given.get("name"), str):
        return wire.problem(wire.BAD_JSON)
    model = catalog.described(f"{given['owner']}/{given['name']}", wire.base_url(request))
    return wire.answered({**model, **{name: given[name] for name in model if name in given}}, 201)


async def _model(request: Request) -> Response:
    model = _named(request)
    if not catalog.exists(model):
        return wire.problem(wire.NOT_FOUND)
    return wire.answered(catalog.described(model, wire.base_url(request)))


async def _versions(request: Request) -> Response:
    versions = [version for version, model in catalog.VERSIONS.items() if model == _named(request)]
    return wire.paged([catalog.described_version(version, _named(request)) for version in versions])


async def _version(request: Request) -> Response:
    version = request.path_params["version"]
    if catalog.model_of(f"{_named(request)}:{version}") is None:
        return wire.problem(wire.NOT_FOUND)
    return wire.answered(catalog.described_version(version, _named(request)))


def _named(request: Request) -> str:
    return f"{request.path_params['owner']}/{request.path_params['name']}"


ROUTES = (
    ("GET", "/models", _models),
    ("QUERY", "/models", _search),
    ("POST", "/models", _make_model),
    ("GET", "/models/{owner}/{name}", _model),
    ("GET", "/models/{owner}/{name}/versions", _versions),
    ("GET", "/models/{owner}/{name}/versions/{version}", _version),
)
