"""Draw the cameras of a site: the view of each, and how it turns a scene into a file."""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from qaconv.synthetic.scenery import OCCLUDERS, PLACES, draw_background

WIDTH, HEIGHT = 64, 128  # of a stored crop, in pixels
DETAIL = 2  # factor by which scenes are drawn larger and then reduced
SCENE_WIDTH, SCENE_HEIGHT = DETAIL * WIDTH, DETAIL * HEIGHT


@dataclass(frozen=True)
class Camera:
    """View and image quality of one camera.

    Attributes:
        background: RGB, larger than a scene.
        elevation_deg: angle by which it looks down.
        levels: 768 values that levels of red, green and blue are mapped to: colour of the light, gamma and contrast.
        saturation: 1 leaves colours as they are.
        blur: standard deviation in pixels of the crop.
        noise: standard deviation in levels.
        resolution: share of the crop's pixels along each side.
        quality: of JPEG.
        shift, scale: standard deviation of the position and size of its boxes, as shares of the correct ones.
        occluder, occluded: object in its view, and the share of crops in which it hides something.
        company: share of crops with a second person.
    """

    background: Image.Image
    elevation_deg: float
    levels: list[int]
    saturation: float
    blur: float
    noise: float
    resolution: float
    quality: int
    shift: float
    scale: float
    occluder: str
    occluded: float
    company: float

    def backdrop(self, rng: np.random.Generator) -> Image.Image:
        """Return a random part of the background of a scene's size."""
        left = int(rng.integers(self.background.width - SCENE_WIDTH))
        top = int(rng.integers(self.background.height - SCENE_HEIGHT))
        return self.background.crop((left, top, left + SCENE_WIDTH, top + SCENE_HEIGHT))

    def store(self, scene: Image.Image, rng: np.random.Generator) -> bytes:
        """Return the JPEG file of a scene."""
        picture = ImageEnhance.Color(scene.reduce(DETAIL)).enhance(self.saturation).point(self.levels)
        picture = picture.filter(ImageFilter.GaussianBlur(self.blur))
        small = (round(WIDTH * self.resolution), round(HEIGHT * self.resolution))
        levels = np.asarray(picture.resize(small, Image.Resampling.BOX), dtype=np.float32)
        weather = rng.uniform(0.85, 1.15) * (1 + rng.normal(0, 0.03, 3).astype(np.float32))
        levels = levels * weather + self.noise * rng.standard_normal(levels.shape, dtype=np.float32)
        picture = Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
        file = BytesIO()
        picture.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(file, "JPEG", quality=self.quality)
        return file.getvalue()


def draw_cameras(seed: int, count: int) -> list[Camera]:
    """Draw the cameras of a site: similar in place, light and height, each with its own view and image quality."""
    site = np.random.default_rng([seed, 20])
    place = PLACES[seed % len(PLACES)]
    hue, elevation = site.random(), site.uniform(5, 25)
    warmth, brightness = site.normal(0, 0.05), site.normal(0, 0.1)
    cameras = []
    for number in range(count):
        rng = np.random.default_rng([seed, 21, number])
        cameras.append(
            Camera(
                background=draw_background(place, hue, (6 * SCENE_WIDTH, int(1.3 * SCENE_HEIGHT)), rng),
                elevation_deg=float(np.clip(elevation + rng.normal(0, 6), 0, 40)),
                levels=_levels(warmth + rng.normal(0, 0.045), brightness + rng.normal(0, 0.12), rng),
                saturation=rng.uniform(0.75, 1.2),
                blur=rng.uniform(0.2, 0.8),
                noise=rng.uniform(2, 7),
                resolution=rng.uniform(0.6, 1.0),
                quality=int(rng.integers(45, 92)),
                shift=rng.uniform(0.03, 0.06),
                scale=rng.uniform(0.05, 0.11),
                occluder=OCCLUDERS[rng.integers(len(OCCLUDERS))],
                occluded=rng.uniform(0.05, 0.2),
                company=rng.uniform(0.05, 0.25),
            )
        )
    return cameras


def _levels(warmth: float, brightness: float, rng: np.random.Generator) -> list[int]:
    gamma, contrast = np.exp(rng.normal(0, 0.13)), rng.uniform(0.85, 1.1)
    gains = np.array([[1 + warmth], [1 + rng.normal(0, 0.03)], [1 - warmth]]) * np.exp(brightness)
    light = np.clip(np.linspace(0, 1, 256) * gains, 0, 1) ** gamma
    levels: list[int] = np.clip(255 * (0.5 + contrast * (light - 0.5)), 0, 255).astype(int).ravel().tolist()
    return levels
