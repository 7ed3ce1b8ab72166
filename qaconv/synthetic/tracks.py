"""Number the tracks of passes through a view as a tracker does, with its errors."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qaconv.config import TrackerConfig

MISSED = -1
FIRST_DAY = datetime(2026, 1, 5, tzinfo=UTC)  # the date of day 0 of every site


def track_table(crops: pd.DataFrame, config: TrackerConfig, rng: np.random.Generator) -> pd.DataFrame:
    """Return the rows of sightings.csv: what a network without labels knows about its crops.

    Args:
        crops: those of `render.choose_crops`.
        config: errors of the tracker.
        rng: source of all draws.

    Returns:
        image, camid (c1, c2, ...), time_s (ISO 8601, on the camera's clock) and track of each crop that is detected.
    """
    passes = crops.groupby(["camera", "day", "person", "visit"]).ngroup()
    days = crops["day"].to_numpy() * 86_400.0
    boxes = crops[["camera"]].assign(**{"pass": passes, "time_s": days + crops["time_s"]}).reset_index(drop=True)
    tracks = number_tracks(boxes, config, rng)
    names = "c" + (crops["camera"] + 1).astype(str)
    times = [FIRST_DAY + timedelta(seconds=seconds) for seconds in days + crops["clock_s"]]
    rows = pd.DataFrame(
        {
            "image": crops["path"],
            "camid": names,
            "time_s": [time.isoformat(timespec="milliseconds") for time in times],
            "track": names + "-" + pd.Series(tracks, crops.index).astype(str),
        }
    )
    detected: pd.DataFrame = rows[tracks != MISSED].sort_values("image")
    return detected


def number_tracks(boxes: pd.DataFrame, config: TrackerConfig, rng: np.random.Generator) -> NDArray[np.int64]:
    """Number the track of each box.

    Args:
        boxes: camera, pass (one person's way through one view, a number) and time_s of each box.
        config: shares of passes whose track breaks in two, of passes whose track goes on with another person who is in
            view at that time, and of boxes that are not detected.
        rng: source of all draws.

    Returns:
        The track of each box from 1, unique across cameras; MISSED where the box is not detected.
    """
    numbers = 1 + np.unique(boxes["pass"], return_inverse=True)[1].astype(np.int64)
    times = boxes["time_s"].to_numpy()
    for first, second, time_s in _meetings(boxes, config.switches, rng):
        tail = np.concatenate([first[times[first] > time_s], second[times[second] > time_s]])
        ids = numbers[first[0]], numbers[second[0]]
        numbers[tail] = np.where(numbers[tail] == ids[0], ids[1], ids[0])
    for number in np.unique(numbers):
        rows = np.flatnonzero(numbers == number)
        if len(rows) > 1 and rng.random() < config.breaks:
            ordered = rows[np.argsort(times[rows], kind="stable")]
            numbers[ordered[rng.integers(1, len(rows)) :]] = numbers.max() + 1
    numbers[rng.random(len(numbers)) < config.missed] = MISSED
    return numbers


def _meetings(
    boxes: pd.DataFrame, share: float, rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], float]]:
    """Yield the rows of two passes that are in one view at once, and a time at which they are; a pass meets once."""
    for _, view in boxes.groupby("camera"):
        spans = view.groupby("pass")["time_s"].agg(["min", "max"]).sort_values("min")
        rows = {number: boxes.index.get_indexer(part) for number, part in view.groupby("pass").groups.items()}
        free = set(spans.index)
        for number in spans.index[rng.random(len(spans)) < share]:
            start, end = spans.loc[number]
            others = spans[(spans["min"] < end) & (spans["max"] > start) & spans.index.isin(free - {number})]
            if number in free and len(others):
                other = others.index[0]
                free -= {number, other}
                yield (
                    rows[number],
                    rows[other],
                    (max(start, others["min"].iloc[0]) + min(end, others["max"].iloc[0])) / 2,
                )
