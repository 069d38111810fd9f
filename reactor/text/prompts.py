"""Prompts: which ones may be sent, and some of our own to try things with."""

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


def validate_prompt(prompt: str | None) -> str:
    """Return the prompt as it is. Raises PermanentError where no provider should be asked."""
    if prompt is None or all(character.isspace() or category(character) in _INVISIBLE for character in prompt):
        raise PermanentError("Prompt validation failed: the prompt is empty")
    if len(prompt) > LONGEST_PROMPT:
        raise PermanentError(f"Prompt validation failed: the prompt has more than {LONGEST_PROMPT} characters")
    if "\x00" in prompt or any("\ud800" <= character <= "\udfff" for character in prompt):
        raise PermanentError("Prompt validation failed: it has characters that are no text")
    return prompt


def fingerprint(prompt: str | None) -> dict[str, str | int]:
    """What may be told of a prompt: enough to find it again, nothing to read."""
    text = (prompt or "").encode("utf-8", "replace")
    return {"prompt_sha256": hashlib.sha256(text).hexdigest()[:16], "prompt_characters": len(prompt or "")}


def sample_prompts(count: int) -> list[str]:
    """Make `count` prompts, 1,620 different ones before the first comes again."""
    order = random.Random(7)
    every = [f"{subject} {mood}, {style}" for subject in _SUBJECTS for mood in _MOODS for style in _STYLES]
    order.shuffle(every)
    return [every[place % len(every)] for place in range(count)]
