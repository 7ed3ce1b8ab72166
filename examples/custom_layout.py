"""Read a dataset in a layout of your own: run `python examples/custom_layout.py`."""

import tempfile
from pathlib import Path

from PIL import Image

from qaconv.data import layouts
from qaconv.data.layouts.names import read_names
from qaconv.data.manifest import Manifest
from qaconv.plugins import register

FOLDERS = {"train": "known", "query": "wanted", "gallery": "seen"}
NAME = r"person(?P<pid>\d+)-camera(?P<camera>\d+)-(?P<second>\d+)s\.png"


@register("layout", "shop")
def read_shop(root: Path, domain: str) -> Manifest:
    """Read names such as person7-camera1-300s.png; cameras are numbered from 1."""
    rows = read_names(root, FOLDERS, NAME, "person7-camera1-300s.png (pid, camera from 1, seconds)")
    return Manifest(rows.assign(camid=rows["camera"] - 1, time_s=rows["second"] * 1.0, domain=domain), root)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for split, name in (("known", "1-camera1-5s"), ("wanted", "2-camera1-9s"), ("seen", "2-camera2-40s")):
            path = Path(folder, split, f"person{name}.png")
            path.parent.mkdir()
            Image.new("RGB", (24, 64), (40 * len(split), 90, 60)).save(path)
        manifest = layouts.read("shop", Path(folder))
        print(manifest.frame[["image", "pid", "camid", "time_s", "split"]].to_string(index=False))


if __name__ == "__main__":
    main()
