"""The models that the sandbox knows.

People try their own models, and the sandbox cannot know them all. So it serves any `owner/name` and any version of 64
hexadecimal digits like an image model, except names that contain `missing` or `unknown`, and the version of zeros. A
model whose name contains `seedless` has no input for a seed, and refuses one.
"""

from __future__ import annotations

import re
from typing import Any

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
TEXT_MODELS = ("meta/llama-2-70b-chat", "meta/meta-llama-3-8b-instruct", "replicate/canary", "replicate/lifeboat-70b")
MODELS = (
    SCHNELL, "black-forest-labs/flux-dev", SDXL, "stability-ai/stable-diffusion", "bytedance/seedream-4",
    *TEXT_MODELS[:3],
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


def model_of(version: str) -> tuple[str, str] | None:
    """The model and version that a create's `version` names: an id, owner/name, or owner/name:id. None: no such."""
    name, colon, given = version.partition(":")
    if _VERSION.fullmatch(name) and not colon:
        return None if set(name) == {"0"} else (VERSIONS.get(name, "sandbox/any"), name)
    if colon and (not _VERSION.fullmatch(given) or set(given) == {"0"}):
        return None
    return (name, given or "hidden") if exists(name) else None


def exists(model: str) -> bool:
    """Whether the sandbox serves a model."""
    return bool(_MODEL.fullmatch(model)) and not any(word in model for word in ("missing", "unknown"))


def seedless(model: str) -> bool:
    """Whether a model refuses a seed."""
    return "seedless" in model


def words(prompt: str) -> list[str]:
    """A text model's output, piece by piece."""
    pieces = f"The sandbox paints; it has no words but yours: {prompt}".split()
    return [piece + " " for piece in pieces[:-1]] + pieces[-1:]


def described(model: str, base_url: str) -> dict[str, Any]:
    """The body of GET /v1/models/{owner}/{name}."""
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
    """The body of GET …/versions/{id}."""
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
