"""prepare leaves a manifest, or nothing at all."""

from pathlib import Path

import pytest
from PIL import Image

from qaconv.config import DatasetConfig, Params
from qaconv.data.manifest import Manifest
from qaconv.errors import InputError
from qaconv.paths import PREPARED
from qaconv.stages.prepare import prepare


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Two people on VIPeR's cameras, in a project folder of their own."""
    monkeypatch.chdir(tmp_path)
    for number, image in enumerate(("cam_a/001_0", "cam_a/002_0", "cam_b/001_90", "cam_b/002_90")):
        path = Path(f"raw/{image}.bmp")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 8), (60 * number, 0, 0)).save(path)
    return Params.model_construct(datasets={"street": DatasetConfig(layout="viper", path=Path("raw"))})


def test_manifest_is_saved_under_the_datasets_name(params: Params, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        prepare(params, "street")
    manifest = Manifest.load(PREPARED / "street")
    assert set(manifest.frame["domain"]) == {"street"}
    assert manifest.images_digest
    assert "street query: 2 images of 2 people on 1 cameras, and 0 junk" in caplog.text


def test_second_run_writes_the_same_bytes(params: Params) -> None:
    prepare(params, "street")
    first = {path: path.read_bytes() for path in (PREPARED / "street").iterdir()}
    prepare(params, "street")
    assert {path: path.read_bytes() for path in (PREPARED / "street").iterdir()} == first


def test_refused_dataset_leaves_nothing_behind(params: Params) -> None:
    Path("raw/cam_a/001_0.bmp").write_bytes(b"")
    with pytest.raises(InputError, match=r"cam_a/001_0\.bmp"):
        prepare(params, "street")
    assert not PREPARED.exists()
