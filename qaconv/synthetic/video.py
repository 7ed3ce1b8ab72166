"""Render a short video of people who walk through one camera's view, and the file that a tracker writes about it."""

from dataclasses import dataclass
from math import pi
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
from PIL import Image

from qaconv.config import TrackerConfig
from qaconv.files import replacing_file
from qaconv.synthetic.cameras import draw_cameras
from qaconv.synthetic.figure import STEPS_PER_SECOND, Pose, draw_person
from qaconv.synthetic.people import Person, Wardrobe
from qaconv.synthetic.tracks import MISSED, number_tracks

BOX_WIDTH = 0.42  # of a box, as a share of its height
WALK_SPREAD = 0.1  # standard deviation of the logarithm of a person's way from camera to camera
HEAD_ROOM = 1.04  # height of a box, as a share of the person's


@dataclass(frozen=True)
class VideoSettings:
    """Settings of a video.

    Attributes:
        seed: of the site: its people and cameras.
        camera: from 0; the videos of a site's cameras show the same people one after another.
        cameras: number of the site's cameras.
        people: number of people who walk through.
        seconds: length of the video.
        width, height: of a frame in pixels, even.
        frame_rate: frames per second.
        gap_s: seconds from one person's entry to the next one's.
        crossing_s: seconds that a person takes from edge to edge.
        walk_s: seconds from one camera's entry to the next one's, in the median; all videos begin at one time.
    """

    seed: int = 1
    camera: int = 0
    cameras: int = 2
    people: int = 4
    seconds: float = 8.0
    width: int = 320
    height: int = 240
    frame_rate: int = 25
    gap_s: float = 1.5
    crossing_s: float = 3.0
    walk_s: float = 2.0


def render_video(
    video: Path,
    tracks: Path,
    settings: VideoSettings,
    tracker: TrackerConfig | None = None,
    metadata: dict[str, str] | None = None,
) -> pd.DataFrame:
    """Render a video as H.264, and write its boxes as ByteTrack does.

    Args:
        video: the file, such as entrance.mp4.
        tracks: the track file.
        settings: of the video.
        tracker: errors of the tracker. Default: none.
        metadata: of the file, such as creation_time. Default: none.

    Returns:
        The truth: frame (from 1), pass (the person, from 0), track, time_s, left, top, width and height of each box.
    """
    boxes = place_people(settings)
    rng = np.random.default_rng([settings.seed, 31, settings.camera])
    boxes["track"] = number_tracks(boxes.assign(camera=0), tracker or TrackerConfig(), rng)
    _encode(video, settings, boxes, metadata or {})
    lines = [
        f"{box.frame},{box.track},{box.left:.2f},{box.top:.2f},{box.width:.2f},{box.height:.2f},0.90,-1,-1,-1\n"
        for box in boxes.itertuples()
        if box.track != MISSED
    ]
    with replacing_file(tracks) as unfinished:
        unfinished.write_text("".join(lines))
    return boxes


def place_people(settings: VideoSettings) -> pd.DataFrame:
    """Place everyone in every frame: one row for each box that is at least in part in the picture.

    Returns:
        frame (from 1), pass, time_s, x and y of the feet, height_px (of the person), view_deg, and left, top, width and
        height of the box clipped to the picture, as detectors clip it.
    """
    rng = np.random.default_rng([settings.seed, 30, settings.camera])
    frame, person = (
        grid.ravel()
        for grid in np.meshgrid(
            np.arange(int(settings.seconds * settings.frame_rate)), np.arange(settings.people), indexing="ij"
        )
    )
    time_s = frame / settings.frame_rate
    walk_s = settings.walk_s * np.random.default_rng([settings.seed, 32]).lognormal(0, WALK_SPREAD, settings.people)
    entry_s = np.arange(settings.people) * settings.gap_s + settings.camera * walk_s
    progress = (time_s - entry_s[person]) / settings.crossing_s
    to_right = rng.random(settings.people)[person] < 0.5
    unit = settings.height * rng.uniform(0.45, 0.6, settings.people)[person]
    feet = settings.height * rng.uniform(0.85, 0.95, settings.people)[person]
    across = BOX_WIDTH * unit
    x = np.where(to_right, progress, 1 - progress) * (settings.width + across) - across / 2
    left = np.clip(x - across / 2, 0, settings.width)
    right = np.clip(x + across / 2, 0, settings.width)
    top = feet - HEAD_ROOM * unit
    boxes = pd.DataFrame(
        {
            "frame": frame + 1,
            "pass": person,
            "time_s": time_s,
            "x": x,
            "y": feet,
            "height_px": unit,
            "view_deg": np.where(to_right, 90.0, 270.0),
            "left": left,
            "top": top,
            "width": right - left,
            "height": feet + 0.03 * unit - top,
        }
    )
    return boxes[(progress >= 0) & (progress <= 1) & (right - left >= 2)].reset_index(drop=True)


def _encode(video: Path, settings: VideoSettings, boxes: pd.DataFrame, metadata: dict[str, str]) -> None:
    camera = draw_cameras(settings.seed, settings.cameras)[settings.camera]
    background = camera.background.resize((settings.width, settings.height), Image.Resampling.BILINEAR)
    wardrobe = Wardrobe.of_site(settings.seed)
    people = [wardrobe.dress(np.random.default_rng([settings.seed, 11, number])) for number in range(settings.people)]
    by_frame = dict(list(boxes.groupby("frame")))
    with (
        replacing_file(video) as unfinished,
        av.open(str(unfinished), "w", format=video.suffix.removeprefix(".").replace("mkv", "matroska")) as container,
    ):
        container.metadata.update(metadata)
        stream = container.add_stream("libx264", rate=settings.frame_rate, options={"preset": "veryfast", "crf": "23"})
        stream.width = settings.width
        stream.height = settings.height
        stream.pix_fmt = "yuv420p"
        for number in range(1, int(settings.seconds * settings.frame_rate) + 1):
            picture = background.copy()
            if number in by_frame:
                _draw(picture, by_frame[number], people, camera.elevation_deg)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture), "rgb24")))
        container.mux(stream.encode(None))


def _draw(picture: Image.Image, boxes: pd.DataFrame, people: list[Person], elevation_deg: float) -> None:
    """Draw the people of a frame, the farthest first."""
    box: Any
    for box in boxes.rename(columns={"pass": "person"}).sort_values("y").itertuples():
        left = int(box.x - box.height_px / 2)
        top = int(box.top)
        scene = picture.crop((left, top, left + int(box.height_px), picture.height))  # a small one is drawn sooner
        pose = Pose(
            view_deg=box.view_deg,
            phase=pi * STEPS_PER_SECOND * box.time_s + box.person,
            feet=(box.x - left, box.y - top),
            unit=box.height_px,
            elevation_deg=elevation_deg,
        )
        draw_person(scene, people[box.person], pose)
        picture.paste(scene, (left, top))
