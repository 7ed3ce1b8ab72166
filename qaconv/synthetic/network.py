"""Simulate a camera network: who is seen where, when and from which side, without images.

Letters for shapes: C cameras, G groups, P persons, S the passes of the longest walk.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class NetworkSettings:
    """Settings of a network. Times are in seconds, lengths in metres."""

    seed: int
    cameras: int
    people: int
    days: int = 1
    day_length: float = 8 * 3600.0
    rush_hours: tuple[float, ...] = (0.15, 0.5, 0.85)  # when most people arrive, as shares of the day
    rush_share: float = 0.6  # of the arrivals; the others are uniform over the day
    group_sizes: tuple[float, ...] = (0.6, 0.2, 0.1, 0.06, 0.04)  # shares of groups of 1, 2, ... people
    group_spread: float = 1.5  # standard deviation of a member's position ahead or behind
    mean_passes: float = 4.0  # cameras passed in a walk, at least 2
    turn_back: float = 0.08  # share of passes after which a group goes back
    dwell_share: float = 0.15  # share of ways on which a group stops
    dwell_mean: float = 120.0  # mean time of a stop
    spacing: float = 60.0  # between neighbouring cameras
    walking_speed: float = 1.3  # metres per second
    pass_length: float = 6.0  # seconds in one camera's view
    crops_per_pass: float = 4.2  # at least 2
    missed: float = 0.1  # share of passes not detected, mean over cameras
    clock_offset: float = 600.0  # largest offset ahead of true time
    clock_drift: float = 100e-6  # largest drift in either direction; 100e-6 is 100 ppm


@dataclass(frozen=True)
class Network:
    """The cameras, the ways between them, and their clocks.

    Attributes:
        position: [C, 2] in metres.
        facing: [C] degrees: where the camera looks.
        follows: [C, C] probability of walking from one camera to another when nobody turns back; rows sum to 1, and
            0 means that there is no way.
        walk_median, walk_spread: [C, C] walking time of a directed way: median in seconds, and the standard deviation
            of its logarithm.
        missed: [C] share of passes that leave no sighting.
        offset, drift: [C] the camera's clock shows offset + (1 + drift) * t at t seconds into the day.
    """

    position: Floats
    facing: Floats
    follows: Floats
    walk_median: Floats
    walk_spread: Floats
    missed: Floats
    offset: Floats
    drift: Floats


def simulate(settings: NetworkSettings) -> pd.DataFrame:
    """Simulate one walk of every person through the network.

    Returns:
        One row for each crop that a camera stores, sorted by person and time, with the columns
        person, group (from 0, members are neighbours), camera (from 0), day (from 0), visit (the walk's n-th pass),
        time_s (true, into the day), clock_s (the same on the camera's clock), and
        view_deg (0 walks towards the camera, 90 to the right of the picture, 180 away, 270 to the left).
    """
    network = build_network(settings)
    rng = np.random.default_rng([settings.seed, 1])
    sizes = _group_sizes(settings, rng)
    camera, arrival = _walk(settings, network, len(sizes), rng)
    heading_in, heading_out = _headings(network, camera)

    group = np.repeat(np.arange(len(sizes)), sizes)
    day = rng.integers(settings.days, size=len(sizes))[group]
    place = rng.normal(0, settings.group_spread, len(group))
    seen = camera[group] >= 0
    seen &= rng.random(seen.shape) >= network.missed[camera[group]]
    person, visit = np.nonzero(seen)

    crops = 2 + rng.poisson(settings.crops_per_pass - 2, len(person))
    rank = np.arange(crops.sum()) - np.repeat(np.cumsum(crops) - crops, crops)
    person, visit, crops = np.repeat(person, crops), np.repeat(visit, crops), np.repeat(crops, crops)
    progress = (rank + rng.random(len(rank))) / crops  # through the view, 0 to 1
    cam = camera[group[person], visit]
    time = arrival[group[person], visit] + place[person] + settings.pass_length * progress
    heading = np.where(progress < 0.5, heading_in[group[person], visit], heading_out[group[person], visit])
    towards = network.facing[cam] + 180
    return pd.DataFrame(
        {
            "person": person,
            "group": group[person],
            "camera": cam,
            "day": day[person],
            "visit": visit,
            "time_s": time,
            "clock_s": network.offset[cam] + (1 + network.drift[cam]) * time,
            "view_deg": (heading - towards + rng.normal(0, 12, len(cam))) % 360,
        }
    )


def build_network(settings: NetworkSettings) -> Network:
    """Draw positions, ways and clocks of the cameras; the same settings give the same network."""
    rng = np.random.default_rng([settings.seed, 0])
    count = settings.cameras
    position = _scatter(count, settings.spacing, rng)
    distance = np.linalg.norm(position[:, None] - position[None], axis=2)
    linked = _links(distance)
    walk = distance * rng.uniform(1.0, 1.4, (count, count)) / settings.walking_speed  # detours, stairs and slopes
    follows = np.where(linked, rng.gamma(2.0, size=(count, count)), 0)
    return Network(
        position=position,
        facing=rng.uniform(0, 360, count),
        follows=follows / follows.sum(axis=1, keepdims=True),
        walk_median=np.where(linked, walk, np.inf),
        walk_spread=np.where(linked, rng.uniform(0.05, 0.18, (count, count)), 0),
        missed=np.clip(settings.missed * rng.uniform(0.5, 1.5, count), 0, 1),
        offset=rng.uniform(0, settings.clock_offset, count),
        drift=rng.uniform(-settings.clock_drift, settings.clock_drift, count),
    )


def _group_sizes(settings: NetworkSettings, rng: np.random.Generator) -> Ints:
    shares = np.array(settings.group_sizes)
    sizes = 1 + rng.choice(len(shares), settings.people, p=shares / shares.sum())
    sizes = sizes[: 1 + np.searchsorted(np.cumsum(sizes), settings.people)]
    sizes[-1] -= sizes.sum() - settings.people
    return sizes


def _walk(settings: NetworkSettings, network: Network, groups: int, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """Return the cameras passed and the start of each pass, [G, S] both; the camera is -1 after the end of the walk."""
    passes = 2 + rng.poisson(settings.mean_passes - 2, groups)
    camera = np.full((groups, passes.max()), -1)
    arrival = np.zeros(camera.shape)
    camera[:, 0] = rng.integers(settings.cameras, size=groups)
    arrival[:, 0] = _arrivals(settings, groups, rng)
    pace = np.exp(rng.normal(0, 0.08, groups))
    for step in range(1, camera.shape[1]):
        on = np.flatnonzero(passes > step)
        here = camera[on, step - 1]
        before = camera[on, step - 2] if step > 1 else np.full(len(on), -1)
        camera[on, step] = there = _next_camera(settings, network, here, before, rng)
        walking = network.walk_median[here, there] * np.exp(network.walk_spread[here, there] * rng.normal(size=len(on)))
        dwell = rng.exponential(settings.dwell_mean, len(on)) * (rng.random(len(on)) < settings.dwell_share)
        arrival[on, step] = arrival[on, step - 1] + settings.pass_length + walking * pace[on] + dwell
    return camera, arrival


def _arrivals(settings: NetworkSettings, groups: int, rng: np.random.Generator) -> Floats:
    """Draw arrival times in seconds of the day, in rush hours and uniformly; the first minute is empty."""
    rush = rng.normal(rng.choice(settings.rush_hours, groups), 0.05)
    share = np.where(rng.random(groups) < settings.rush_share, rush, rng.random(groups))
    return 60 + np.clip(share, 0, 1) * (settings.day_length - 60)


def _next_camera(
    settings: NetworkSettings, network: Network, here: Ints, before: Ints, rng: np.random.Generator
) -> Ints:
    """Draw the next camera of each group; a group goes back only when it turns, or at a dead end."""
    weight = network.follows[here]
    came = np.flatnonzero(before >= 0)
    weight[came, before[came]] = 0
    dead_end = weight.sum(axis=1) == 0
    weight[dead_end] = network.follows[here[dead_end]]
    limit = np.cumsum(weight, axis=1)
    onward = np.argmax(limit > rng.random((len(here), 1)) * limit[:, -1:], axis=1)
    turns = (before >= 0) & (rng.random(len(here)) < settings.turn_back)
    return np.where(turns, before, onward)


def _headings(network: Network, camera: Ints) -> tuple[Floats, Floats]:
    """Return the directions in which a group enters and leaves each view, in degrees, [G, S] both."""
    way = network.position[camera[:, 1:]] - network.position[camera[:, :-1]]
    heading = np.degrees(np.arctan2(way[..., 1], way[..., 0]))
    walked = camera[:, 1:] >= 0
    leaving = np.pad(heading, ((0, 0), (0, 1)))
    entering = np.pad(heading, ((0, 0), (1, 0)))
    entering[:, 0] = leaving[:, 0]
    leaving[:, :-1] = np.where(walked, leaving[:, :-1], entering[:, :-1])
    leaving[:, -1] = entering[:, -1]
    return entering, leaving


def _scatter(count: int, spacing: float, rng: np.random.Generator) -> Floats:
    """Draw positions of cameras in random cells of a grid, [C, 2]."""
    side = int(np.ceil(np.sqrt(count)))
    cell = rng.permutation(side * side)[:count]
    return spacing * (np.stack([cell % side, cell // side], axis=1) + rng.uniform(-0.25, 0.25, (count, 2)))


def _links(distance: Floats) -> NDArray[np.bool_]:
    """Link each camera with the three nearest and the nearest of a lower number, which connects all, [C, C]."""
    count = len(distance)
    linked = np.zeros((count, count), dtype=bool)
    apart = distance + np.where(np.eye(count, dtype=bool), np.inf, 0)
    nearest = np.argsort(apart, axis=1)[:, : min(3, count - 1)]
    linked[np.arange(count)[:, None], nearest] = True
    for camera in range(1, count):
        linked[camera, np.argmin(distance[camera, :camera])] = True
    return linked | linked.T
