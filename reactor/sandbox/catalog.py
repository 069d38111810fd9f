"""The account, and the models that the sandbox knows, with the handlers of the requests about them.

The sandbox cannot know every model that people try. So it serves any `owner/name` and any version of 64 hexadecimal
digits as an image model, except names that contain `missing` or `unknown`, and the version of zeros. A model whose name
contains `seedless` has no input for a seed, and refuses a seed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from reactor.sandbox import wire

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

SCHNELL = "black-forest-labs/flux-schnell"
SEEDLESS_VERSION = "5eed1e55" * 8
VERSIONS = {
    SEEDLESS_VERSION: "sandbox/seedless",
    "7762fd07cf82c948538e41f63f77d685e02b063e37e496e96eefd46c929f9bdc": "stability-ai/sdxl",
    "02e509c789964a7ea8736978a43525956ef40397be9033abf9fd2badfe68c9e3": "meta/llama-2-70b-chat",
}
ALIASES = {"meta/llama-2-70b-chat": "replicate/lifeboat-70b"}  # the official model answers with its internal name
_VERSION = re.compile(r"[0-9a-f]{64}")
_MODEL = re.compile(r"[\w.-]+/[\w.-]+")


def model_of(version: str) -> tuple[str, str] | None:
    """The model and version that a create's `version` names: an id, owner/name, or owner/name:id. None: unknown."""
    name, colon, given = version.partition(":")
    if _VERSION.fullmatch(name) and not colon:
        return None if set(name) == {"0"} else (VERSIONS.get(name, "sandbox/any"), name)
    if colon and (not _VERSION.fullmatch(given) or set(given) == {"0"}):
        return None
    return (name, given or "hidden") if exists(name) else None


def exists(model: str) -> bool:
    return bool(_MODEL.fullmatch(model)) and not any(word in model for word in ("missing", "unknown"))


def seedless(model: str) -> bool:
    """Whether a model refuses a seed."""
    return "seedless" in model


def _described(model: str) -> dict[str, Any]:
    owner, _, name = model.partition("/")
    version = next((version for version, known in VERSIONS.items() if known == model), None)
    version = SEEDLESS_VERSION if seedless(model) else version
    return {
        "url": f"https://replicate.com/{model}",
        "owner": owner,
        "name": name,
        "description": f"{name}, as the sandbox has it",
        "visibility": "public",
        **dict.fromkeys(("github_url", "paper_url", "license_url", "default_example", "cover_image_url")),
        "run_count": 1,
        "latest_version": None if version is None else _described_version(version, model),
    }


def _described_version(version: str, model: str) -> dict[str, Any]:
    properties = {"prompt": {"type": "string"}} | ({} if seedless(model) else {"seed": {"type": "integer"}})
    schemas = {
        "Input": {"type": "object", "required": ["prompt"], "properties": properties},
        "Output": {"type": "array", "items": {"type": "string", "format": "uri"}},
    }
    return {
        "id": version,
        "created_at": "2024-01-01T00:00:00.000000Z",
        "cog_version": "0.9.4",
        "openapi_schema": {"openapi": "3.0.2", "components": {"schemas": schemas}},
    }


async def account(_request: Request) -> Response:
    return wire.answered({"type": "organization", "username": "sandbox", "name": "Sandbox", "github_url": None})


async def _model(request: Request) -> Response:
    model = _named(request)
    return wire.answered(_described(model)) if exists(model) else wire.problem(wire.NOT_FOUND)


async def _version(request: Request) -> Response:
    version = request.path_params["version"]
    if model_of(f"{_named(request)}:{version}") is None:
        return wire.problem(wire.NOT_FOUND)
    return wire.answered(_described_version(version, _named(request)))


def _named(request: Request) -> str:
    return f"{request.path_params['owner']}/{request.path_params['name']}"


ROUTES = (
    ("GET", "/models/{owner}/{name}", _model),
    ("GET", "/models/{owner}/{name}/versions/{version}", _version),
)
