"""A rendered video shows its people where the track file says."""

from pathlib import Path

import av
import numpy as np

from qaconv.config import TrackerConfig
from qaconv.synthetic.video import VideoSettings, place_people, render_video

SETTINGS = VideoSettings(people=2, seconds=3, width=200, height=144, frame_rate=5, gap_s=0.5, crossing_s=2.0)


def test_track_file_has_the_boxes_that_differ_from_the_empty_view(tmp_path: Path) -> None:
    boxes = render_video(
        tmp_path / "a.mp4", tmp_path / "a.txt", SETTINGS, metadata={"creation_time": "2026-03-01T08:00:00Z"}
    )
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.metadata["creation_time"].startswith("2026-03-01T08:00:00")
        frames = [frame.to_ndarray(format="gray").astype(int) for frame in container.decode(video=0)]
    assert len(frames) == 15
    rows = np.loadtxt(tmp_path / "a.txt", delimiter=",")
    assert rows.shape == (len(boxes), 10) and set(rows[:, 1]) == {1, 2}
    empty = next(frame for number, frame in enumerate(frames, start=1) if number not in set(rows[:, 0]))
    for number, frame in enumerate(frames, start=1):
        inside = np.zeros(frame.shape, dtype=bool)
        for left, top, width, height in rows[rows[:, 0] == number, 2:6]:
            inside[int(top) : int(top + height) + 1, int(left) : int(left + width) + 1] = True
            assert (np.abs(frame - empty) > 15)[inside].mean() > 0.1
        assert (np.abs(frame - empty) > 40)[~inside].mean() < 0.01


def test_second_camera_sees_the_people_of_the_first_later() -> None:
    first = place_people(SETTINGS)
    second = place_people(VideoSettings(**{**vars(SETTINGS), "camera": 1, "walk_s": 1.0}))
    assert first.groupby("pass")["time_s"].min().tolist() == [0.2, 0.6]
    assert (second.groupby("pass")["time_s"].min() - first.groupby("pass")["time_s"].min() >= 0.8).all()


def test_missed_boxes_are_not_in_the_track_file(tmp_path: Path) -> None:
    boxes = render_video(tmp_path / "a.mp4", tmp_path / "a.txt", SETTINGS, TrackerConfig(missed=0.5))
    lines = (tmp_path / "a.txt").read_text().splitlines()
    assert 0 < len(lines) == (boxes["track"] > 0).sum() < len(boxes)
