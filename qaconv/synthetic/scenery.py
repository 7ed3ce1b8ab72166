"""Draw backgrounds of a kind of place, and objects that hide people."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from qaconv.synthetic.people import from_hsv

PLACES = ("shops", "park", "platform")
OCCLUDERS = ("pillar", "bin", "railing")


def draw_background(place: str, hue: float, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """Draw walls or trees above the ground.

    Args:
        place: of PLACES.
        hue: of the ground and walls in [0, 1], the same for a site.
        size: width and height in pixels.
        rng: of the camera.
    """
    width, height = size
    wall = from_hsv(hue + 0.3 + rng.normal(0, 0.05), rng.uniform(0.05, 0.3), rng.uniform(0.45, 0.8))
    picture = Image.new("RGB", size, wall)
    draw = ImageDraw.Draw(picture)
    horizon = int(rng.uniform(0.3, 0.7) * height)
    if place == "shops":
        _put_windows(draw, width, horizon, rng)
    elif place == "park":
        _plant_trees(draw, width, horizon, rng)
    else:
        _put_panels(draw, width, horizon, rng)
    _lay_ground(draw, size, horizon, hue, rng)
    if place == "platform":
        draw.rectangle((0, horizon + 12, width, horizon + 20), fill=(214, 186, 60))
    grain = rng.normal(0, 5, (height, width, 1))
    picture = Image.fromarray(np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8))
    return picture.filter(ImageFilter.GaussianBlur(1))


def draw_occluder(scene: Image.Image, kind: str, rng: np.random.Generator) -> None:
    """Draw one of OCCLUDERS in front of the scene."""
    draw = ImageDraw.Draw(scene)
    width, height = scene.size
    fill = from_hsv(rng.random(), 0.15, rng.uniform(0.15, 0.7))
    if kind == "pillar":
        left = width * (rng.uniform(-0.1, 0.2) if rng.random() < 0.5 else rng.uniform(0.6, 0.95))
        draw.rectangle((left, 0, left + rng.uniform(0.15, 0.35) * width, height), fill=fill)
    elif kind == "bin":
        left, top = rng.uniform(-0.1, 0.7) * width, rng.uniform(0.6, 0.75) * height
        draw.rounded_rectangle((left, top, left + 0.45 * width, height), radius=8, fill=fill)
        draw.rectangle((left, top + 8, left + 0.45 * width, top + 14), fill=(30, 30, 30))
    else:
        top = rng.uniform(0.5, 0.65) * height
        draw.rectangle((0, top, width, top + 6), fill=fill)
        for x in range(int(rng.integers(22)), width, 22):
            draw.rectangle((x, top, x + 3, height), fill=fill)


def _put_windows(draw: ImageDraw.ImageDraw, width: int, horizon: int, rng: np.random.Generator) -> None:
    x = 0.0
    while x < width:
        wide, top = rng.uniform(40, 130), rng.uniform(-0.2, 0.4) * horizon
        glass = from_hsv(rng.random(), rng.uniform(0, 0.4), rng.uniform(0.3, 0.95))
        draw.rectangle((x, top, x + wide, horizon), fill=glass, outline=(50, 48, 46), width=3)
        for _ in range(3):  # goods
            at, up = x + rng.uniform(0, 0.8) * wide, rng.uniform(0.4, 0.8) * horizon
            goods = from_hsv(rng.random(), rng.uniform(0.1, 0.6), rng.uniform(0.2, 0.9))
            draw.rectangle((at, up, at + rng.uniform(0.1, 0.3) * wide, horizon - 4), fill=goods)
        x += wide + rng.uniform(5, 50)


def _plant_trees(draw: ImageDraw.ImageDraw, width: int, horizon: int, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(15, 40))):
        x, y, size = rng.uniform(0, width), rng.uniform(0, horizon), rng.uniform(15, 55)
        leaves = from_hsv(rng.uniform(0.2, 0.4), 0.5, rng.uniform(0.15, 0.5))
        draw.ellipse((x - size, y - size, x + size, y + size), fill=leaves)


def _put_panels(draw: ImageDraw.ImageDraw, width: int, horizon: int, rng: np.random.Generator) -> None:
    band = from_hsv(rng.random(), 0.5, rng.uniform(0.3, 0.8))
    draw.rectangle((0, 0.3 * horizon, width, 0.45 * horizon), fill=band)
    for x in np.arange(rng.uniform(0, 60), width, rng.uniform(90, 160)):
        poster = from_hsv(rng.random(), rng.uniform(0.1, 0.5), rng.uniform(0.4, 0.95))
        draw.rectangle((x, 0.5 * horizon, x + 45, 0.9 * horizon), fill=poster, outline=(230, 230, 230), width=2)
        draw.rectangle((x + 60, 0, x + 72, horizon), fill=(90, 94, 98))


def _lay_ground(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], horizon: int, hue: float, rng: np.random.Generator
) -> None:
    width, height = size
    saturation, value = rng.uniform(0.05, 0.2), rng.uniform(0.45, 0.7)
    hue += rng.normal(0, 0.03)
    draw.rectangle((0, horizon, width, height), fill=from_hsv(hue, saturation, value))
    joint = from_hsv(hue, saturation, value * rng.uniform(0.75, 0.92))
    y, step = float(horizon), rng.uniform(5, 14)
    while y < height:
        draw.line((0, y, width, y), fill=joint, width=2)
        y, step = y + step, step * 1.25
    for x in np.arange(-width, 2 * width, rng.uniform(20, 70)):
        draw.line((width / 2 + 0.7 * (x - width / 2), horizon, x, height), fill=joint, width=2)
