"""Pictures of nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from reactor.sandbox.brushes import BLACK, box, gradient, mixed, ramp

if TYPE_CHECKING:
    from reactor.sandbox.brushes import Colour, Dice, Palette, Size

_GOLDEN = math.pi * (3 - math.sqrt(5))


def currents(size: Size, colours: Palette, dice: Dice) -> Image.Image:
    """Threads that follow a field of slow waves."""
    width, height = size
    dark, deep, accent, soft, light = colours
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
    """Seeds in the golden angle, as a sunflower has them."""
    width, height = size
    dark, deep, accent, soft, light = colours
    lit = dice.random() < 0.4
    picture = gradient(
        size, (light, mixed(light, soft, 0.35)) if lit else (mixed(dark, BLACK, 0.3), mixed(dark, deep, 0.5))
    )
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


def waves(size: Size, colours: Palette, dice: Dice) -> Image.Image:
    """Scales of concentric arcs, row over row, as on old cloth."""
    width, height = size
    dark, deep, accent, soft, light = colours
    picture = Image.new("RGB", size, dark)
    draw = ImageDraw.Draw(picture)
    radius = width / dice.choice((8, 10, 12))
    rings = dice.choice((4, 5))
    odd = dice.random() * 0.12
    for row in range(round(height / radius * 2) + 4):
        share = row * radius / 2 / height
        line = ramp((mixed(soft, light, 0.6), soft, mixed(soft, deep, 0.6)), share)
        ground = ramp((deep, mixed(deep, dark, 0.5), dark), share)
        for column in range(-1, round(width / radius / 2) + 2):
            x, y = (column * 2 + row % 2) * radius, row * radius / 2
            special = dice.random() < odd
            for ring in range(rings):
                fill = (accent if special else line) if ring % 2 == 0 else ground
                draw.ellipse(box((x, y), radius * (1 - ring / rings)), fill=fill)
    return picture


def geometry(size: Size, colours: Palette, dice: Dice) -> Image.Image:
    """A poster of quarter circles, discs and bars on a grid."""
    width, height = size
    picture = Image.new("RGB", size, colours.light)
    cells = dice.choice((3, 4, 5))
    side = math.ceil(max(width, height) / cells)
    inks = [*colours[:4], colours.accent]
    for row in range(math.ceil(height / side)):
        for column in range(math.ceil(width / side)):
            plain = dice.random() < 0.4
            front, back = dice.sample(inks, 2)
            while front == back:
                front, back = dice.sample(inks, 2)
            cell = _cell(side, front, colours.light if plain else back, dice)
            picture.paste(cell, (column * side, row * side))
    return picture


def _cell(side: int, front: Colour, back: Colour, dice: Dice) -> Image.Image:
    cell = Image.new("RGB", (side, side), back)
    draw = ImageDraw.Draw(cell)
    middle = side / 2, side / 2
    match dice.randrange(6):
        case 0:
            draw.ellipse(box(dice.choice(((0, 0), (side, 0), (0, side), (side, side))), side), fill=front)
        case 1:
            draw.ellipse(box(middle, side * 0.36), fill=front)
            draw.ellipse(box(middle, side * 0.16), fill=back)
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
