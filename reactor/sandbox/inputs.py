"""What a create may say, and the 422 for what it may not say.

The official model's schema is known; any other model wants a prompt.
"""

from __future__ import annotations

import re
from typing import Any

from reactor.sandbox.bounds import LONGEST
from reactor.sandbox.catalog import SCHNELL, seedless
from reactor.sandbox.wire import invalid_input

# Width and height in pixels, at one megapixel.
RATIOS = {
    "1:1": (1024, 1024), "16:9": (1344, 768), "21:9": (1536, 640), "3:2": (1216, 832), "2:3": (832, 1216),
    "4:5": (896, 1088), "5:4": (1088, 896), "3:4": (896, 1152), "4:3": (1152, 896), "9:16": (768, 1344),
    "9:21": (640, 1536),
}  # fmt: skip
LEAST_LIFE = 5.0  # seconds
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", re.ASCII)
_NUMBERS = {"num_outputs": (1, 4), "num_inference_steps": (1, 4), "output_quality": (0, 100)}
_CHOICES = {"aspect_ratio": tuple(RATIOS), "output_format": ("webp", "jpg", "png"), "megapixels": ("1", "0.25")}
_KEYS = {"input", "webhook", "webhook_events_filter", "webhook_completed", "stream"}
_KINDS = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


def lifetime(cancel_after: str | None) -> float | None:
    """The seconds of a Cancel-After header: `1h30m45s`, `90s` or `90`. Raises ValueError."""
    if cancel_after is None:
        return None
    parts = _DURATION.fullmatch(cancel_after.strip()) if len(cancel_after) < 100 else None
    if parts is None or not any(parts.groups()):
        raise ValueError("not a duration of hours, minutes and seconds, like 1h30m45s")
    hours, minutes, seconds = (int(part or 0) for part in parts.groups())
    total = 3600.0 * hours + 60.0 * minutes + seconds
    if not LEAST_LIFE <= total <= LONGEST:
        raise ValueError(f"must be at least {LEAST_LIFE:g} seconds, and at most {LONGEST:.0f}")
    return total


def prompt_in(given: dict[str, Any] | None) -> str:
    """The prompt in a create's body, or ''."""
    model_input = (given or {}).get("input")
    return str(model_input.get("prompt", "")) if isinstance(model_input, dict) else ""


def refused_body(given: dict[str, Any], *, versioned: bool) -> dict[str, Any] | None:
    """The 422 about the keys beside the input, or None. `versioned`: the body has to name a version."""
    needed = {"version": str, "input": dict} if versioned else {"input": dict}
    fields = [_field("required", "", f"{name} is required") for name in needed if name not in given]
    fields += [
        _wrong_type("", name, _KINDS[kind], given[name])
        for name, kind in needed.items()
        if name in given and not isinstance(given[name], kind)
    ]
    extra = sorted(set(given) - _KEYS - set(needed))
    fields += [_extra("", name) for name in extra]
    return invalid_input(fields) if fields else None


def refused_input(model: str, given: dict[str, Any]) -> dict[str, Any] | None:
    """The 422 that the model's input schema gives, or None."""
    fields = []
    if "prompt" not in given:
        fields.append(_field("required", "input", "prompt is required"))
    elif not isinstance(given["prompt"], str):
        fields.append(_wrong_type("input.", "prompt", "string", given["prompt"]))
    if model == SCHNELL:
        fields += _schnell(given)
    if seedless(model) and "seed" in given:
        fields.append(_extra("input", "seed"))
    return invalid_input(fields) if fields else None


def _schnell(given: dict[str, Any]) -> list[dict[str, str]]:
    fields = []
    for name in [*_NUMBERS, "seed"]:
        value = given.get(name)
        least, most = _NUMBERS.get(name, (-float("inf"), float("inf")))
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            fields.append(_wrong_type("input.", name, "integer", value))
        elif value > most:
            fields.append(_field("number_lte", f"input.{name}", f"Must be less than or equal to {most}"))
        elif value < least:
            fields.append(_field("number_gte", f"input.{name}", f"Must be greater than or equal to {least}"))
    for name, allowed in _CHOICES.items():
        if given.get(name, allowed[0]) not in allowed:
            quoted = ", ".join(f'"{word}"' for word in allowed)
            fields.append(_field("enum", f"input.{name}", f"{name} must be one of the following: {quoted}"))
    return fields


def _field(kind: str, name: str, description: str) -> dict[str, str]:
    return {"type": kind, "field": name, "description": description}


def _extra(place: str, name: str) -> dict[str, str]:
    return _field("additional_property_not_allowed", place, f"Additional property {name} is not allowed")


def _wrong_type(prefix: str, name: str, expected: str, value: Any) -> dict[str, str]:
    given = _KINDS.get(type(value), "null")
    return _field("invalid_type", f"{prefix}{name}", f"Invalid type. Expected: {expected}, given: {given}")
