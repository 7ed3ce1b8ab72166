"""Draw a walking person into an image.

Lengths are shares of the body's height. The body's axes: r to its right, f forward, u up from the ground.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from math import cos, hypot, pi, radians, sin

from PIL import Image, ImageChops, ImageDraw

from qaconv.synthetic.cloth import Box, Paint, cloth, darker, plain
from qaconv.synthetic.people import LOWERS, UPPERS, Colour, Person

Point = tuple[float, float]
Body = tuple[float, float, float]  # r, f, u
STEPS_PER_SECOND = 1.8


@dataclass(frozen=True)
class Pose:
    """Position, direction and phase of a walking person in the camera's view."""

    view_deg: float  # 0 walks towards the camera, 90 to the right of the picture, 180 away, 270 to the left
    phase: float  # of the gait, in radians; two steps are 2 pi
    feet: Point  # in pixels
    unit: float  # pixels of the body's height
    elevation_deg: float  # angle by which the camera looks down


def draw_person(picture: Image.Image, person: Person, pose: Pose) -> None:
    """Draw a person into an RGB image, the farthest part first."""
    figure = _Figure(picture, person, pose)
    parts: list[tuple[float, Callable[[], None]]] = [
        (figure.depth(0, 0), figure.trunk),
        (figure.depth(0, 0) + 1e-3, figure.head),
        (figure.depth(*figure.bag_place()[:2]), figure.bag),
    ]
    for side in (1, -1):
        parts.append((figure.depth(side * 0.05, 0) - 1, partial(figure.leg, side)))  # the trunk covers the hips
        parts.append((figure.depth(side * 0.14, 0), partial(figure.arm, side)))
    figure.shadow()
    for _, draw in sorted(parts, key=lambda part: part[0]):
        draw()


class _Figure:
    """Project the points of a body into an image, and draw its parts."""

    def __init__(self, picture: Image.Image, person: Person, pose: Pose) -> None:
        self.picture, self.person, self.pose = picture, person, pose
        self.cos, self.sin = cos(radians(pose.view_deg)), sin(radians(pose.view_deg))
        self.rise, self.sink = cos(radians(pose.elevation_deg)), sin(radians(pose.elevation_deg))
        self.upper, self.lower = (
            cloth(garment, picture.size, pose.feet, pose.unit) for garment in (person.upper, person.lower)
        )

    def depth(self, r: float, f: float) -> float:
        """Return the depth of a point; larger is nearer to the camera."""
        return f * self.cos + r * self.sin

    def at(self, point: Body) -> Point:
        """Return the pixel of a point of the body."""
        r, f, u = point
        across = f * self.sin - r * self.cos
        up = u * self.rise - self.depth(r, f) * self.sink
        return self.pose.feet[0] + across * self.pose.unit, self.pose.feet[1] - up * self.pose.unit

    def shadow(self) -> None:
        (x, y), unit = self.pose.feet, self.pose.unit
        wide, high = 0.16 * unit, (0.02 + 0.1 * self.sink) * unit
        mask = Image.new("L", self.picture.size)
        ImageDraw.Draw(mask).ellipse((x - wide, y - high, x + wide, y + high), fill=90)
        self.picture.paste((15, 15, 20), mask=mask)

    def leg(self, side: int) -> None:
        person = self.person
        phase = self.pose.phase + (pi if side > 0 else 0)
        cut = LOWERS[person.lower.kind]
        room = min(1.0, 0.3 + 1.6 * cut.hem) if cut.whole else 1.0  # a long skirt shortens the stride
        swing, bend = room * person.stride * sin(phase), 0.1 + 0.45 * max(0.0, -cos(phase))
        hip = (side * 0.045 * person.girth, 0.0, 0.49)
        knee = _swung(hip, swing + 0.05, 0.225)
        ankle = _swung(knee, swing - bend, 0.225)
        heel, toe = _moved(ankle, f=-0.01, u=-0.015), _moved(ankle, f=0.085, u=-0.025)
        thigh, calf = 0.058 * person.girth, 0.042 * person.girth
        self._limb(hip, knee, thigh, calf, plain(person.skin))
        self._limb(knee, ankle, calf, calf * 0.65, plain(person.skin))
        self._limb(heel, toe, 0.03, 0.022, plain(person.shoes))
        if cut.whole or person.upper.kind == "dress":
            return
        thigh, calf = thigh * (1 + cut.ease / 2), calf * (1 + cut.ease)
        upper_share, lower_share = (0.49 - cut.hem) / 0.225, (0.265 - cut.hem) / 0.225
        self._limb(hip, _between(hip, knee, min(upper_share, 1)), thigh, calf, self.lower)
        if lower_share > 0:
            self._limb(knee, _between(knee, ankle, lower_share), calf, calf * (0.65 + cut.ease / 2), self.lower)

    def arm(self, side: int) -> None:
        person = self.person
        carries = person.bag in ("handbag", "suitcase") and side == person.bag_side
        swing = (0.05 if carries else 0.8 * person.stride) * sin(self.pose.phase + (0 if side > 0 else pi))
        shoulder = (side * 0.1 * person.shoulders * (0.5 + 0.5 * person.girth), 0.0, 0.79)
        elbow = _swung(_moved(shoulder, r=side * 0.02), swing, 0.165)
        wrist = _swung(elbow, swing + (0.05 if carries else 0.35), 0.15)
        thick = 0.034 * person.girth
        self._limb(shoulder, elbow, thick, thick * 0.8, plain(person.skin))
        self._limb(elbow, wrist, thick * 0.8, thick * 0.6, plain(person.skin))
        self._limb(wrist, _between(elbow, wrist, 1.15), thick * 0.8, thick * 0.6, plain(person.skin))
        cut = UPPERS[person.upper.kind]
        sleeve = plain(person.upper.second) if person.upper.pattern == "sleeves" else self.upper
        thick *= 1 + cut.ease
        if cut.sleeve > 0:
            self._limb(shoulder, _between(shoulder, elbow, min(cut.sleeve, 1)), thick, thick * 0.9, sleeve)
        if cut.sleeve > 1:
            self._limb(elbow, _between(elbow, wrist, cut.sleeve - 1), thick * 0.9, thick * 0.85, sleeve)

    def trunk(self) -> None:
        person = self.person
        self._limb((0, 0, 0.8), (0, 0, 0.87), 0.035 * person.girth, 0.032 * person.girth, plain(person.skin))
        upper, lower = UPPERS[person.upper.kind], LOWERS[person.lower.kind]
        if person.upper.kind != "dress":
            low, wide = (lower.hem, 1 + 0.6 * lower.ease) if lower.whole else (0.45, 1.02)
            hips = [(0.58, 0.085, 0.065), (0.5, 0.1, 0.078), (low, 0.095 * wide, 0.078 * wide)]
            self._tube(hips, self.lower, girth=person.girth)
        ease, flare = 1 + upper.ease, 1.25 if upper.whole else 1.0
        broad = person.shoulders * (1 + upper.ease / 2)
        rings = [
            (0.835, 0.05, 0.045),
            (0.815, 0.1 * broad, 0.06),
            (0.7, 0.104 * broad, 0.076 * ease),
            (0.58, 0.088 * ease, 0.07 * ease),
            (max(upper.hem, 0.48), 0.1 * ease, 0.08 * ease),
            (upper.hem, 0.1 * ease * flare, 0.083 * ease * flare),
        ]
        self._tube(rings, self.upper, girth=person.girth)
        chest = 0.076 * ease * person.girth
        if person.shirt:
            self._patch([(-0.035, 0.82), (0.035, 0.82), (0.05, upper.hem), (-0.05, upper.hem)], chest, person.shirt)
        elif person.logo != "none":
            self._patch(_logo(person.logo), chest, person.logo_colour)
        self._straps(chest)

    def _straps(self, chest: float) -> None:
        person = self.person
        if person.bag == "backpack":
            for r in (0.06, -0.06):
                strap = [(r - 0.012, 0.82), (r + 0.012, 0.82), (r + 0.012, 0.62), (r - 0.012, 0.62)]
                self._patch(strap, chest, person.bag_colour)
        if person.bag == "shoulder bag":
            over = person.bag_side
            strap = [(-0.075 * over, 0.82), (-0.05 * over, 0.82), (0.1 * over, 0.52), (0.085 * over, 0.5)]
            for face in (chest, -chest):
                self._patch(strap, face, person.bag_colour)

    def head(self) -> None:
        person, hair, skin = self.person, plain(self.person.hair), plain(self.person.skin)
        if person.haircut == "hood":
            self._ball((0, -0.012, 0.915), 0.062, 0.078, self.upper)
            if self.cos > 0.1:
                self._ball((0, 0.035, 0.908), 0.04 * self.cos, 0.05, skin)
            return
        self._ball((0, 0.01, 0.915), 0.052, 0.068, skin)
        if person.haircut == "bald":
            return
        if person.haircut == "long":
            self._tube([(0.95, 0.05, 0.05), (0.86, 0.066, 0.055), (0.77, 0.06, 0.045)], hair, f=-0.03)
        self._ball((0, -0.018, 0.93), 0.056, 0.062, hair)
        if self.cos > -0.3:
            self._ball((0, 0.03, 0.9), 0.044, 0.052, skin)
        if person.haircut == "ponytail":
            self._limb((0, -0.06, 0.94), (0, -0.09, 0.8), 0.02, 0.012, hair)
        if person.haircut == "cap":
            self._ball((0, -0.005, 0.958), 0.058, 0.035, plain(person.cap))
            self._limb((0, 0.03, 0.945), (0, 0.095, 0.94), 0.03, 0.012, plain(person.cap))

    def bag_place(self) -> Body:
        """Return the position of the bag."""
        side = self.person.bag_side
        return {
            "none": (0.0, 0.0, 0.0),
            "backpack": (0.0, -0.12, 0.68),
            "shoulder bag": (side * 0.15, 0.0, 0.5),
            "handbag": (side * 0.17, 0.03, 0.38),
            "suitcase": (side * 0.2, -0.16, 0.14),
        }[self.person.bag]

    def bag(self) -> None:
        (r, f, u), paint = self.bag_place(), plain(self.person.bag_colour)
        dark = darker(self.person.bag_colour, 0.6)
        if self.person.bag == "backpack":
            self._tube([(0.82, 0.06, 0.035), (0.79, 0.085, 0.055), (0.57, 0.09, 0.065), (0.54, 0.07, 0.05)], paint, f=f)
            self._patch([(-0.05, 0.67), (0.05, 0.67), (0.05, 0.59), (-0.05, 0.59)], f - 0.05, dark)
        elif self.person.bag == "shoulder bag":
            self._tube([(u + 0.06, 0.03, 0.08), (u - 0.08, 0.035, 0.09)], paint, r=r)
        elif self.person.bag == "handbag":
            self._limb((r, f, u + 0.08), (r, f, u), 0.008, 0.008, plain(dark))
            self._tube([(u, 0.025, 0.065), (u - 0.11, 0.035, 0.085)], paint, r=r, f=f)
        elif self.person.bag == "suitcase":
            self._limb((r, 0.02, 0.42), (r, f, u + 0.13), 0.008, 0.008, plain(dark))
            self._tube([(u + 0.15, 0.05, 0.075), (u - 0.11, 0.055, 0.08)], paint, r=r, f=f)

    def _limb(self, start: Body, end: Body, thick: float, thin: float, paint: Paint) -> None:
        """Draw a limb with round ends between two half-widths."""
        (x0, y0), (x1, y1) = self.at(start), self.at(end)
        a, b = thick * self.pose.unit, thin * self.pose.unit
        length = max(hypot(x1 - x0, y1 - y0), 1e-6)
        nx, ny = (y1 - y0) / length, (x0 - x1) / length  # across the limb
        left = [(x0 + nx * a, y0 + ny * a), (x1 + nx * b, y1 + ny * b)]
        right = [(x0 - nx * a, y0 - ny * a), (x1 - nx * b, y1 - ny * b)]
        self._fill(paint, [left + right[::-1]], [(x0 - a, y0 - a, x0 + a, y0 + a), (x1 - b, y1 - b, x1 + b, y1 + b)])

    def _tube(self, rings: Iterable[Body], paint: Paint, *, r: float = 0, f: float = 0, girth: float = 1) -> None:
        """Draw elliptic rings (height, half-width, half-depth) from top to bottom around an upright axis at (r, f)."""
        left, right = [], []
        for up, wide, deep in rings:
            x, y = self.at((r, f, up))
            half = hypot(wide * self.cos, deep * self.sin) * girth * self.pose.unit
            left.append((x - half, y))
            right.append((x + half, y))
        self._fill(paint, [left + right[::-1]], [])

    def _ball(self, centre: Body, wide: float, high: float, paint: Paint) -> None:
        (x, y), a, b = self.at(centre), wide * self.pose.unit, high * self.pose.unit
        self._fill(paint, [], [(x - a, y - b, x + a, y + b)])

    def _patch(self, corners: Iterable[Point], face: float, colour: Colour) -> None:
        """Draw a flat shape of corners (r, u) on the chest (face > 0) or back (face < 0) if that side is visible."""
        if self.cos * face > 0.15 * abs(face):
            ImageDraw.Draw(self.picture).polygon([self.at((r, face, u)) for r, u in corners], fill=colour)

    def _fill(self, paint: Paint, polygons: list[list[Point]], ellipses: list[Box]) -> None:
        """Paint shapes as one part; shade along the right edge makes it look round and separates it from the next."""
        xs = [x for polygon in polygons for x, _ in polygon] + [x for box in ellipses for x in box[::2]]
        ys = [y for polygon in polygons for _, y in polygon] + [y for box in ellipses for y in box[1::2]]
        left, top = max(0, int(min(xs))), max(0, int(min(ys)))
        right, bottom = min(self.picture.width, int(max(xs)) + 2), min(self.picture.height, int(max(ys)) + 2)
        if left >= right or top >= bottom:
            return
        mask = Image.new("L", (right - left, bottom - top))
        draw = ImageDraw.Draw(mask)
        for polygon in polygons:
            draw.polygon([(x - left, y - top) for x, y in polygon], fill=255)
        for x0, y0, x1, y1 in ellipses:
            draw.ellipse((x0 - left, y0 - top, x1 - left, y1 - top), fill=255)
        edge = ImageChops.offset(mask, -max(2, round(self.pose.unit * 0.014)), 0)
        box = (left, top, right, bottom)
        for fill, part in ((paint.shaded, mask), (paint.lit, ImageChops.darker(mask, edge))):
            self.picture.paste(fill.crop(box) if isinstance(fill, Image.Image) else fill, box, part)


def _logo(kind: str) -> list[Point]:
    """Return corners (r, u) on the chest."""
    return {
        "disc": [(0.042 * cos(n * pi / 6), 0.7 + 0.042 * sin(n * pi / 6)) for n in range(12)],
        "square": [(-0.035, 0.735), (0.035, 0.735), (0.035, 0.665), (-0.035, 0.665)],
        "bar": [(-0.06, 0.725), (0.06, 0.725), (0.06, 0.695), (-0.06, 0.695)],
        "triangle": [(0, 0.745), (0.05, 0.66), (-0.05, 0.66)],
    }[kind]


def _swung(joint: Body, angle: float, length: float) -> Body:
    """Return the far end of a bone that hangs from a joint, turned forward by an angle."""
    return joint[0], joint[1] + length * sin(angle), joint[2] - length * cos(angle)


def _moved(point: Body, *, r: float = 0, f: float = 0, u: float = 0) -> Body:
    return point[0] + r, point[1] + f, point[2] + u


def _between(start: Body, end: Body, share: float) -> Body:
    r, f, u = (a + (b - a) * share for a, b in zip(start, end, strict=True))
    return r, f, u
