"""Make a small synthetic site for several tests, with the true person, camera and time of each crop."""

import gc
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import settings
from PIL import Image

from qaconv import plugins
from qaconv.config import SiteConfig
from qaconv.runtime import cbuild
from qaconv.synthetic.render import choose_crops, render_site
from tests.camera_version import write_camera_version
from tests.imports import PROJECT

torch.set_num_threads(1)  # the tests' networks are tiny: a second thread only waits for the first

settings.register_profile("unit", max_examples=50, deadline=None)  # of tests that say no number
settings.register_profile("fuzz", max_examples=5_000, deadline=None)  # make fuzz
settings.load_profile("unit")

SITE = SiteConfig(seed=3, cameras=3, people=16, train_share=0.5, distractors=2, junk=6)


@pytest.fixture(scope="session")
def site_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Render the site's crops into Market-1501's folders."""
    folder = tmp_path_factory.mktemp("site") / "shop"
    render_site(SITE, folder, processes=1)
    return folder


@pytest.fixture(scope="session")
def camera_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export a version whose cameras have batch norms of their own (tests/camera_version.py)."""
    folder = tmp_path_factory.mktemp("camera_version") / "served"
    write_camera_version(folder)
    return folder


@pytest.fixture
def params_file(tmp_path: Path) -> Path:
    """Copy the project's params.yaml."""
    return Path(shutil.copy(PROJECT / "params.yaml", tmp_path))


@pytest.fixture
def no_library_loaded() -> Iterator[None]:
    """Forget the C libraries that have been loaded."""
    cbuild._load.cache_clear()
    yield
    cbuild._load.cache_clear()


@pytest.fixture
def no_registered_kinds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget the kinds that a test registers or installs."""
    monkeypatch.setattr(plugins, "_registered", {})
    plugins._installed.cache_clear()
    yield
    plugins._installed.cache_clear()


@pytest.fixture(scope="session")
def sightings(site_folder: Path) -> pd.DataFrame:
    """Return the simulated truth about each crop.

    Columns pid (from 1; 0 is a distractor, -1 junk), camid, time_s (on the camera's clock), split, path (below
    site_folder) and picture (a PIL image).
    """
    crops = choose_crops(SITE).rename(columns={"camera": "camid"})
    crops["time_s"] = crops["clock_s"]
    crops["picture"] = pd.Series([Image.open(site_folder / path).copy() for path in crops["path"]], crops.index)
    return crops[["pid", "camid", "time_s", "split", "path", "picture"]]


@pytest.fixture(scope="session")
def peak_bytes() -> Callable[[Callable[[], object]], int]:
    """Return a function that measures by how many bytes a call raises this process's memory at most (Linux)."""

    def resident(field: str) -> int:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith(field)))

    def measure(call: Callable[[], object]) -> int:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the memory that is resident now
        before = resident("VmRSS")
        call()
        return resident("VmHWM") - before

    return measure
