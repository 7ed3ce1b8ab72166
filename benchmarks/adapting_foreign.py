"""Adapt the demo's network to drawn networks whose colours are foreign to it, next to training on their true labels.

`python -m benchmarks.adapting_foreign` draws two networks of 4 and 5 cameras with 120 people. Each camera has a colour
cast, a contrast, a blur and a noise of its own, of which those of `campus`, which the demo's network is trained on,
have none. The adaptation sees half of the people; the table of `benchmarks.adapting_market` is measured on the others.
What an adaptation does was chosen on these networks.
"""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from benchmarks.adapting_market import compare_with_labels
from qaconv.config import SiteConfig
from qaconv.data.layouts import market1501
from qaconv.synthetic.render import render_site

NETWORKS = {510: (4, 1.0), 511: (5, 0.5)}  # seed: cameras, and the strength of what is done to the images


def main() -> None:
    """Print a table for each network."""
    with TemporaryDirectory() as scratch:
        for seed, (cameras, strength) in NETWORKS.items():
            drawn, foreign = Path(scratch) / f"drawn{seed}", Path(scratch) / f"foreign{seed}"
            site = SiteConfig(seed=seed, cameras=cameras, people=120, train_share=0.5, distractors=30)
            render_site(site, drawn, processes=1)
            spoil_images(drawn, foreign, seed, strength)
            compare_with_labels(market1501.read(foreign, foreign.name), 1.0)


def spoil_images(source: Path, folder: Path, seed: int, strength: float) -> None:
    """Write the images of a site as cameras of another make would show them.

    Args:
        source: folder of the site.
        folder: gets the images, under the same names.
        seed: of the cameras and of the noise.
        strength: 0 leaves the images as they are.
    """
    rng = np.random.default_rng(seed)
    cameras: dict[str, Camera] = {}
    for path in sorted(source.rglob("*.jpg")):
        name = path.name.split("_c")[1][0]
        if name not in cameras:
            cameras[name] = Camera(rng, strength)
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            Image.fromarray(cameras[name].show(image.convert("RGB"), rng)).save(target)


class Camera:
    """How a camera shows an image: all values are drawn around no change."""

    def __init__(self, rng: np.random.Generator, strength: float) -> None:
        self.gain = 1 + strength * (rng.uniform(0.6, 1.4, 3) - 1)  # of each channel
        self.gamma = 1 + strength * (rng.uniform(0.6, 1.6) - 1)
        self.blur = strength * rng.uniform(0.4, 1.2)  # radius in pixels
        self.noise = strength * rng.uniform(6, 16)  # standard deviation, of 255
        self.mixing = np.eye(3) + strength * rng.normal(0, 0.12, (3, 3))  # of the channels

    def show(self, image: Image.Image, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return the pixels [H, W, 3]."""
        pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(self.blur)), dtype=np.float64) / 255
        pixels = np.clip(pixels @ self.mixing.T, 0, 1) ** self.gamma * self.gain
        return np.clip(255 * pixels + rng.normal(0, self.noise, pixels.shape), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
