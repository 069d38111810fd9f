"""How to read a request, and how to answer: the refusals have the words of the real API's answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.requests import Request

UNAUTHENTICATED = {
    "title": "Unauthenticated",
    "detail": "You did not pass a valid authentication token",
    "status": 401,
}
FORBIDDEN = {"title": "Forbidden", "detail": "You do not have permission to perform this action.", "status": 403}
NOT_FOUND = {"detail": "The requested resource could not be found.", "status": 404}
BAD_JSON = {"detail": "The request's body is no JSON object.", "status": 400}
BAD_VERSION = {
    "title": "Invalid version or not permitted",
    "detail": "The specified version does not exist (or perhaps you don't have permission to use it?)",
    "status": 422,
}
INTERNAL = {"detail": "Internal server error", "status": 500}
_BILLING = "https://replicate.com/account/billing"
_WAIT = "please wait a few minutes before trying again."


def _unpaid(title: str, detail: str) -> dict[str, Any]:
    return {"title": title, "detail": detail, "status": 402}


PAYMENT = {
    "credit": _unpaid(
        "Insufficient credit",
        f"You have insufficient credit to run this model. Go to {_BILLING}#billing to purchase credit. "
        f"Once you purchase credit, {_WAIT}",
    ),
    "billing": _unpaid(
        "Billing required",
        f"You need to set up billing to run this model. Go to {_BILLING}#billing to set it up. "
        f"If you have recently set up billing, {_WAIT}",
    ),
    "spend": _unpaid(
        "Monthly spend limit reached",
        "You've hit your monthly spend limit. You can change or remove your limit at "
        f"{_BILLING}#limits. If you have recently increased your limit, {_WAIT}",
    ),
    "free": _unpaid(
        "Free time limit reached",
        f"You have reached the free time limit. To continue using Replicate, set up billing at {_BILLING}.",
    ),
}
_LOW_CREDIT = (
    " Your rate limit for creating predictions is reduced to 6 requests per minute with a burst of 1 requests"
    " while you have less than $5.0 in credit."
)


def base_url(request: Request) -> str:
    """The URL at which the client reaches the sandbox: with a path prefix if there is one, without /v1."""
    scope = request.scope
    return f"{scope['scheme']}://{request.headers.get('host', 'localhost')}{scope.get('root_path', '')}"


async def json_object(request: Request) -> dict[str, Any] | None:
    """The body, or None if it is not a JSON object. Raises HTTPException 422.

    orjson reads 1024 levels of nesting and writes 254. Input that orjson cannot write would break every answer that
    shows it.
    """
    try:
        parsed = orjson.loads(await request.body())
        orjson.dumps([[[[parsed]]]])  # at least as deep as an answer nests it
    except orjson.JSONDecodeError:
        return None
    except orjson.JSONEncodeError as error:
        raise HTTPException(422, "Nested too deeply") from error
    return parsed if isinstance(parsed, dict) else None


def throttled(seconds: float, *, low_credit: bool = False) -> dict[str, Any]:
    """A 429's body without `retry_after`, because the real API gives that in the header, in the body, or not at all."""
    middle = _LOW_CREDIT if low_credit else ""
    return {"detail": f"Request was throttled.{middle} Your rate limit resets in ~{seconds:g}s.", "status": 429}


def invalid_input(fields: list[dict[str, str]]) -> dict[str, Any]:
    """A 422's body. Each of `fields` has a type, a field and a description."""
    lines = [f"{each['field']}: {each['description']}" if each["field"] else each["description"] for each in fields]
    detail = "".join(f"- {line}\n" for line in lines)
    return {"detail": detail, "status": 422, "title": "Input validation failed", "invalid_fields": fields}


def problem(body: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), body["status"], headers, "application/problem+json")


def answered(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


def paged(results: list[Any], *, following: str | None = None) -> Response:
    """One page of a listing. `following` is the absolute URL of the next one, because clients take it as it is."""
    return answered({"previous": None, "next": following, "results": results})
