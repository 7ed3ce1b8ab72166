"""Compute the positions in drawings of explanations and time lines; the templates draw."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qaconv.report.charts import WIDTH, Axis
from qaconv.report.content import Explanation, Sighting, TimeLine

PICTURE = 240.0  # height of an explained picture
GAP = 90.0  # between two pictures, for the links
NARROW_GAP = 20.0  # between two pictures without links
ROW = 46.0  # height of a camera on a time line
LEFT, RIGHT = 52.0, 18.0  # margins of a time line


@dataclass(frozen=True)
class Line:
    """A link between two pictures; lengths are in the drawing's units, the contribution in logits."""

    x1: float
    y1: float
    x2: float
    y2: float
    width: float
    contribution: float


@dataclass(frozen=True)
class Spot:
    """The contribution of a location as a circle."""

    x: float
    y: float
    radius: float
    contribution: float


@dataclass(frozen=True)
class Pair:
    """Two pictures side by side, and what is drawn on them.

    Attributes:
        width: of one picture.
        height: of both.
        right: left edge of the second picture.
        lines: links.
        spots: contributions of both.
    """

    width: float
    height: float
    right: float
    lines: Sequence[Line] = ()
    spots: Sequence[Spot] = ()


def links_drawing(explanation: Explanation) -> Pair:
    """Draw links between two pictures: the strongest is the widest and drawn last."""
    cell, width, height = _size(explanation)
    right = width + GAP
    strongest = max((abs(link.contribution) for link in explanation.links), default=0) or 1.0
    lines = [
        Line(
            *((link.query[1] + 0.5) * cell, (link.query[0] + 0.5) * cell),
            *(right + (link.gallery[1] + 0.5) * cell, (link.gallery[0] + 0.5) * cell),
            round(0.75 + 4 * abs(link.contribution) / strongest, 2),
            link.contribution,
        )
        for link in reversed(explanation.links)
    ]
    return Pair(width, height, right, lines=lines)


def contributions_drawing(explanation: Explanation) -> Pair:
    """Draw the contributions of all locations as circles with areas in proportion."""
    cell, width, height = _size(explanation)
    right = width + NARROW_GAP
    sides = [(0.0, explanation.query_contributions), (right, explanation.gallery_contributions)]
    largest = max(abs(value) for _, table in sides for row in table for value in row) or 1.0
    spots = [
        Spot(
            round(left + (column + 0.5) * cell, 1),
            round((row + 0.5) * cell, 1),
            round(cell / 2 * math.sqrt(abs(value) / largest), 2),
            value,
        )
        for left, table in sides
        for row, values in enumerate(table)
        for column, value in enumerate(values)
    ]
    return Pair(width, height, right, spots=spots)


def _size(explanation: Explanation) -> tuple[float, float, float]:
    """Side of a location, and width and height of a picture."""
    rows, columns = len(explanation.query_contributions), len(explanation.query_contributions[0])
    cell = PICTURE / rows
    return cell, columns * cell, PICTURE


def thirds(explanation: Explanation) -> list[float]:
    """Return the contributions of the upper, the middle and the lower third of both pictures."""
    sums = [0.0, 0.0, 0.0]
    for table in (explanation.query_contributions, explanation.gallery_contributions):
        for row, values in enumerate(table):
            sums[3 * row // len(table)] += sum(values)
    return sums


@dataclass(frozen=True)
class Mark:
    """The position of a sighting on a time line, and whether its rank went up, down or stayed the same."""

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
        rows: base line, camera, and the path of its stems.
        marks: sightings.
    """

    x: Axis
    height: float
    rows: Sequence[tuple[float, int, str]]
    marks: Sequence[Mark]


def time_drawing(line: TimeLine) -> Times:
    """Draw a row for each camera: factors as stems, sightings on the base line, those outside the window at an end."""
    query_s = line.query.time_s
    assert query_s is not None  # a query without a time has no time line
    low, high = line.first_s - query_s, line.last_s - query_s
    minutes = next((step for step in (1, 2, 5, 10, 20, 30, 60, 120, 240, 480) if (high - low) / 60 / step <= 6), 1440)
    first, last = math.ceil(low / 60 / minutes), math.floor(high / 60 / minutes)
    x = Axis(low, high, LEFT, WIDTH - RIGHT, [60 * minutes * i for i in range(first, last + 1)])
    largest = max((factor for track in line.tracks for factor in track.factors), default=1.0)
    base = {track.camid: (row + 1) * ROW for row, track in enumerate(line.tracks)}
    rows = []
    for track in line.tracks:
        y = Axis(0, largest, base[track.camid], base[track.camid] - ROW + 16)
        stems = [
            f"M{x.position(time - query_s):g} {y.start:g}V{y.position(factor):g}"
            for time, factor in zip(track.times, track.factors, strict=True)
        ]
        rows.append((base[track.camid], track.camid, "".join(stems)))
    marks = [
        Mark(x.position(sighting.crop.time_s - query_s), base[sighting.crop.camid], _direction(sighting), sighting)
        for sighting in reversed(line.sightings)
        if sighting.crop.time_s is not None
    ]
    return Times(x, len(line.tracks) * ROW + 40, rows, marks)


def _direction(sighting: Sighting) -> str:
    if sighting.after == sighting.before:
        return "same"
    return "up" if sighting.after < sighting.before else "down"
