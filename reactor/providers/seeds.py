"""Whether the model accepts the seed, by which a purchase is found again: its schema or a refused create says so."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reactor.providers.transport import Answer
    from reactor.text.echoes import Echoes

_MOST_READ = 4000  # characters
_LONGEST_FAULT = 100  # characters that tell whether a description is about the seed
_MOST_FIELDS = 100


def seed_advice(name: str) -> str:
    """What an operator can do if the model has no such input."""
    return (
        f"The model has no input {name!r}, by which a purchase is found again: set REPLICATE_SEED_INPUT to the "
        "name of its seed input, or REPLICATE_SEED_INPUT= (empty) if it has none"
    )


def inputs_of(described: dict[str, Any]) -> frozenset[str]:
    """The names of the inputs of a model or version, by its description; empty if that does not tell."""
    inputs: Any = described.get("latest_version", described)
    for step in ("openapi_schema", "components", "schemas", "Input", "properties"):
        inputs = inputs.get(step) if isinstance(inputs, dict) else None
    return frozenset(inputs) if isinstance(inputs, dict) else frozenset()


def lacks_input(described: dict[str, Any], name: str) -> bool:
    """Whether the description of a model or version certainly lacks the input."""
    inputs = inputs_of(described)
    return bool(inputs) and name not in inputs


def is_seed_refusal(answer: Answer, name: str, echoes: Echoes) -> bool:
    """Whether a create was refused for its seed. If so, every token of the queue would fail for it.

    The words of the prompt in the answer are ignored, because they may look like such a refusal.
    """
    if answer.status != 422 or not name:
        return False
    body = answer.body or {}
    fields, detail = body.get("invalid_fields"), body.get("detail")
    if isinstance(fields, list) and fields:
        return any(_is_about(field, name, echoes) for field in fields[:_MOST_FIELDS] if isinstance(field, dict))
    if not isinstance(detail, str) or not any(_at_fault(name, line) for line in detail[:_MOST_READ].splitlines()):
        return False
    return any(_at_fault(name, line) for line in echoes.without(detail[:_MOST_READ]).splitlines())


def _is_about(field: dict[str, Any], name: str, echoes: Echoes) -> bool:
    place, description = field.get("field"), field.get("description")
    if place in (name, f"input.{name}"):
        return True
    start = description[:_LONGEST_FAULT] if isinstance(description, str) else ""
    return _at_fault(name, start) and _at_fault(name, echoes.without(start))


def _at_fault(name: str, line: str) -> bool:
    """Whether a line of a refusal is about the input. A line that only contains the word, as a prompt may, is not."""
    about = rf"[-\s]*(?:input\.{re.escape(name)}\b|(?:input:\s*)?Additional property '?{re.escape(name)}\b)"
    return bool(re.match(about, line))
