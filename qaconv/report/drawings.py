"""Explanations and time lines go in; where their parts stand in a drawing comes out. The templates draw."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qaconv.report.charts import WIDTH, Axis
from qaconv.report.content import Explanation, Sighting, TimeLine

PICTURE = 240.0  # height of a picture that is explained
GAP = 90.0  # between two pictures, for the links
CLOSE = 20.0  # between two pictures without links
ROW = 46.0  # height of a camera on a time line
LEFT, RIGHT = 52.0, 18.0  # margins of a time line


@dataclass(frozen=True)
class Line:
    """A link between two pictures, its width in the drawing's units."""

    x1: float
    y1: float
    x2: float
    y2: float
    width: float
    share: float


@dataclass(frozen=True)
class Spot:
    """A location's share: a circle, filled where it speaks for one person."""

    x: float
    y: float
    radius: float
    share: float


@dataclass(frozen=True)
class Pair:
    """Two pictures side by side, and what is drawn on them.

    Attributes:
        width: of one picture.
        height: of both.
        right: where the second picture begins.
        lines: links.
        spots: shares of both.
    """

    width: float
    height: float
    right: float
    lines: Sequence[Line] = ()
    spots: Sequence[Spot] = ()


def links_drawing(explanation: Explanation) -> Pair:
    """Links between two pictures, the strongest widest and drawn last."""
    cell, width, height = _size(explanation)
    right = width + GAP
    strongest = max((abs(link.share) for link in explanation.links), default=0) or 1.0
    lines = [
        Line(
            *((link.query[1] + 0.5) * cell, (link.query[0] + 0.5) * cell),
            *(right + (link.gallery[1] + 0.5) * cell, (link.gallery[0] + 0.5) * cell),
            round(0.75 + 4 * abs(link.share) / strongest, 2),
            link.share,
        )
        for link in reversed(explanation.links)
    ]
    return Pair(width, height, right, lines=lines)


def shares_drawing(explanation: Explanation) -> Pair:
    """Shares of all locations as circles, their area by how much they count."""
    cell, width, height = _size(explanation)
    right = width + CLOSE
    sides = [(0.0, explanation.query_shares), (right, explanation.gallery_shares)]
    most = max(abs(share) for _, shares in sides for row in shares for share in row) or 1.0
    spots = [
        Spot(
            round(left + (column + 0.5) * cell, 1),
            round((row + 0.5) * cell, 1),
            round(cell / 2 * math.sqrt(abs(share) / most), 2),
            share,
        )
        for left, shares in sides
        for row, of in enumerate(shares)
        for column, share in enumerate(of)
    ]
    return Pair(width, height, right, spots=spots)


def _size(explanation: Explanation) -> tuple[float, float, float]:
    """Side of a location, width and height of a picture: as tall as PICTURE."""
    rows, columns = len(explanation.query_shares), len(explanation.query_shares[0])
    cell = PICTURE / rows
    return cell, columns * cell, PICTURE


def thirds(explanation: Explanation) -> list[float]:
    """What the upper, the middle and the lower third of both pictures add to the score."""
    sums = [0.0, 0.0, 0.0]
    for shares in (explanation.query_shares, explanation.gallery_shares):
        for row, of in enumerate(shares):
            sums[3 * row // len(shares)] += sum(of)
    return sums


@dataclass(frozen=True)
class Mark:
    """A sighting on a time line: where, and which way it went."""

    x: float
    y: float
    moved: str
    sighting: Sighting


@dataclass(frozen=True)
class Times:
    """A time line.

    Attributes:
        x: seconds after the query.
        height: of the drawing.
        rows: base line, camera, and the `d` of a stem for each factor.
        marks: sightings.
    """

    x: Axis
    height: float
    rows: Sequence[tuple[float, int, str]]
    marks: Sequence[Mark]


def time_drawing(line: TimeLine) -> Times:
    """A row a camera: factors as stems, sightings on the base line; what lies outside stands at an end."""
    asked = line.query.time_s
    assert asked is not None  # time changed something
    low, high = line.first_s - asked, line.last_s - asked
    minutes = next((step for step in (1, 2, 5, 10, 20, 30, 60, 120, 240, 480) if (high - low) / 60 / step <= 6), 1440)
    first, last = math.ceil(low / 60 / minutes), math.floor(high / 60 / minutes)
    x = Axis(low, high, LEFT, WIDTH - RIGHT, [60 * minutes * i for i in range(first, last + 1)])
    most = max((factor for track in line.tracks for factor in track.factors), default=1.0)
    rows, base = [], {track.camid: (row + 1) * ROW for row, track in enumerate(line.tracks)}
    for track in line.tracks:
        y = Axis(0, most, base[track.camid], base[track.camid] - ROW + 16)
        stems = [
            f"M{x.at(time - asked):g} {y.start:g}V{y.at(factor):g}"
            for time, factor in zip(track.times, track.factors, strict=True)
        ]
        rows.append((base[track.camid], track.camid, "".join(stems)))
    marks = [
        Mark(x.at(of.crop.time_s - asked), base[of.crop.camid], _direction(of), of)
        for of in reversed(line.sightings)
        if of.crop.time_s is not None
    ]
    return Times(x, len(line.tracks) * ROW + 40, rows, marks)


def _direction(sighting: Sighting) -> str:
    if sighting.after == sighting.before:
        return "same"
    return "up" if sighting.after < sighting.before else "down"
