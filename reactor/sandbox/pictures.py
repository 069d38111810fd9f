"""A picture per prompt and seed. No model: families of drawings, and the prompt's words choose palette and family.

Drawn at twice the size and scaled down, which is all the anti-aliasing it needs.
"""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Callable
from typing import TypeVar

from PIL import Image

from reactor.sandbox import patterns, scenes
from reactor.sandbox.brushes import Dice, Palette, Size, finished, palette

T = TypeVar("T")
Family = Callable[[Size, Palette, Dice], Image.Image]
_SCALE = 2
_QUALITY = 84
_TRUE_TO_ITS_WORDS = 0.65  # how often the words choose the family; else the dice do

PALETTES = {
    "night moon aurora satellite observatory owl": palette("0b1026 1d2b53 7ae7c7 3a506b f7f3d7"),
    "storm rain fog sea whale harbour boat lighthouse": palette("0f2027 203a43 f2a65a 5c8d9d dfe9ea"),
    "dawn golden desert caravan summer lanterns": palette("2d1b33 7a2e3a ffd166 e76f51 fbe9d0"),
    "snow frozen glass still tea monastery": palette("22333b 5e7c88 e07a5f a9c3cc f4f6f5"),
    "forest orchard fox garden field": palette("132a13 31572c f6bd60 90a955 f5f1e3"),
    "red bridge bauhaus print collage": palette("1c1c1c 2b4c7e d62828 f0b429 f4ead5"),
    "market library cathedral clockwork": palette("1a1423 46344e ff8c61 936fac f3e1dd"),
    "coral bloom watercolour risograph stained": palette("2b1d3f 8e3b6f ffb36b e8788a fdf0e6"),
}
FAMILIES: dict[str, Family] = {
    "mountain monastery aurora dawn": scenes.mountains,
    "forest fox owl fog orchard": scenes.forest,
    "harbour market bridge lighthouse library night city": scenes.harbour,
    "desert caravan golden summer tea": scenes.dunes,
    "moon satellite observatory clouds star": scenes.planet,
    "ink exposure wind": patterns.currents,
    "bloom lanterns garden field glass": patterns.bloom,
    "sea boat whale rain water coral print": patterns.waves,
    "bauhaus collage risograph poster clockwork": patterns.geometry,
}


def render(prompt: str, seed: int, size: Size, kind: str) -> bytes:
    """Draw, and encode as `kind` (WEBP, JPEG, PNG). The same arguments give the same bytes. Blocks some 0.2 s."""
    dice = random.Random(hashlib.sha256(f"{prompt}|{seed}".encode("utf-8", "replace")).digest())  # noqa: S311  (art)
    colours = dice.choice(_fitting(PALETTES, prompt))
    fitting = dice.random() < _TRUE_TO_ITS_WORDS
    family = dice.choice(_fitting(FAMILIES, prompt) if fitting else list(FAMILIES.values()))
    large = family((size[0] * _SCALE, size[1] * _SCALE), colours, dice)
    out = io.BytesIO()
    finished(large.reduce(_SCALE), dice).save(out, kind, quality=_QUALITY)
    return out.getvalue()


def _fitting(of_words: dict[str, T], prompt: str) -> list[T]:
    """Those with the most words of the prompt."""
    words = prompt.lower()
    scores = {names: sum(word in words for word in names.split()) for names in of_words}
    best = max(scores.values())
    return [of_words[names] for names, score in scores.items() if score == best]
