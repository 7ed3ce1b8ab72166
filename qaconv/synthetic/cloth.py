"""Paint the parts of a figure with colours and garments, in light and in shade."""

from typing import NamedTuple

from PIL import Image, ImageDraw

from qaconv.synthetic.people import Colour, Garment

Fill = Colour | Image.Image
Box = tuple[float, float, float, float]
SHADE = 0.72  # share of the light on the dark edge of a part
CHEST, ARMPITS = 0.68, 0.76  # heights, as shares of the body's


class Paint(NamedTuple):
    """A colour, or an image of the scene's size."""

    lit: Fill
    shaded: Fill


def plain(colour: Colour) -> Paint:
    """Return the paint of one colour."""
    return Paint(colour, darker(colour, SHADE))


def cloth(garment: Garment, size: tuple[int, int], feet: tuple[float, float], unit: float) -> Paint:
    """Return the paint of a garment, whose pattern starts at the body and moves with it.

    Args:
        garment: of the person.
        size: width and height of the scene, in pixels.
        feet: position of the person, in pixels.
        unit: height of the person in pixels.
    """
    if garment.pattern in ("plain", "sleeves"):
        return plain(garment.colour)
    picture = Image.new("RGB", size, garment.colour)
    draw = ImageDraw.Draw(picture)
    if garment.pattern == "dots":
        for dot in _dots(garment, size, feet, unit):
            draw.ellipse(dot, fill=garment.second)
    else:
        for box in _boxes(garment, size, feet, unit):
            draw.rectangle(box, fill=garment.second)
    return Paint(picture, picture.point([int(level * SHADE) for level in range(256)] * 3))


def darker(colour: Colour, factor: float) -> Colour:
    """Return the colour at a share of its light."""
    red, green, blue = (int(level * factor) for level in colour)
    return red, green, blue


def _boxes(garment: Garment, size: tuple[int, int], feet: tuple[float, float], unit: float) -> list[Box]:
    wide, high = size
    chest, armpits = feet[1] - CHEST * unit, feet[1] - ARMPITS * unit
    if garment.pattern == "yoke":
        return [(0, chest - high, wide, chest)]
    if garment.pattern == "band":
        return [(0, armpits, wide, chest)]
    step, columns, rows = _grid(garment, size, feet, unit)
    across: list[Box] = [(0, y, wide, y + 0.45 * step) for y in rows]
    down: list[Box] = [(x, 0, x + 0.4 * step, high) for x in columns]
    return {"stripes": across, "pinstripes": down, "checks": across + down}[garment.pattern]


def _dots(garment: Garment, size: tuple[int, int], feet: tuple[float, float], unit: float) -> list[Box]:
    step, columns, rows = _grid(garment, size, feet, unit)
    return [(x, y, x + 0.6 * step, y + 0.6 * step) for x in columns for y in rows]


def _grid(
    garment: Garment, size: tuple[int, int], feet: tuple[float, float], unit: float
) -> tuple[float, list[float], list[float]]:
    """Step in pixels, and the start of columns and rows; a step below four pixels would not be visible."""
    step = max(garment.step * unit, 4.0)
    columns, rows = (
        [start % step + step * n for n in range(-1, int(length / step) + 1)]
        for start, length in zip(feet, size, strict=True)
    )
    return step, columns, rows
