from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from qaconv.synthetic.video import VideoSettings, render_video

SETTINGS = VideoSettings(people=3, seconds=5, width=240, height=160, frame_rate=10, gap_s=1.0)


class Recording(NamedTuple):
    """A rendered video, its track file, and the truth about its boxes."""

    video: Path
    tracks: Path
    boxes: pd.DataFrame


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Render three people who walk through a view: 50 frames at 10 a second, with a creation time."""
    folder = tmp_path_factory.mktemp("recording")
    video = folder / "entrance.mp4"
    tracks = folder / "entrance.txt"
    created = {"creation_time": "2026-03-01T08:00:00Z"}
    return Recording(video, tracks, render_video(video, tracks, SETTINGS, metadata=created))
