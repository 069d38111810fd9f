"""Colours, brushes, and the pictures that are patterns."""

from __future__ import annotations

import math
import random
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image, ImageChops, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from collections.abc import Sequence

Colour = tuple[int, int, int]
Point = tuple[float, float]
Size = tuple[int, int]
Dice = random.Random
BLACK = (0, 0, 0)
_GOLDEN = math.pi * (3 - math.sqrt(5))  # the angle between two seeds of a sunflower


class Palette(NamedTuple):
    """Four colours from dark to light, and the accent, which stands out from them."""

    dark: Colour
    deep: Colour
    accent: Colour
    soft: Colour
    light: Colour


def palette(codes: str) -> Palette:
    return Palette(*((int(code[:2], 16), int(code[2:4], 16), int(code[4:], 16)) for code in codes.split()))


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    """A colour between two. A share of 0 gives `one`, 1 gives `other`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def ramp(colours: Sequence[Colour], share: float) -> Colour:
    """A colour between several. A share of 0 gives the first one, 1 the last."""
    place = min(max(share, 0.0), 1.0) * (len(colours) - 1)
    first = min(int(place), len(colours) - 2)
    return mixed(colours[first], colours[first + 1], place - first)


def gradient(size: Size, colours: Sequence[Colour]) -> Image.Image:
    strip = Image.new("RGB", (1, len(colours)))
    strip.putdata(list(colours))
    return strip.resize((1, size[1]), Image.Resampling.BICUBIC).resize(size, Image.Resampling.NEAREST)


def box(centre: Point, radius: float) -> tuple[float, float, float, float]:
    return centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius


def glow(picture: Image.Image, centre: Point, radius: float, colour: Colour) -> None:
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
    """Paint a soft bank of mist, thickest at y + depth."""
    height = round(depth * 5)
    band = Image.new("L", (1, 64))
    band.putdata([round(strength * math.exp(-(((row - 31.5) / 13) ** 2))) for row in range(64)])
    band = band.resize((picture.width, height), Image.Resampling.BICUBIC)
    picture.paste(colour, (0, round(y + depth - height / 2)), band)


def ridge(width: int, roughness: float, dice: Dice) -> list[float]:
    """Heights from -1 to 1, one for each fourth column: a sum of waves, each of them finer and lower than the last."""
    waves = [(1.7**octave, roughness**octave, dice.uniform(0, math.tau)) for octave in range(1, 10)]
    total = sum(height for _, height, _ in waves)
    return [
        sum(height * math.sin(x / width * 2.2 * pitch * math.pi + phase) for pitch, height, phase in waves) / total
        for x in range(0, width + 4, 4)
    ]


def stars(picture: Image.Image, count: int, colours: Palette, dice: Dice, *, down_to: float = 1.0) -> None:
    draw = ImageDraw.Draw(picture)
    for _ in range(count):
        star = dice.uniform(0, picture.width), dice.uniform(0, picture.height * down_to)
        fill = mixed(colours.light, colours.deep, dice.uniform(0, 0.8))
        draw.ellipse(box(star, dice.choice((1, 1.5, 2, 3.5))), fill=fill)


def reflect(picture: Image.Image, horizon: float, colour: Colour, dice: Dice) -> None:
    """Paint water below the horizon: a mirror image of the picture above it, darker and stretched sideways."""
    (width, height), top = picture.size, round(horizon)
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
    """Add paper grain and darker corners. The grain comes from the dice, because Pillow's noise differs each time."""
    tile = Image.frombytes("L", (256, 256), dice.randbytes(256 * 256)).point(
        [120 + value // 16 for value in range(256)]
    )
    grain = Image.new("L", picture.size)
    for corner in product(range(0, picture.width, tile.width), range(0, picture.height, tile.height)):
        grain.paste(tile, corner)
    grained = ImageChops.overlay(picture, Image.merge("RGB", (grain,) * 3))
    shade = [max(0, value - 150) // 3 for value in range(256)]
    grained.paste(
        BLACK, (0, 0), Image.radial_gradient("L").point(shade).resize(picture.size, Image.Resampling.BILINEAR)
    )
    return grained


def currents(size: Size, colours: Palette, dice: Dice) -> Image.Image:
    """Threads that follow a field of slow waves."""
    (width, height), (dark, deep, accent, soft, light) = size, colours
    picture = gradient(size, (dark, mixed(dark, deep, 0.6)))
    draw = ImageDraw.Draw(picture)
    one, two, three, four = (dice.uniform(0, math.tau) for _ in range(4))
    pitch = dice.uniform(2.0, 4.5)
    for _ in range(380):
        x, y = dice.uniform(-0.1, 1.1), dice.uniform(-0.1, 1.1)
        path = []
        for _ in range(60):
            path.append((x * width, y * height))
            turn = math.sin(pitch * x + one) + math.cos(pitch * y + two) + math.sin(pitch * (x + y) + three)
            x += 0.0095 * math.cos(turn * 1.4 + four)
            y += 0.0095 * math.sin(turn * 1.4 + four)
        colour = mixed(dice.choice((accent, soft, soft, light, deep)), dark, dice.uniform(0.0, 0.4))
        draw.line(path, fill=colour, width=dice.choice((3, 5, 7, 12)))
    return picture


def bloom(size: Size, colours: Palette, dice: Dice) -> Image.Image:
    """Dots in the order of a sunflower's seeds."""
    (width, height), (dark, deep, accent, soft, light) = size, colours
    lit = dice.random() < 0.4
    ground = (light, mixed(light, soft, 0.35)) if lit else (mixed(dark, BLACK, 0.3), mixed(dark, deep, 0.5))
    picture = gradient(size, ground)
    draw = ImageDraw.Draw(picture)
    centre = dice.uniform(0.35, 0.65) * width, dice.uniform(0.35, 0.65) * height
    seeds, turn = dice.randint(420, 620), _GOLDEN + dice.choice((0.0, 0.0, 0.0008, -0.0008))
    reach, swell = max(width, height) * dice.uniform(0.46, 0.62), dice.uniform(0.5, 0.72)
    petals = (accent, mixed(accent, soft, 0.5), soft, deep) if lit else (light, accent, soft, mixed(deep, soft, 0.3))
    for seed in range(seeds, 0, -1):
        share = seed / seeds
        far = reach * math.sqrt(share)
        at = centre[0] + far * math.cos(seed * turn), centre[1] + far * math.sin(seed * turn)
        radius = reach / math.sqrt(seeds) * (0.35 + swell * 0.9 * share)
        colour = mixed(ramp(petals, share), dice.choice((light, dark)), dice.uniform(0, 0.16))
        draw.ellipse(box(at, radius), fill=colour)
    return picture


def geometry(size: Size, colours: Palette, dice: Dice) -> Image.Image:
    """A poster of quarter circles, discs and bars on a grid."""
    picture = Image.new("RGB", size, colours.light)
    side = math.ceil(max(size) / dice.choice((3, 4, 5)))
    inks = [*colours[:4], colours.accent]  # the accent twice, so that it is seen more often
    for y, x in product(range(0, size[1], side), range(0, size[0], side)):
        plain, (front, back) = dice.random() < 0.4, dice.sample(inks, 2)
        while front == back:
            front, back = dice.sample(inks, 2)
        picture.paste(_cell(side, front, colours.light if plain else back, dice), (x, y))
    return picture


def _cell(side: int, front: Colour, back: Colour, dice: Dice) -> Image.Image:
    cell = Image.new("RGB", (side, side), back)
    draw = ImageDraw.Draw(cell)
    match dice.randrange(6):
        case 0:
            draw.ellipse(box(dice.choice(((0, 0), (side, 0), (0, side), (side, side))), side), fill=front)
        case 1:
            draw.ellipse(box((side / 2, side / 2), side * 0.36), fill=front)
            draw.ellipse(box((side / 2, side / 2), side * 0.16), fill=back)
        case 2:
            for bar in range(0, 6, 2):
                draw.rectangle((0, bar * side / 6, side, (bar + 1) * side / 6), fill=front)
        case 3:
            draw.polygon(((0, side), (side, side), (side, 0)), fill=front)
        case 4:
            for ring in range(4):
                draw.ellipse(box((0, side), side * (1 - ring / 4)), fill=back if ring % 2 else front)
        case _:
            draw.ellipse(box((side / 2, 0), side / 2), fill=front)
            draw.ellipse(box((side / 2, side), side / 2), fill=front)
    return cell.rotate(dice.choice((0, 90, 180, 270)))
