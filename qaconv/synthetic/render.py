"""Render a site into Market-1501's layout, with one crop for each sighting, and a table of tracks."""

import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qaconv.config import SiteConfig
from qaconv.files import replacing_folder
from qaconv.progress import track
from qaconv.synthetic.cameras import SCENE_HEIGHT, SCENE_WIDTH, Camera, draw_cameras
from qaconv.synthetic.figure import STEPS_PER_SECOND, Pose, draw_person
from qaconv.synthetic.network import NetworkSettings, simulate
from qaconv.synthetic.people import Person, Wardrobe
from qaconv.synthetic.scenery import draw_occluder
from qaconv.synthetic.tracks import track_table

FPS = 25  # frames per second, as in Market-1501
DISTRACTOR, JUNK = 0, -1
FOLDERS = {"train": "bounding_box_train", "gallery": "bounding_box_test", "query": "query"}
CHUNK = 64  # crops that a process draws at a time
CUT_SHORT = 0.1  # share of boxes that end at the hips or knees

log = logging.getLogger(__name__)


def render_site(config: SiteConfig, folder: Path, *, processes: int) -> None:
    """Write the crops of a site; the same settings give the same bytes for any number of processes.

    Args:
        config: the site.
        folder: gets bounding_box_train, bounding_box_test and query, and sightings.csv if the site has tracks; its old
            content is replaced.
        processes: number of processes that draw.
    """
    crops = choose_crops(config)
    chunks = [crops.iloc[start : start + CHUNK] for start in range(0, len(crops), CHUNK)]
    with (
        replacing_folder(folder) as unfinished,
        ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool,
    ):
        for name in FOLDERS.values():
            (unfinished / name).mkdir()
        drawn = pool.map(partial(draw_crops, config), chunks)
        for chunk, files in track(zip(chunks, drawn, strict=True), f"drawing {folder.name}", total=len(chunks)):
            for path, content in zip(chunk["path"], files, strict=True):
                (unfinished / path).write_bytes(content)
        if config.tracks:
            table = track_table(crops, config.tracks, np.random.default_rng([config.seed, 4]))
            table.to_csv(unfinished / "sightings.csv", index=False, lineterminator="\n")
    log.info("%s: %d crops, %s", folder, len(crops), crops["split"].value_counts().to_dict())


def choose_crops(config: SiteConfig) -> pd.DataFrame:
    """Choose the sightings that become crops, with their split and name.

    Every person with a pid is seen at least twice on each of two cameras, so that every query has a true match.
    Distractors are other people, each on the first camera that sees them. A junk crop is a sighting with a bad box.

    Returns:
        The columns of `network.simulate`, and mate (another person of the group, or the person itself), pid, split and
        path; in the order of drawing.
    """
    walkers = int(1.5 * (config.people + config.distractors)) + 10
    sightings = simulate(NetworkSettings(seed=config.seed, cameras=config.cameras, people=walkers, days=config.days))
    rng = np.random.default_rng([config.seed, 2])
    members = sightings.groupby("group")["person"]
    last = members.transform("max")
    sightings["mate"] = np.where(sightings["person"] == last, members.transform("min"), last)

    often = (sightings.groupby(["person", "camera"]).size() >= 2).groupby("person").sum() >= 2
    people = often.index[often][: config.people]
    known = sightings[sightings["person"].isin(people)]
    known = known.assign(pid=1 + np.searchsorted(people, known["person"]), split="gallery")
    known.loc[known["pid"] <= round(config.train_share * config.people), "split"] = "train"
    tested = known[known["split"] != "train"]
    known.loc[tested.groupby(["pid", "camera"]).sample(1, random_state=rng).index, "split"] = "query"

    others = sightings[~sightings["person"].isin(people)]
    others = others[others["person"].isin(others["person"].unique()[: config.distractors])]
    others = others[others["visit"] == others.groupby("person")["visit"].transform("min")]
    junk = sightings.sample(config.junk, random_state=rng)
    crops = pd.concat(
        [known, others.assign(pid=DISTRACTOR, split="gallery"), junk.assign(pid=JUNK, split="gallery")],
        ignore_index=True,
    )
    return crops.assign(path=_paths(crops))


def _paths(crops: pd.DataFrame) -> list[str]:
    frame = (crops["clock_s"] * FPS).astype(int)
    box = 1 + crops.groupby([crops["camera"], crops["day"], frame]).cumcount()
    rows = zip(crops["split"], crops["pid"], crops["camera"] + 1, crops["day"] + 1, frame, box, strict=True)
    return [
        f"{FOLDERS[split]}/{JUNK if pid == JUNK else f'{pid:04d}'}_c{camera}s{session}_{frame:06d}_{box:02d}.jpg"
        for split, pid, camera, session, frame, box in rows
    ]


def draw_crops(config: SiteConfig, chunk: pd.DataFrame) -> list[bytes]:
    """Draw the files of some crops.

    Args:
        config: the site.
        chunk: rows of `choose_crops`; a crop's random numbers depend on its index.
    """
    return [_draw_crop(config, sighting) for sighting in chunk.itertuples()]


def _draw_crop(config: SiteConfig, sighting: Any) -> bytes:
    """Draw the file of one crop; its random numbers do not depend on the other crops."""
    rng = np.random.default_rng([config.seed, 3, sighting.Index])
    camera: Camera = _cameras(config.seed, config.cameras)[sighting.camera]
    scene = camera.backdrop(rng)
    pose = _pose(sighting, camera, rng)
    figures = [(_person(config.seed, sighting.person), pose)]
    if rng.random() < camera.company:
        before = rng.random() < 0.4
        figures.insert(1 if before else 0, (_companion(config.seed, sighting, rng), _pose_next_to(pose, rng)))
    for person, pose in figures:
        draw_person(scene, person, pose)
    if rng.random() < camera.occluded:
        draw_occluder(scene, camera.occluder, rng)
    return camera.store(scene, rng)


def _pose(sighting: Any, camera: Camera, rng: np.random.Generator) -> Pose:
    """Draw the position of a person, who nearly fills the detector's box unless the crop is junk or cut short."""
    x, y = 0.5 + rng.normal(0, camera.shift), 0.95 + rng.normal(0, camera.shift)
    scale = 0.9 * np.exp(rng.normal(0, camera.scale))
    if sighting.pid == JUNK:
        x += rng.choice([-1, 1]) * rng.uniform(0.35, 0.9)
        scale *= rng.choice([0.5, 1, 2])
    elif rng.random() < CUT_SHORT:
        y, scale = y + 0.3, scale * 1.2
    return Pose(
        view_deg=sighting.view_deg,
        phase=pi * STEPS_PER_SECOND * sighting.time_s + sighting.person,
        feet=(x * SCENE_WIDTH, y * SCENE_HEIGHT),
        unit=scale * SCENE_HEIGHT,
        elevation_deg=camera.elevation_deg,
    )


def _companion(seed: int, sighting: Any, rng: np.random.Generator) -> Person:
    """Return another person of the group; for a single person, a passer-by without crops."""
    alone = sighting.mate == sighting.person
    return _person(seed, -1 - int(rng.integers(10_000)) if alone else sighting.mate)


def _pose_next_to(pose: Pose, rng: np.random.Generator) -> Pose:
    aside = rng.choice([-1, 1]) * rng.uniform(0.35, 0.6) * SCENE_WIDTH
    return replace(
        pose,
        view_deg=pose.view_deg + rng.normal(0, 10),
        phase=rng.uniform(0, 2 * pi),
        feet=(pose.feet[0] + aside, pose.feet[1]),
        unit=pose.unit * rng.uniform(0.9, 1.1),
    )


@lru_cache(maxsize=1)
def _cameras(seed: int, count: int) -> list[Camera]:
    return draw_cameras(seed, count)


@lru_cache(maxsize=4096)
def _person(seed: int, number: int) -> Person:
    passer_by = number < 0
    return _wardrobe(seed).dress(np.random.default_rng([seed, 12 if passer_by else 11, abs(number)]))


@lru_cache(maxsize=1)
def _wardrobe(seed: int) -> Wardrobe:
    return Wardrobe.of_site(seed)
