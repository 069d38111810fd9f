"""Prompts: which ones may be sent, and samples for `mint` and the demo."""

from __future__ import annotations

import hashlib
import random
from unicodedata import category

from reactor.errors import PermanentError
from reactor.tokens import LONGEST_PROMPT

_INVISIBLE = {"Cc", "Cf"}  # control and format characters, zero-width spaces among them

_SUBJECTS = (
    "a lighthouse", "a sleeping fox", "an abandoned observatory", "a paper boat", "a whale above the clouds",
    "a night market", "a glass forest", "a mountain monastery", "a clockwork owl", "a field of lanterns",
    "a desert caravan", "an orchard in bloom", "a frozen harbour", "a tea house", "a lonely satellite",
    "a coral cathedral", "a red bridge", "a library under the sea",
)  # fmt: skip
_MOODS = (
    "in a thunderstorm", "at dawn", "under two moons", "in thick fog", "beneath an aurora", "after the rain",
    "in the golden hour", "covered in snow", "reflected in still water", "on the last day of summer",
)  # fmt: skip
_STYLES = (
    "woodblock print", "watercolour", "risograph, three colours", "oil on canvas", "bauhaus poster", "long exposure",
    "pencil and ink", "stained glass", "paper collage",
)  # fmt: skip
SAMPLES = len(_SUBJECTS) * len(_MOODS) * len(_STYLES)  # different sample prompts


def validate_prompt(prompt: str | None) -> str:
    """Return the prompt unchanged. Raises PermanentError if it must not be sent to a provider."""
    if prompt is None or all(character.isspace() or category(character) in _INVISIBLE for character in prompt):
        raise PermanentError("Prompt validation failed: the prompt is empty")
    if len(prompt) > LONGEST_PROMPT:
        raise PermanentError(f"Prompt validation failed: the prompt has more than {LONGEST_PROMPT} characters")
    if "\x00" in prompt or any("\ud800" <= character <= "\udfff" for character in prompt):
        raise PermanentError("Prompt validation failed: it has characters that are no text")
    return prompt


def fingerprint(prompt: str | None) -> dict[str, str | int]:
    """What a log may contain about a prompt: enough to identify it, but not its text."""
    text = (prompt or "").encode("utf-8", "replace")
    return {"prompt_sha256": hashlib.sha256(text).hexdigest()[:16], "prompt_characters": len(prompt or "")}


def sample_prompts(count: int) -> list[str]:
    """Return `count` prompts. After SAMPLES different ones they repeat."""
    order = random.Random(7)
    every = [f"{subject} {mood}, {style}" for subject in _SUBJECTS for mood in _MOODS for style in _STYLES]
    order.shuffle(every)
    return [every[place % len(every)] for place in range(count)]
