"""Render the videos of two cameras and their track files: run `python examples/two_videos.py FOLDER`.

docs/your-own-cameras.md shows what to do with such files.
"""

import sys
from pathlib import Path

from qaconv.config import TrackerConfig
from qaconv.synthetic.video import VideoSettings, render_video


def main(folder: str, people: int = 120, seconds: float = 500) -> None:
    """Let people walk past the entrance, and 15 s later through the hall; the tracker makes some mistakes."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    tracker = TrackerConfig(breaks=0.1, switches=0.05, missed=0.05)
    for number, camera in enumerate(("entrance", "hall")):
        settings = VideoSettings(camera=number, people=people, seconds=seconds, frame_rate=6, gap_s=4, walk_s=15)
        boxes = render_video(Path(folder, f"{camera}.mp4"), Path(folder, f"{camera}.txt"), settings, tracker)
        print(f"{camera}: {seconds:g} s with {boxes['pass'].nunique()} people")


if __name__ == "__main__":
    main(sys.argv[1])
