"""Draw a few images in Market-1501's folders and names, for a rehearsal of the part that real images go through."""

from pathlib import Path

from benchmarks.gpu.simulated import draw_person
from qaconv.data.layouts.market1501 import FOLDERS

PEOPLE = {"train": range(2, 10), "query": range(20, 26), "gallery": range(20, 26)}
CAMERAS = {"train": (1, 2, 3), "query": (1,), "gallery": (2, 3)}
EACH = {"train": 2, "query": 1, "gallery": 2}  # images of a person on a camera


def draw_market(folder: Path) -> None:
    """Draw people who walk past the cameras one after another."""
    for split, name in FOLDERS.items():
        folder.joinpath(name).mkdir(parents=True)
        for person in PEOPLE[split]:
            for camera in CAMERAS[split]:
                for image in range(EACH[split]):
                    frame = 500 * person + 400 * camera + 10 * image
                    draw_person(person, folder / name / f"{person:04d}_c{camera}s1_{frame:06d}_01.jpg")
