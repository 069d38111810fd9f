"""What a request says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from starlette.requests import Request


def base_url(request: Request) -> str:
    """Where the client sees us, without /v1, any path prefix kept."""
    scope = request.scope
    return f"{scope['scheme']}://{request.headers.get('host', 'localhost')}{scope.get('root_path', '')}"


async def json_object(request: Request) -> dict[str, Any] | None:
    """The body; None where it is no JSON object. Raises HTTPException, 422.

    orjson reads 1024 levels and writes 254. What cannot be written would break each answer that shows it.
    """
    try:
        parsed = orjson.loads(await request.body())
        orjson.dumps([[[[parsed]]]])  # as deep as an answer puts it
    except orjson.JSONDecodeError:
        return None
    except orjson.JSONEncodeError as error:
        raise HTTPException(422, "Nested too deeply") from error
    return parsed if isinstance(parsed, dict) else None


def prompt_in(given: dict[str, Any] | None) -> str:
    """The prompt in a create's body, or nothing."""
    model_input = (given or {}).get("input")
    return str(model_input.get("prompt", "")) if isinstance(model_input, dict) else ""
