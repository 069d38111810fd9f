"""The account, and the models that the sandbox knows, with the handlers of the requests about them.

People try their own models, and the sandbox cannot know them all. So it serves any `owner/name` and any version of 64
hexadecimal digits like an image model, except names that contain `missing` or `unknown`, and the version of zeros. A
model whose name contains `seedless` has no input for a seed, and refuses one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from reactor.sandbox import wire

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

SCHNELL = "black-forest-labs/flux-schnell"
SDXL = "stability-ai/sdxl"
EXAMPLE_VERSION = "39ed52f2a78e934b3ba6e2a89f5b1c712de7dfea535525255b1aa35c5565e08b"
_RECORDED = "7762fd07cf82c948538e41f63f77d685e02b063e37e496e96eefd46c929f9bdc"
SEEDLESS_VERSION = "5eed1e55" * 8
VERSIONS = {
    SEEDLESS_VERSION: "sandbox/seedless",
    _RECORDED: SDXL,
    EXAMPLE_VERSION: SDXL,
    "02e509c789964a7ea8736978a43525956ef40397be9033abf9fd2badfe68c9e3": "meta/llama-2-70b-chat",
    "30e22229542eb3f79d4f945dacb58d32001b02cc313ae6f54eef27904edf3272": "replicate/canary",
}
MODELS = (
    SCHNELL, "black-forest-labs/flux-dev", SDXL, "stability-ai/stable-diffusion", "bytedance/seedream-4",
    "meta/llama-2-70b-chat", "meta/meta-llama-3-8b-instruct", "replicate/canary",
)  # fmt: skip
ALIASES = {"meta/llama-2-70b-chat": "replicate/lifeboat-70b"}  # the official model answers with its internal name
# With `Prefer: wait` these two versions of SDXL answer as they were recorded. Nobody serves the second one's file.
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
TINY_PNG = f"data:image/png;base64,{_PIXEL}"
RECORDED_OUTPUTS = {_RECORDED: TINY_PNG, EXAMPLE_VERSION: "https://replicate.delivery/pbxt/sandbox/out-0.png"}
# A prediction that is always there, because the SDK's own tests ask for it.
EXAMPLE_PREDICTION = "vgcm4plb7tgzlyznry5d5jkgvu"
EXAMPLE_INPUT = {"prompt": "a studio photo of a rainbow colored corgi", "seed": 42069}
_VERSION = re.compile(r"[0-9a-f]{64}")
_MODEL = re.compile(r"[\w.-]+/[\w.-]+")
_PAGE = 5  # models
_PLACE = re.compile(r"[0-9]{1,6}")


def model_of(version: str) -> tuple[str, str] | None:
    """The model and version that a create's `version` names: an id, owner/name, or owner/name:id. None: no such."""
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


def described(model: str, base_url: str) -> dict[str, Any]:
    owner, _, name = model.partition("/")
    version = next((version for version, known in VERSIONS.items() if known == model), None)
    version = SEEDLESS_VERSION if seedless(model) else version
    return {
        "url": f"https://replicate.com/{model}",
        "owner": owner,
        "name": name,
        "description": f"{name}, as the sandbox has it",
        "visibility": "public",
        **dict.fromkeys(("github_url", "paper_url", "license_url", "default_example")),
        "run_count": 1,
        "cover_image_url": f"{base_url}/files/{EXAMPLE_PREDICTION}/out-0.webp",
        "latest_version": None if version is None else described_version(version, model),
    }


def described_version(version: str, model: str) -> dict[str, Any]:
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


async def _models(request: Request) -> Response:
    here = wire.base_url(request)
    start = int(cursor) if _PLACE.fullmatch(cursor := request.query_params.get("cursor", "")) else 0
    link, after = f"{here}/v1/models?cursor=", start + _PAGE
    return wire.paged(
        [described(model, here) for model in MODELS[start:after]],
        following=f"{link}{after}" if after < len(MODELS) else None,
        previous=f"{link}{max(0, start - _PAGE)}" if start else None,
    )


async def _search(request: Request) -> Response:
    wanted = (await request.body()).decode("utf-8", "replace").strip('"').lower()  # some clients send it as JSON
    return wire.paged([described(model, wire.base_url(request)) for model in MODELS if wanted in model])


async def _make_model(request: Request) -> Response:
    given = await wire.json_object(request)
    if not given or not isinstance(given.get("owner"), str) or not isinstance(given.get("name"), str):
        return wire.problem(wire.BAD_JSON)
    model = described(f"{given['owner']}/{given['name']}", wire.base_url(request))
    return wire.answered({**model, **{name: given[name] for name in model if name in given}}, 201)


async def _model(request: Request) -> Response:
    model = _named(request)
    if not exists(model):
        return wire.problem(wire.NOT_FOUND)
    return wire.answered(described(model, wire.base_url(request)))


async def _versions(request: Request) -> Response:
    versions = [version for version, model in VERSIONS.items() if model == _named(request)]
    return wire.paged([described_version(version, _named(request)) for version in versions])


async def _version(request: Request) -> Response:
    version = request.path_params["version"]
    if model_of(f"{_named(request)}:{version}") is None:
        return wire.problem(wire.NOT_FOUND)
    return wire.answered(described_version(version, _named(request)))


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
