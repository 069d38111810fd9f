"""What the scenes and patterns are painted with."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image, ImageChops, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from collections.abc import Sequence

Colour = tuple[int, int, int]
Point = tuple[float, float]
Size = tuple[int, int]
Dice = random.Random
BLACK = (0, 0, 0)


class Palette(NamedTuple):
    """Five colours from dark to light; the accent is the odd one."""

    dark: Colour
    deep: Colour
    accent: Colour
    soft: Colour
    light: Colour


def palette(codes: str) -> Palette:
    """Make one of five hexadecimal colours."""
    return Palette(*((int(code[:2], 16), int(code[2:4], 16), int(code[4:], 16)) for code in codes.split()))


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    """Between two colours; a share of 0 is the first."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def ramp(colours: Sequence[Colour], share: float) -> Colour:
    """Between several colours."""
    place = min(max(share, 0.0), 1.0) * (len(colours) - 1)
    first = min(int(place), len(colours) - 2)
    return mixed(colours[first], colours[first + 1], place - first)


def gradient(size: Size, colours: Sequence[Colour]) -> Image.Image:
    """A smooth one through the colours, from the top."""
    strip = Image.new("RGB", (1, len(colours)))
    strip.putdata(list(colours))
    return strip.resize((1, size[1]), Image.Resampling.BICUBIC).resize(size, Image.Resampling.NEAREST)


def box(centre: Point, radius: float) -> tuple[float, float, float, float]:
    """The square around a circle."""
    return centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius


def glow(picture: Image.Image, centre: Point, radius: float, colour: Colour) -> None:
    """A disc with light around it."""
    reach, coarse = radius * 3.5, 8
    side = math.ceil(reach * 2 / coarse)
    small = Image.new("L", (side, side))
    ImageDraw.Draw(small).ellipse(box((side / 2, side / 2), radius * 1.5 / coarse), fill=150)
    halo = small.filter(ImageFilter.GaussianBlur(radius / coarse)).resize(
        (side * coarse,) * 2, Image.Resampling.BICUBIC
    )
    corner = round(centre[0] - reach), round(centre[1] - reach)
    picture.paste(colour, (*corner, corner[0] + halo.width, corner[1] + halo.height), halo)
    ImageDraw.Draw(picture).ellipse(box(centre, radius), fill=colour)


def mist(picture: Image.Image, y: float, depth: float, colour: Colour, strength: int) -> None:
    """A soft bank of it, thickest at y + depth."""
    height = round(depth * 5)
    band = Image.new("L", (1, 64))
    band.putdata([round(strength * math.exp(-(((row - 31.5) / 13) ** 2))) for row in range(64)])
    top = round(y + depth - height / 2)
    whole = 0, top, picture.width, top + height
    picture.paste(colour, whole, band.resize((picture.width, height), Image.Resampling.BICUBIC))


def ridge(width: int, roughness: float, dice: Dice) -> list[float]:
    """Heights in -1 … 1 for every fourth column, as a sum of waves that grow finer and lower."""
    waves = [(1.7**octave, roughness**octave, dice.uniform(0, math.tau)) for octave in range(1, 10)]
    total = sum(height for _, height, _ in waves)
    return [
        sum(height * math.sin(x / width * 2.2 * pitch * math.pi + phase) for pitch, height, phase in waves) / total
        for x in range(0, width + 4, 4)
    ]


def stars(picture: Image.Image, count: int, colours: Palette, dice: Dice, *, down_to: float = 1.0) -> None:
    """Points of light, down to a share of the height."""
    draw = ImageDraw.Draw(picture)
    for _ in range(count):
        star = dice.uniform(0, picture.width), dice.uniform(0, picture.height * down_to)
        fill = mixed(colours.light, colours.deep, dice.uniform(0, 0.8))
        draw.ellipse(box(star, dice.choice((1, 1.5, 2, 3.5))), fill=fill)


def reflect(picture: Image.Image, horizon: float, colour: Colour, dice: Dice) -> None:
    """Still water below the horizon: what is above it, upside down, darker and drawn out sideways."""
    width, height = picture.size
    top = round(horizon)
    depth = height - top
    mirrored = picture.crop((0, max(0, top - depth), width, top)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    blurred = mirrored.resize((width // 24, depth // 3), Image.Resampling.BOX).resize((width, depth))
    water = Image.blend(blurred, Image.new("RGB", blurred.size, colour), 0.35)
    picture.paste(water, (0, top))
    draw = ImageDraw.Draw(picture)
    for _ in range(60):
        share = dice.random() ** 1.5
        x, y, reach = dice.uniform(0, width), top + share * depth, width * (0.01 + 0.07 * share * dice.random())
        pixel = water.getpixel((min(int(x), width - 1), min(int(share * depth), depth - 1)))
        fill = mixed(pixel, dice.choice(((255, 255, 255), BLACK)), 0.12)  # type: ignore[arg-type]
        draw.line((x - reach, y, x + reach, y), fill=fill, width=round(2 + 4 * share))


def finished(picture: Image.Image, dice: Dice) -> Image.Image:
    """A little paper grain and a vignette. Grain comes from the dice: PIL's own noise differs from run to run."""
    tile = Image.frombytes("L", (256, 256), dice.randbytes(256 * 256)).point(
        [120 + value // 16 for value in range(256)]
    )
    grain = Image.new("L", picture.size)
    for x in range(0, picture.width, tile.width):
        for y in range(0, picture.height, tile.height):
            grain.paste(tile, (x, y))
    grained = ImageChops.overlay(picture, Image.merge("RGB", (grain,) * 3))
    shade = [max(0, value - 150) // 3 for value in range(256)]
    edge = Image.radial_gradient("L").point(shade).resize(picture.size, Image.Resampling.BILINEAR)
    grained.paste(BLACK, (0, 0, *picture.size), edge)
    return grained
