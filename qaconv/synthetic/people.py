"""Draw the appearance of a site's people: body, hair, garments and bags."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

Colour = tuple[int, int, int]  # red, green, blue, 0..255
T = TypeVar("T")


class Cut(NamedTuple):
    """A kind of garment; lengths are shares of a body's height."""

    hem: float  # height of its lower end above the ground
    ease: float  # width beyond the body
    sleeve: float = 0  # 1 reaches the elbow, 2 the wrist
    whole: bool = False  # one piece around both legs


UPPERS = {
    "vest": Cut(0.48, 0.0),
    "t-shirt": Cut(0.47, 0.06, 0.7),
    "shirt": Cut(0.45, 0.06, 2),
    "jumper": Cut(0.47, 0.14, 2),
    "jacket": Cut(0.44, 0.2, 2),
    "coat": Cut(0.27, 0.2, 2, whole=True),
    "dress": Cut(0.29, 0.04, 0.6, whole=True),
}
OPENING = ("shirt", "jacket", "coat")
LOWERS = {
    "trousers": Cut(0.05, 0.25),
    "leggings": Cut(0.06, 0.0),
    "shorts": Cut(0.33, 0.35),
    "skirt": Cut(0.34, 0.5, whole=True),
    "long skirt": Cut(0.12, 0.7, whole=True),
}
PATTERNS = ("plain", "stripes", "pinstripes", "checks", "dots", "yoke", "band", "sleeves")
BAGS = ("none", "backpack", "shoulder bag", "handbag", "suitcase")
LOGOS = ("none", "disc", "square", "bar", "triangle")
HAIRCUTS = ("short", "long", "bald", "ponytail", "cap", "hood")

SKINS = ((244, 208, 177), (232, 184, 148), (198, 144, 102), (141, 92, 60), (92, 58, 40))
HAIRS = ((28, 22, 20), (60, 40, 28), (104, 70, 40), (168, 132, 80), (120, 118, 116))
NEUTRALS = ((30, 30, 34), (58, 60, 66), (120, 122, 126), (218, 216, 210), (36, 44, 72), (166, 148, 118))


@dataclass(frozen=True)
class Garment:
    """One piece of clothing: its kind (of UPPERS or LOWERS), its pattern (of PATTERNS) with its step, two colours."""

    kind: str
    pattern: str
    step: float
    colour: Colour
    second: Colour


@dataclass(frozen=True)
class Person:
    """Appearance of a person on every camera of the site; without a height, as a box fits its person."""

    girth: float  # 1 is average
    shoulders: float  # 1 is average
    stride: float  # swing of the legs, in radians
    skin: Colour
    hair: Colour
    haircut: str  # of HAIRCUTS; a hood is the upper garment's
    cap: Colour
    upper: Garment
    lower: Garment
    shoes: Colour
    shirt: Colour | None  # visible from the front under an open upper garment
    logo: str  # of LOGOS, on the chest
    logo_colour: Colour
    bag: str  # of BAGS
    bag_colour: Colour
    bag_side: int  # 1 on the right, -1 on the left


@dataclass(frozen=True)
class Wardrobe:
    """Clothing of a site's people: its colours, and the share of each kind in the order of the names above."""

    colours: tuple[Colour, ...]
    uppers: Sequence[float]
    lowers: Sequence[float]
    patterns: Sequence[float]
    bags: Sequence[float]

    @classmethod
    def of_site(cls, seed: int) -> "Wardrobe":
        """Draw neutral colours for every site, eight of the colour circle, and the shares of kinds."""
        rng = np.random.default_rng([seed, 10])
        hue, saturation, value = rng.random(), rng.uniform(0.4, 0.65), rng.uniform(0.5, 0.75)
        hues = hue + np.arange(8) / 8 + rng.normal(0, 0.03, 8)
        own = [from_hsv(h, saturation + rng.uniform(-0.2, 0.2), value + rng.uniform(-0.25, 0.2)) for h in hues]
        return cls(
            colours=(*NEUTRALS, *own),
            uppers=rng.dirichlet([1, 4, 4, 4, 5, 3, 2]).tolist(),
            lowers=rng.dirichlet([6, 2, 3, 2, 1]).tolist(),
            patterns=rng.dirichlet([6, 3, 1, 2, 2, 2, 2, 2]).tolist(),
            bags=rng.dirichlet([4, 4, 3, 2, 1]).tolist(),
        )

    def dress(self, rng: np.random.Generator) -> Person:
        """Draw a person."""
        upper = self._garment(UPPERS, self.uppers, self.patterns, rng)
        patterned = rng.random() < 0.3
        return Person(
            girth=float(np.clip(rng.normal(1.15, 0.15), 0.85, 1.5)),
            shoulders=rng.uniform(0.9, 1.15),
            stride=rng.uniform(0.3, 0.5),
            skin=_one(SKINS, rng),
            hair=_one(HAIRS, rng),
            haircut=_one(HAIRCUTS, rng),
            cap=_one(self.colours, rng),
            upper=upper,
            lower=self._garment(LOWERS, self.lowers, self.patterns if patterned else _only(PATTERNS, "plain"), rng),
            shoes=_one(((30, 28, 30), (90, 62, 40), (225, 222, 215), *self.colours[6:8]), rng),
            shirt=_one(self.colours, rng) if upper.kind in OPENING and rng.random() < 0.6 else None,
            logo=_one(LOGOS, rng),
            logo_colour=_one(self.colours, rng),
            bag=_one(BAGS, rng, self.bags),
            bag_colour=_one(self.colours, rng),
            bag_side=_one((1, -1), rng),
        )

    def _garment(
        self, kinds: Mapping[str, Cut], shares: Sequence[float], patterns: Sequence[float], rng: np.random.Generator
    ) -> Garment:
        neutral = np.arange(len(self.colours)) < len(NEUTRALS)
        likely = np.where(neutral, 0.5 / neutral.sum(), 0.5 / (~neutral).sum())
        first, second = rng.choice(len(self.colours), 2, replace=False, p=likely)
        return Garment(
            kind=_one(list(kinds), rng, shares),
            pattern=_one(PATTERNS, rng, patterns),
            step=rng.uniform(0.05, 0.1),
            colour=self.colours[first],
            second=self.colours[second],
        )


def from_hsv(hue: float, saturation: float, value: float) -> Colour:
    """Return a colour; hue is periodic with 1, the others are clipped to [0, 1]."""
    parts = (hue % 1, np.clip(saturation, 0, 1), np.clip(value, 0, 1))
    red, green, blue = Image.new("HSV", (1, 1), tuple(int(255 * part) for part in parts)).convert("RGB").tobytes()
    return red, green, blue


def _one(choices: Sequence[T], rng: np.random.Generator, shares: Sequence[float] | None = None) -> T:
    return choices[rng.choice(len(choices), p=shares)]


def _only(names: Sequence[str], name: str) -> list[float]:
    return [float(other == name) for other in names]
