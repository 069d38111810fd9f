"""What a create may say, and the 422 for what it may not. We know the official model's schema; others want a prompt."""

from __future__ import annotations

from typing import Any

from reactor.sandbox.answers import invalid_input
from reactor.sandbox.catalog import SCHNELL, TEXT_MODELS, seedless

# Pixels at one megapixel, width by height.
RATIOS = {
    "1:1": (1024, 1024), "16:9": (1344, 768), "21:9": (1536, 640), "3:2": (1216, 832), "2:3": (832, 1216),
    "4:5": (896, 1088), "5:4": (1088, 896), "3:4": (896, 1152), "4:3": (1152, 896), "9:16": (768, 1344),
    "9:21": (640, 1536),
}  # fmt: skip
_NUMBERS = {"num_outputs": (1, 4), "num_inference_steps": (1, 4), "output_quality": (0, 100)}
_CHOICES = {"aspect_ratio": tuple(RATIOS), "output_format": ("webp", "jpg", "png"), "megapixels": ("1", "0.25")}
_KEYS = {"input", "webhook", "webhook_events_filter", "webhook_completed", "stream"}
_KINDS = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


def refused_body(given: dict[str, Any], *, versioned: bool) -> dict[str, Any] | None:
    """The 422 about what stands beside the input, or None. `versioned`: it has to name a version."""
    keys = _KEYS | ({"version"} if versioned else set())
    needed = ["version", "input"] if versioned else ["input"]
    types = {"version": str, "input": dict}
    missing = [_field("required", "", f"{name} is required") for name in needed if name not in given]
    wrong = [_wrong_type("", name, _KINDS[types[name]], given[name])
             for name in needed if name in given and not isinstance(given[name], types[name])]  # fmt: skip
    extra = [
        _field("additional_property_not_allowed", "", f"Additional property {name} is not allowed")
        for name in sorted(set(given) - keys)
    ]
    fields = missing + wrong + extra
    return invalid_input(fields) if fields else None


def refused_input(model: str, given: dict[str, Any]) -> dict[str, Any] | None:
    """The 422 that the model's input schema gives, or None."""
    if model in TEXT_MODELS:
        return None
    fields = []
    if "prompt" not in given:
        fields.append(_field("required", "input", "prompt is required"))
    elif not isinstance(given["prompt"], str):
        fields.append(_wrong_type("input.", "prompt", "string", given["prompt"]))
    if model == SCHNELL:
        fields += _schnell(given)
    if seedless(model) and "seed" in given:
        said = "Additional property seed is not allowed"
        fields.append(_field("additional_property_not_allowed", "input", said))
    return invalid_input(fields) if fields else None


def _schnell(given: dict[str, Any]) -> list[dict[str, str]]:
    fields = []
    for name in [*_NUMBERS, "seed"]:
        value = given.get(name)
        least, most = _NUMBERS.get(name, (None, None))
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            fields.append(_wrong_type("input.", name, "integer", value))
        elif most is not None and value > most:
            fields.append(_field("number_lte", f"input.{name}", f"Must be less than or equal to {most}"))
        elif least is not None and value < least:
            fields.append(_field("number_gte", f"input.{name}", f"Must be greater than or equal to {least}"))
    for name, allowed in _CHOICES.items():
        if given.get(name, allowed[0]) not in allowed:
            quoted = ", ".join(f'"{word}"' for word in allowed)
            fields.append(_field("enum", f"input.{name}", f"{name} must be one of the following: {quoted}"))
    return fields


def _field(kind: str, name: str, description: str) -> dict[str, str]:
    return {"type": kind, "field": name, "description": description}


def _wrong_type(prefix: str, name: str, expected: str, value: Any) -> dict[str, str]:
    given = _KINDS.get(type(value), "null")
    return _field("invalid_type", f"{prefix}{name}", f"Invalid type. Expected: {expected}, given: {given}")
