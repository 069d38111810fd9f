"""Describes the API. One table gives the routes and the OpenAPI document, so that both have the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reactor.operations.tokens import LONGEST_TEXT, STATUSES
from reactor.web.actions import LONGEST_ID, MOST_IDS
from reactor.web.filters import DEFAULT_LIMIT, MOST

Schema = dict[str, Any]
OUTCOMES = ("succeeded", "retry", "failed", "released", "rejected", "rescued", "lost", "expired")
_TOKEN_ID: Schema = {"type": ["integer", "string"], "description": "A string if it is no number, or beyond 2^53."}
_GIVEN_ID: Schema = {
    "type": ["integer", "string"],
    "minimum": -(2**63),
    "maximum": 2**64 - 1,
    "minLength": 1,
    "maxLength": LONGEST_ID,
}
_TEXT: Schema = {"type": ["string", "null"]}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_SECONDS: Schema = {"type": ["number", "null"]}
_TIME: Schema = {"type": ["string", "null"], "description": "RFC 3339; or -infinity, infinity."}
_DURATION: Schema = {
    "type": "string",
    "pattern": r"^([0-9]{1,9}(\.[0-9]{1,9})?[smhd])*$",
    "description": "A duration: 90s, 10m, 1h30m or 2d. More than zero, and at most a year; or empty, for none.",
}


def _object(properties: dict[str, Schema], *, required: list[str] | None = None, more: bool = False) -> Schema:
    names = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": more}


def _or_null(schema: Schema) -> Schema:
    """The same in a body, where null is as good as empty."""
    return schema | {"type": ["string", "null"]} | ({"enum": [*schema["enum"], None]} if "enum" in schema else {})


FILTERS: dict[str, Schema] = {
    "status": {"type": "string", "enum": [*STATUSES, ""], "description": "Empty: any."},
    "matching": {
        "type": "string",
        "maxLength": LONGEST_TEXT,
        "description": "A part of the error in either case, or the whole number or key. Empty: any.",
    },
    "since": _DURATION,
}
PAGES: dict[str, Schema] = {
    "after": {"type": "string", "maxLength": 2000, "description": "The `next` of the last page."},
    "limit": {"type": "integer", "minimum": 1, "maximum": MOST, "default": DEFAULT_LIMIT},
}
TOKEN = _object({
    "token_id": _TOKEN_ID,
    "key": {"type": "string"},
    "status": {"type": "string"},
    "minted_at": _TIME,
    "due_at": _TIME,
    "image_url": _TEXT,
    "attempts": {"type": ["integer", "null"]},
    "error": _TEXT,
    "prediction_id": _TEXT,
    "censored": {"type": "boolean"},
    "rescues": {"type": "integer"},
})  # fmt: skip
_MOMENT = _object({"at": _TIME | {"description": "Null: not known, or now."}, "words": {"type": "string"}})
STORY = _object(TOKEN["properties"] | {
    "lease_ends_at": _TIME,
    "epoch": {"type": ["integer", "string"]},
    "worker": _TEXT,
    "seed": {"type": ["integer", "null"]},
    "prompt_characters": {"type": ["integer", "null"]},
    "summary": {"type": "string", "description": "How the token is, why, and what it has cost."},
    "purchases": _COUNT,
    "cost": {"type": ["number", "null"]},
    "attempts_ended": {
        "type": ["array", "null"],
        "items": {"type": "object"},
        "description": "The newest entries of the history, the oldest first. Null: they cannot be read.",
    },
    "timeline": {"type": "array", "items": _MOMENT, "description": "What happened, the oldest first."},
})  # fmt: skip
STATUS = _object({
    "level": {"type": "string", "enum": ["ok", "note", "warning", "alarm"]},
    "sentence": {"type": "string"},
    "todo": _TEXT,
    "tokens": {"type": "object", "additionalProperties": _COUNT},
    "estimated": {"type": "array", "items": {"type": "string"}, "description": "Statuses whose count is no exact one."},
    "intake": {"type": "object", "description": "The gate."},
    "workers": _COUNT,
    "listening": _COUNT,
    "held": {"type": "object", "description": "By worker: how many tokens it holds, and the ids of some."},
    "queue_depth": _COUNT,
    "oldest_seconds": _SECONDS,
    "uploading_oldest_seconds": _SECONDS,
    "notify_queue_usage": {"type": "number"},
    "budget": _object({"counted": _COUNT, "limit": {"type": ["integer", "null"]}}) | {
        "description": "Of the UTC day: creates as they are accepted. `today` counts purchases that have ended.",
    },
    "triggers": {"type": "boolean"},
    "row_security": _TEXT,
}, more=True)  # fmt: skip
_CAUSE = _object({"cause": {"type": "string"}, "tokens": _COUNT, "example": _TEXT})
_DRY_RUN: Schema = {"type": "boolean", "description": "Count what would be set back, and change nothing."}
_YES_OR_NO: Schema = {"type": "boolean"}
_IDS: Schema = {"type": "array", "items": {"type": "string"}}
_CAUSES: Schema = {"type": "array", "items": _CAUSE}
RETRIED: Schema = {"oneOf": [
    _object({"retried": _IDS, "not_failed": _IDS}),
    _object({"dry_run": {"const": True}, "matching": _COUNT, "exact": _YES_OR_NO, "causes": _CAUSES}),
    _object({"retried": _COUNT, "locked": _COUNT, "done": _YES_OR_NO}),
]}  # fmt: skip
RETRY: Schema = {"oneOf": [
    _object({
        "token_ids": {
            "type": "array", "items": _GIVEN_ID, "minItems": 1, "maxItems": MOST_IDS, "examples": [[1, 2]],
        },
        "dry_run": _DRY_RUN,
    }, required=["token_ids"]),
    _object({
        "status": _or_null({"enum": ["failed", ""]}),
        "matching": _or_null(FILTERS["matching"]),
        "since": _or_null(_DURATION),
        "dry_run": _DRY_RUN,
    }, required=[]) | {
        "anyOf": [
            {"required": ["status"], "properties": {"status": {"const": "failed"}}},
            {"required": ["matching"], "properties": {"matching": {"type": "string", "minLength": 1}}},
            {"required": ["since"], "properties": {"since": {"type": "string", "minLength": 1}}},
            {"required": ["dry_run"], "properties": {"dry_run": {"const": True}}},
        ],
    },
]}  # fmt: skip
PAUSED = _object({"paused": {"const": True}, "reason": {"type": "string"}})
RESUMED = _object({"resumed": _YES_OR_NO, "stays_closed_until": _TEXT})  # while the day's budget is spent
PAUSE = _object({
    "for": _or_null(_DURATION),
    "reason": _or_null({"maxLength": LONGEST_TEXT}),
}, required=[])  # fmt: skip
_ERROR = _object({"error": {"type": "string"}})
_REFUSALS = {
    "400": "A parameter or the body is not valid.",
    "401": "A token is required, and none or a wrong one was given.",
    "403": "The token may look but not act, another website sent this, or the database role lacks a right.",
    "404": "There is no such token.",
    "413": "The body is too large.",
    "415": "The body is no JSON.",
    "421": "On loopback: the Host of the request names another machine.",
    "503": "The database is away, not migrated, or too slow.",
}


_BEARER = {"type": "http", "scheme": "bearer", "description": "HTTP_TOKEN or HTTP_READ_TOKEN, if one is set."}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation. `name` is the method of Api that serves it."""

    method: str
    path: str
    name: str
    summary: str
    answer: Schema
    query: dict[str, Schema] = field(default_factory=dict)
    body: Schema | None = None


ATTEMPTS: dict[str, Schema] = {
    "outcome": {"type": "string", "enum": [*OUTCOMES, ""], "description": "Empty: any."},
    "since": _DURATION,
    "token_id": {"type": "string", "maxLength": LONGEST_ID, "description": "Goes with no other filter. Empty: any."},
    "after": {"type": "string", "pattern": "^[0-9]{0,18}$", "description": "The `next` of the last page."},
    "limit": PAGES["limit"],
}
_ATTEMPT = _object({"id": _TOKEN_ID, "token_id": _TOKEN_ID, "outcome": {"type": "string"}}, more=True)
ENDPOINTS = (
    Endpoint("GET", "/api/status", "status", "Whether anything is wrong, and the figures behind it.", STATUS),
    Endpoint(
        "GET",
        "/api/tokens",
        "tokens",
        "Tokens, the newest first. A page may hold fewer than `limit`, or none, and still have a `next`.",
        _object({"tokens": {"type": "array", "items": TOKEN}, "next": _TEXT}),
        FILTERS | PAGES,
    ),
    Endpoint("GET", "/api/tokens/{token_id}", "token", "One token, and its history.", STORY),
    Endpoint(
        "GET",
        "/api/attempts",
        "attempts",
        "Attempts and purchases that ended, the newest first. A page may hold fewer than `limit`, as in /api/tokens.",
        _object({"attempts": {"type": "array", "items": _ATTEMPT}, "next": _TEXT}),
        ATTEMPTS,
    ),
    Endpoint(
        "POST", "/api/tokens/retry", "retry", "Set failed tokens back: by id, or all that match.", RETRIED, body=RETRY
    ),
    Endpoint("POST", "/api/pause", "pause", "Close the gate.", PAUSED, body=PAUSE),
    Endpoint("POST", "/api/resume", "resume", "Open the gate.", RESUMED),
)  # fmt: skip


def document(base: str) -> Schema:
    """The OpenAPI document of the API below the path `base`."""
    paths: dict[str, Schema] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": "mint-reactor", "version": "1", "description": "What the page and the commands show and do."},
        "servers": [{"url": base or "/"}],
        "paths": paths,
        "components": {"securitySchemes": {"token": _BEARER}},
        "security": [{}, {"token": []}],
    }  # fmt: skip


def _operation(endpoint: Endpoint) -> Schema:
    refusals = {status: _answer(_ERROR, meaning) for status, meaning in _REFUSALS.items()}
    operation: Schema = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "parameters": [{"name": name, "in": "query", "schema": schema} for name, schema in endpoint.query.items()],
        "responses": {"200": _answer(endpoint.answer, "Done."), **refusals},
    }
    if "{token_id}" in endpoint.path:
        schema: Schema = {"type": "string", "minLength": 1, "maxLength": LONGEST_ID, "examples": ["1"]}
        operation["parameters"].append({"name": "token_id", "in": "path", "required": True, "schema": schema})
    if endpoint.body is not None:
        required = "oneOf" in endpoint.body
        operation["requestBody"] = {"required": required, "content": {"application/json": {"schema": endpoint.body}}}
    return operation


def _answer(schema: Schema, meaning: str) -> Schema:
    return {"description": meaning, "content": {"application/json": {"schema": schema}}}
