"""Cut the crops of one camera from its video by a track file, and add them to a folder of layout `table`.

The frames pass one by one. Memory holds the decoder's frames, one waiting crop of each track in view, and the track
file's numbers, of 8 bytes each.
"""

import logging
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import av
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from qaconv.errors import InputError
from qaconv.progress import PeriodicLog
from qaconv.video.choice import TrackChooser, find_faults, measure_quality, round_box
from qaconv.video.crops_folder import CropsFolder, Source
from qaconv.video.frames import Frame, Frames, open_frames
from qaconv.video.settings import DEFAULTS, CropSettings
from qaconv.video.track_file import UNTRACKED, TrackTable, read_tracks

log = logging.getLogger(__name__)
JPEG_QUALITY = 90


@dataclass(frozen=True)
class Cut:
    """What was cut.

    Attributes:
        camera: its name.
        crops: number of crops.
        tracks: number of tracks that they are of.
        left_out: number of boxes that broke each rule; a box may break several.
        is_known: whether the folder had the camera, cut from the same files by the same settings; nothing was done.
    """

    camera: str
    crops: int
    tracks: int
    left_out: dict[str, int]
    is_known: bool


def cut_crops(
    video: Path,
    tracks: Path,
    folder: Path,
    camera: str,
    *,
    start: datetime | None = None,
    frame_rate: float | None = None,
    person_class: int | None = None,
    settings: CropSettings = DEFAULTS,
) -> Cut:
    """Cut the crops of a camera, and add them with their times and tracks to a folder.

    Args:
        video: a video file, a folder of frames, or a MOTChallenge folder with seqinfo.ini.
        tracks: a track file (track_file.py).
        folder: gets images/<camera>/ and the camera's rows in sightings.csv; nothing if anything fails.
        camera: its name.
        start: time of the first frame, with its zone. Default: the creation time in the video's metadata, if there.
        frame_rate: of a folder of frames, in frames per second. Default: that of seqinfo.ini.
        person_class: class of people in the track file. Default: 1, if the file has classes.
        settings: rules for the choice of crops.

    Raises:
        InputError: a file cannot be read or is damaged, the two files do not fit each other, no box fulfils the rules,
            or the folder has the camera already, cut from other files or by other settings.
    """
    if start is not None and start.tzinfo is None:
        raise InputError(f"the start must have a zone, such as {start.isoformat()}+01:00, got {start.isoformat()}")
    output = CropsFolder(folder, camera)
    table = read_tracks(tracks, person_class)
    frames = open_frames(video, frame_rate)
    _check_boxes(table, frames)
    begins = _find_start(frames, start)
    source = Source.of(video, tracks, begins, frame_rate, person_class, settings)
    if output.has(source):
        return Cut(camera, *output.count(), {}, is_known=True)
    with output.filling() as images:
        cutter = _Cutter(table, frames, images, settings)
        cutter.run()
        rows = [
            (f"images/{camera}/{crop.name}", camera, _format_time(crop.time_s, begins), crop.track_name(camera))
            for crop in sorted(cutter.kept, key=lambda crop: crop.name)
        ]
        output.commit(images, rows, source)
    return Cut(camera, len(rows), len({row[3] for row in rows} - {""}), dict(cutter.left_out), is_known=False)


@dataclass(frozen=True)
class _Crop:
    track: int
    frame: int
    time_s: float
    pixels: av.VideoFrame | None  # None once it is written
    row: int = 0  # of the box in its frame, for boxes without a track

    @property
    def name(self) -> str:
        if self.track == UNTRACKED:
            return f"untracked_{self.frame:08d}_{self.row:03d}.jpg"
        return f"{self.track:06d}_{self.frame:08d}.jpg"

    def track_name(self, camera: str) -> str:
        return "" if self.track == UNTRACKED else f"{camera}-{self.track}"


class _Cutter:
    """Write the crops of a video, frame by frame.

    Attributes:
        kept: the crops that are written.
        left_out: number of boxes that broke each rule.
    """

    def __init__(self, table: TrackTable, frames: Frames, images: Path, settings: CropSettings) -> None:
        self.kept: list[_Crop] = []
        self.left_out: Counter[str] = Counter()
        self._table = table
        self._frames = frames
        self._images = images
        self._settings = settings
        self._last_frame = dict(zip(table.tracks.tolist(), table.frames.tolist(), strict=True))  # of each track
        self._choosers: dict[int, TrackChooser[_Crop]] = {}  # of the tracks in view
        self._in_view: dict[int, list[_Crop]] = {}  # written crops of those tracks
        self._next_untracked_s = 0.0

    def run(self) -> None:
        """Cut every frame.

        Raises:
            InputError: the video is damaged or shorter than the track file, or no box fulfils the rules.
        """
        report = PeriodicLog(log)
        damaged = 0
        last = 0
        wanted = set(self._table.frames.tolist())
        for frame in self._frames.read(wanted):
            last = frame.number
            rows = self._table.rows(frame.number)
            if rows.start < rows.stop:
                if frame.picture is None:
                    damaged += 1
                else:
                    self._cut_frame(frame, rows)
                self._end_tracks(frame.number, rows)
            report("%s: cut up to %.0f s", self._frames.path, frame.time_s)
        self._table.refuse(self._table.frames > last, f"are in frames after the video's last one, {last}")
        if damaged:
            log.warning("%s: %d damaged frames with people are left out", self._frames.path, damaged)
        if not self.kept:
            counts = ", ".join(f"{count:,} {rule}" for rule, count in self.left_out.items())
            raise InputError(
                f"{self._table.path}: no box fulfils the rules (--min-height, --max-overlap): of "
                f"{len(self._table.frames):,} are {counts}"
            )

    def _cut_frame(self, frame: Frame, rows: slice) -> None:
        boxes = self._table.boxes[rows]
        faults = find_faults(boxes, self._frames.width, self._frames.height, self._settings)
        for rule, broken in faults.items():
            self.left_out[rule] += int(broken.sum())
        usable = np.flatnonzero(~np.logical_or.reduce(list(faults.values())))
        tracks = self._table.tracks[rows]
        for row in usable[tracks[usable] != UNTRACKED].tolist():
            self._offer(frame, int(tracks[row]), boxes[row])
        untracked = usable[tracks[usable] == UNTRACKED].tolist()
        if untracked and frame.time_s >= self._next_untracked_s:
            self._next_untracked_s = frame.time_s + self._settings.spacing_s
            for row in untracked:
                self.kept.append(self._write(self._copy(frame, UNTRACKED, boxes[row], row)))

    def _offer(self, frame: Frame, track: int, box: NDArray[np.float64]) -> None:
        chooser = self._choosers.setdefault(track, TrackChooser(self._settings))
        self._keep(track, chooser.finish_spacing(frame.time_s))
        if chooser.looks_at(frame.time_s):
            assert frame.picture is not None
            quality = measure_quality(frame.picture.brightness(round_box(box)))
            chooser.offer(frame.time_s, quality, lambda: self._copy(frame, track, box))

    def _end_tracks(self, number: int, rows: slice) -> None:
        """Keep the last crop of the tracks that end with this frame, and forget them."""
        for track in self._table.tracks[rows].tolist():
            if self._last_frame[track] == number and track in self._choosers:
                self._keep(track, self._choosers[track].finish_spacing(np.inf))
                del self._choosers[track]
                self.kept += self._in_view.pop(track, [])

    def _keep(self, track: int, crop: _Crop | None) -> None:
        """Write a crop, and delete others of its track where it has too many."""
        if crop is None:
            return
        written = self._in_view.setdefault(track, [])
        written.append(self._write(crop))
        for dropped in self._choosers[track].thin_out(written):
            (self._images / dropped.name).unlink()
            written.remove(dropped)

    @staticmethod
    def _copy(frame: Frame, track: int, box: NDArray[np.float64], row: int = 0) -> _Crop:
        assert frame.picture is not None
        return _Crop(track, frame.number, frame.time_s, frame.picture.cut(round_box(box)), row)

    def _write(self, crop: _Crop) -> _Crop:
        assert crop.pixels is not None
        rgb = crop.pixels.reformat(format="rgb24", threads=1).to_ndarray()  # more threads start slower than they work
        (self._images / crop.name).write_bytes(simplejpeg.encode_jpeg(rgb, JPEG_QUALITY, colorsubsampling="420"))
        return replace(crop, pixels=None)


def _check_boxes(table: TrackTable, frames: Frames) -> None:
    left, top, wide, high = table.boxes.T
    outside = (left + wide <= 0) | (top + high <= 0) | (left >= frames.width) | (top >= frames.height)
    table.refuse(outside, f"are outside the picture of {frames.width} x {frames.height} pixels in {frames.path}")


def _find_start(frames: Frames, start: datetime | None) -> datetime | None:
    """Return when the first frame was recorded, and log where that is from."""
    if start is None and frames.created is None:
        log.warning(
            "%s: states no start, so time_s is in seconds from its first frame; --start gives the times a date",
            frames.path,
        )
    elif start is None:
        log.warning("%s: starts at %s by its metadata; --start corrects that", frames.path, frames.created)
    return start or frames.created


def _format_time(time_s: float, start: datetime | None) -> str:
    if start is None:
        return f"{time_s:.3f}"
    return (start + timedelta(seconds=time_s)).isoformat(timespec="milliseconds")
