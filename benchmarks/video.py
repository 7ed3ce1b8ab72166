"""Time the cut of a video's crops against decoding the video alone."""

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import av

from benchmarks.table import Row, compare
from qaconv.synthetic.video import VideoSettings, render_video
from qaconv.video.crops import cut_crops

SMALL = VideoSettings(people=10, seconds=10, width=480, height=270, frame_rate=25, gap_s=0.8, crossing_s=4.0)
FACTOR = 4  # to 1920 x 1080


def rows() -> Iterator[Row]:
    """Cut the crops of about four people a frame at 1920 x 1080."""
    with TemporaryDirectory() as folder:
        video = Path(folder) / "large.mp4"
        tracks = Path(folder) / "large.txt"
        boxes = render_video(Path(folder) / "small.mp4", Path(folder) / "small.txt", SMALL)
        _enlarge(Path(folder) / "small.mp4", video)
        lines = [
            f"{frame},{track},{FACTOR * left},{FACTOR * top},{FACTOR * width},{FACTOR * height}\n"
            for frame, track, left, top, width, height in boxes[
                ["frame", "track", "left", "top", "width", "height"]
            ].itertuples(index=False, name=None)
        ]
        tracks.write_text("".join(lines))
        folders = (Path(folder) / f"crops{number}" for number in itertools.count())
        yield compare(
            f"crops of a video, 1920 x 1080, {len(boxes) / (SMALL.seconds * SMALL.frame_rate):.1f} people a frame; "
            "decoding alone as plain",
            partial(_decode, video),
            lambda: cut_crops(video, tracks, next(folders), "camera"),
            items=int(SMALL.seconds * SMALL.frame_rate),
        )


def _enlarge(small: Path, large: Path) -> None:
    with av.open(str(small)) as source, av.open(str(large), "w") as container:
        stream = container.add_stream("libx264", rate=SMALL.frame_rate, options={"preset": "veryfast", "crf": "18"})
        stream.width = FACTOR * SMALL.width
        stream.height = FACTOR * SMALL.height
        stream.pix_fmt = "yuv420p"
        for frame in source.decode(video=0):
            container.mux(stream.encode(frame.reformat(stream.width, stream.height)))
        container.mux(stream.encode(None))


def _decode(video: Path) -> int:
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        return sum(1 for _ in container.decode(stream))
