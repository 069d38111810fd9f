"""A picture for a prompt and a seed. There is no model: the words of the prompt choose the colours and the drawing.

A picture is drawn at twice its size and scaled down, so that its edges are smooth.
"""

from __future__ import annotations

import hashlib
import io
import math
import random
from collections.abc import Callable
from itertools import product
from typing import TypeVar

from PIL import Image, ImageDraw, ImageFilter

from reactor.sandbox import brushes
from reactor.sandbox.brushes import (
    BLACK,
    Colour,
    Dice,
    Palette,
    Point,
    Size,
    glow,
    gradient,
    mist,
    mixed,
    palette,
    ramp,
    reflect,
    ridge,
    stars,
)

T = TypeVar("T")
Box = tuple[float, float, float, float]
Family = Callable[[Size, Palette, Dice], Image.Image]
_SCALE = 2
_BY_WORDS = 0.65  # the share of pictures whose family the words choose; the dice choose the others


def mountains(size: Size, colours: Palette, dice: Dice) -> Image.Image:
    """Ridges that grow paler with distance, a sun or a moon, and sometimes a lake."""
    (width, height), (dark, deep, accent, soft, light) = size, colours
    day = dice.random() < 0.5
    picture = gradient(size, (deep, soft, light) if day else (dark, deep, soft))
    if not day:
        stars(picture, 90, colours, dice, down_to=0.4)
    sky = dice.uniform(0.2, 0.8) * width, dice.uniform(0.16, 0.36) * height
    glow(picture, sky, dice.uniform(0.05, 0.1) * width, accent)
    lake = dice.random() < 0.4
    layers, lowest = dice.randint(4, 6), 0.62 if lake else 0.93
    for layer in range(layers):
        share = layer / (layers - 1)
        line = ridge(width, 0.6 - 0.12 * share, dice)
        base, swing = height * (0.43 + (lowest - 0.43) * share), height * (0.17 - (0.12 if lake else 0.05) * share)
        colour = mixed(mixed(soft, light, 0.35 if day else 0.1), dark, 0.1 + 0.85 * share)
        points = [(place * 4, base - rise * swing) for place, rise in enumerate(line)]
        ImageDraw.Draw(picture).polygon([(0, height), *points, (width, height)], fill=colour)
        mist(picture, base, height * 0.09, mixed(light, soft, share), 70 - round(50 * share))
    if lake:
        reflect(picture, height * 0.68, mixed(dark, deep, 0.4), dice)
    return picture


def forest(size: Size, colours: Palette, dice: Dice) -> Image.Image:
    """Firs in the mist; the nearest are the darkest."""
    (width, height), (dark, deep, accent, soft, light) = size, colours
    picture = gradient(size, (mixed(soft, light, 0.2), mixed(soft, light, 0.7), light))
    glow(picture, (dice.uniform(0.25, 0.75) * width, 0.24 * height), dice.uniform(0.06, 0.1) * width, accent)
    for layer in range(5):
        share, line = layer / 4, ridge(width, 0.4, dice)
        colour = ramp((mixed(soft, light, 0.55), soft, deep, mixed(dark, deep, 0.25)), share)
        base, tall = height * (0.5 + 0.42 * share), height * (0.1 + 0.26 * share**1.4)
        draw = ImageDraw.Draw(picture)
        for tree in range(-1, round(width / (tall * 0.3)) + 2):
            x = (tree + dice.uniform(-0.4, 0.4)) * (tall * 0.3)
            foot = base - line[min(max(int(x / 4), 0), len(line) - 1)] * height * 0.06
            draw.polygon(_fir((x, foot + tall * 0.1), tall * dice.uniform(0.6, 1.15), dice), fill=colour)
        ground = [(place * 4, base - rise * height * 0.06) for place, rise in enumerate(line)]
        draw.polygon([(0, height), *ground, (width, height)], fill=colour)
        if layer < 4:
            mist(picture, base, height * 0.08, light, 120 - round(70 * share))
    return picture


def _fir(foot: Point, tall: float, dice: Dice) -> list[Point]:
    """The outline of a fir: its branches grow wider towards the foot."""
    x, y = foot
    right, left = [], []
    for branch in range(1, 10):
        share = branch / 9
        reach = tall * 0.19 * share * dice.uniform(0.85, 1.1)
        level = y - tall * (1 - share)
        right += [(x + reach, level), (x + reach * 0.45, level - tall * 0.012)]
        left += [(x - reach, level), (x - reach * 0.45, level - tall * 0.012)]
    return [(x, y - tall), *right, *reversed(left)]


def harbour(size: Size, colours: Palette, dice: Dice) -> Image.Image:
    """A town at night, its windows lit, over still water."""
    (width, height), (dark, deep, accent, soft, light) = size, colours
    night = mixed(dark, BLACK, 0.25)
    picture = gradient(size, (night, deep, mixed(soft, accent, 0.35)))
    stars(picture, 140, colours, dice, down_to=0.5)
    glow(picture, (dice.uniform(0.15, 0.85) * width, dice.uniform(0.12, 0.25) * height), width * 0.05, light)
    horizon = height * dice.uniform(0.6, 0.68)
    draw = ImageDraw.Draw(picture)
    for share in (0.0, 0.5, 1.0):
        wall = mixed(mixed(deep, soft, 0.45), night, 0.2 + 0.75 * share)
        x = -width * 0.02
        while x < width:
            wide, tall = width * dice.uniform(0.04, 0.1), height * dice.uniform(0.08, 0.42 - 0.12 * share)
            if dice.random() < 0.92:
                _house(draw, (x, horizon - tall, x + wide, horizon), wall, mixed(accent, light, 0.35), dice)
            x += wide * dice.uniform(0.9, 1.25)
    reflect(picture, horizon, night, dice)
    return picture


def _house(draw: ImageDraw.ImageDraw, walls: Box, wall: Colour, lamp: Colour, dice: Dice) -> None:
    draw.rectangle(walls, fill=wall)
    left, top, right, bottom = walls
    middle, wide = (left + right) / 2, right - left
    match dice.randrange(4):
        case 0:
            draw.polygon(((left, top), (middle, top - wide * 0.5), (right, top)), fill=wall)
        case 1:
            draw.line((middle, top - wide * 0.6, middle, top), fill=wall, width=6)
        case 2:
            draw.rectangle((left + wide * 0.2, top - wide * 0.25, right - wide * 0.2, top), fill=wall)
    for x, y in product(range(round(left) + 14, round(right) - 18, 26), range(round(top) + 16, round(bottom) - 20, 34)):
        if dice.random() < 0.3:
            draw.rectangle((x, y, x + 11, y + 16.5), fill=mixed(lamp, wall, dice.uniform(0, 0.6)))


def planet(size: Size, colours: Palette, dice: Dice) -> Image.Image:
    """A planet among stars, with bands, a night side and a moon, and sometimes with rings."""
    (width, height), (dark, deep, accent, soft, light) = size, colours
    picture = gradient(size, (mixed(dark, BLACK, 0.6), mixed(dark, BLACK, 0.2), mixed(dark, deep, 0.7)))
    stars(picture, 320, colours, dice)
    radius = dice.uniform(0.2, 0.3) * min(width, height)
    centre = dice.uniform(0.4, 0.6) * width, dice.uniform(0.42, 0.58) * height
    ringed, flat = dice.random() < 0.6, dice.uniform(0.14, 0.3)
    glow(picture, centre, radius, mixed(deep, soft, 0.4))
    if ringed:
        _rings(picture, centre, radius, (flat, 180, 360), colours)
    _world(picture, centre, radius, colours, dice)
    if ringed:
        _rings(picture, centre, radius, (flat, 0, 180), colours)
    angle, far = dice.uniform(0, math.tau), radius * dice.uniform(1.4, 1.7)
    moon = centre[0] + far * math.cos(angle), centre[1] + far * math.sin(angle)
    glow(picture, moon, radius * dice.uniform(0.05, 0.1), mixed(light, accent, 0.3))
    return picture


def _world(picture: Image.Image, centre: Point, radius: float, colours: Palette, dice: Dice) -> None:
    dark, deep, accent, soft, light = colours
    side = round(radius * 2)
    bands = gradient((side, side), [dice.choice((accent, soft, deep, light)) for _ in range(dice.randint(9, 16))])
    bands = bands.rotate(dice.uniform(-25, 25), Image.Resampling.BICUBIC, fillcolor=soft)
    disc, shade = Image.new("L", (side, side)), Image.new("L", (side, side), 225)
    ImageDraw.Draw(disc).ellipse((0, 0, side, side), fill=255)
    ImageDraw.Draw(shade).ellipse((-side * 0.28, -side * 0.28, side * 0.78, side * 0.78), fill=0)
    night = shade.resize((side // 8, side // 8)).filter(ImageFilter.GaussianBlur(side * 0.016)).resize((side, side))
    bands.paste(mixed(dark, BLACK, 0.5), (0, 0, side, side), night)
    picture.paste(bands, (round(centre[0] - radius), round(centre[1] - radius)), disc)


def _rings(picture: Image.Image, centre: Point, radius: float, arc: tuple[float, int, int], colours: Palette) -> None:
    """Paint the part of the rings between two angles. `arc` is how flat they are, and the two angles."""
    flat, start, end = arc
    draw = ImageDraw.Draw(picture)
    for place, colour in enumerate((colours.soft, colours.light, colours.soft, mixed(colours.soft, colours.dark, 0.4))):
        wide = radius * (1.5 + 0.11 * place)
        around = centre[0] - wide, centre[1] - wide * flat, centre[0] + wide, centre[1] + wide * flat
        draw.arc(around, start, end, fill=colour, width=round(radius * (0.07 if place == 1 else 0.03)))


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
    "mountain monastery aurora dawn desert caravan summer": mountains,
    "forest fox owl fog orchard tea": forest,
    "harbour market bridge lighthouse library night city boat": harbour,
    "moon satellite observatory clouds star golden": planet,
    "ink exposure wind sea whale rain water": brushes.currents,
    "bloom lanterns garden field glass coral": brushes.bloom,
    "bauhaus collage risograph poster clockwork print": brushes.geometry,
}


def render(prompt: str, seed: int, size: Size, kind: str) -> bytes:
    """Draw and encode a picture (WEBP, JPEG or PNG). The same arguments give the same bytes. Blocks for about 0.2 s."""
    dice = random.Random(hashlib.sha256(f"{prompt}|{seed}".encode("utf-8", "replace")).digest())
    colours = dice.choice(_fitting(PALETTES, prompt))
    family = dice.choice(_fitting(FAMILIES, prompt) if dice.random() < _BY_WORDS else list(FAMILIES.values()))
    large = family((size[0] * _SCALE, size[1] * _SCALE), colours, dice)
    out = io.BytesIO()
    brushes.finished(large.reduce(_SCALE), dice).save(out, kind, quality=84)
    return out.getvalue()


def _fitting(of_words: dict[str, T], prompt: str) -> list[T]:
    """The values whose keys have the most words in common with the prompt."""
    scores = {names: sum(word in prompt.lower() for word in names.split()) for names in of_words}
    return [of_words[names] for names, score in scores.items() if score == max(scores.values())]
