"""What a create request may contain, and the 422 if it contains something else.

Every model needs a prompt. For the official model the sandbox checks the numbers too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from reactor.sandbox.bounds import LONGEST
from reactor.sandbox.catalog import SCHNELL, seedless
from reactor.sandbox.wire import invalid_input

if TYPE_CHECKING:
    from collections.abc import Iterator

# Width and height in pixels, at one megapixel.
RATIOS = {
    "1:1": (1024, 1024), "16:9": (1344, 768), "21:9": (1536, 640), "3:2": (1216, 832), "2:3": (832, 1216),
    "4:5": (896, 1088), "5:4": (1088, 896), "3:4": (896, 1152), "4:3": (1152, 896), "9:16": (768, 1344),
    "9:21": (640, 1536),
}  # fmt: skip
LEAST_LIFE = 5.0  # seconds
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", re.ASCII)
_NUMBERS = {"num_outputs": (1, 4), "num_inference_steps": (1, 4), "output_quality": (0, 100)}
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
    """The 422 if the version or the input is not there, else None. `versioned`: the body has to name a version."""
    needed: dict[str, type] = {"version": str, "input": dict} if versioned else {"input": dict}
    fields = _unfit("", given, needed)
    return invalid_input(fields) if fields else None


def refused_input(model: str, given: dict[str, Any]) -> dict[str, Any] | None:
    """The 422 if the model's schema refuses the input, else None."""
    fields = _unfit("input", given, {"prompt": str})
    if model == SCHNELL:
        fields += [
            field for name, bounds in _NUMBERS.items() for field in _out_of_bounds(name, given.get(name), *bounds)
        ]
    if seedless(model) and "seed" in given:
        fields.append(_field("additional_property_not_allowed", "input", "Additional property seed is not allowed"))
    return invalid_input(fields) if fields else None


def _unfit(place: str, given: dict[str, Any], needed: dict[str, type]) -> list[dict[str, str]]:
    """A complaint for each needed name that is missing or has a value of another type."""
    fields = [_field("required", place, f"{name} is required") for name in needed if name not in given]
    wrong = [name for name in needed if name in given and not isinstance(given[name], needed[name])]
    return fields + [_wrong_type(f"{place}.{name}".lstrip("."), _KINDS[needed[name]], given[name]) for name in wrong]


def _out_of_bounds(name: str, value: Any, least: int, most: int) -> Iterator[dict[str, str]]:
    if value is None:
        return
    if type(value) is not int:
        yield _wrong_type(f"input.{name}", "integer", value)
    elif value > most:
        yield _field("number_lte", f"input.{name}", f"Must be less than or equal to {most}")
    elif value < least:
        yield _field("number_gte", f"input.{name}", f"Must be greater than or equal to {least}")


def _wrong_type(name: str, expected: str, value: Any) -> dict[str, str]:
    given = _KINDS.get(type(value), "null")
    return _field("invalid_type", name, f"Invalid type. Expected: {expected}, given: {given}")


def _field(kind: str, name: str, description: str) -> dict[str, str]:
    return {"type": kind, "field": name, "description": description}
