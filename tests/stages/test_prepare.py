"""prepare leaves a manifest, or nothing at all."""

from hashlib import sha256
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from qaconv.config import DatasetConfig, Params
from qaconv.data.fingerprints import warn_of_copies
from qaconv.data.layouts import checked, images
from qaconv.data.manifest import JUNK, UNLABELLED, Manifest
from qaconv.errors import InputError
from qaconv.paths import FINGERPRINTS, PREPARED
from qaconv.runtime.decode import decode_image
from qaconv.stages.prepare import prepare
from tests.data.layouts.layout_writers import write_noise


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
    assert not FINGERPRINTS.exists()


@pytest.mark.parametrize("copy", ["png", "double", "mirrored"])
def test_an_image_that_looks_like_one_of_another_person_is_reported(
    copy: str, params: Params, caplog: pytest.LogCaptureFixture
) -> None:
    for number, image in enumerate(("cam_a/001_0", "cam_a/002_0", "cam_b/001_90")):
        write_noise(Path(f"raw/{image}.bmp"), number)
    with Image.open("raw/cam_a/001_0.bmp") as picture:
        changed = {"double": ImageOps.scale(picture, 2), "mirrored": ImageOps.mirror(picture)}.get(copy, picture)
        Path("raw/cam_b/002_90.bmp").unlink()
        changed.save("raw/cam_b/002_90.png")
    prepare(params, "street")
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "street: 1 images look the same as one of another person:\n  cam_a/001_0.bmp = cam_b/002_90.png"
    ]


def test_images_of_unknown_people_that_look_alike_are_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    frame = pd.DataFrame({"image": ["a", "b", "c"], "pid": [UNLABELLED, 1, JUNK], "camid": [0, 1, 2]})
    alike = frame.assign(split="gallery", look=np.uint64(0))
    warn_of_copies(alike, "street")
    assert not caplog.records
    warn_of_copies(alike.assign(pid=[2, 1, JUNK]), "street")
    assert "1 images look the same as one of another person" in caplog.text


def test_a_query_stored_again_in_a_gallery_of_one_camera_is_reported(
    params: Params, caplog: pytest.LogCaptureFixture
) -> None:
    for number, image in enumerate(("query", "other")):
        write_noise(Path(f"shop/{image}.png"), number)
    with Image.open("shop/query.png") as picture:
        picture.save("shop/again.bmp")
    rows = {"image": ["query.png", "other.png", "again.bmp"], "split": ["query", "gallery", "gallery"]}
    pd.DataFrame({**rows, "pid": 1, "camid": 0, "time_s": 0.0}).to_csv("shop/shop.csv")
    dataset = DatasetConfig(layout="table", path=Path("shop/shop.csv"))
    prepare(Params.model_construct(datasets={"shop": dataset}), "shop")
    assert (
        "1 images of the gallery look the same as a query, on the only camera:\n  query.png = again.bmp" in caplog.text
    )


def test_sightings_without_labels_are_counted_and_reported_as_no_person(
    params: Params, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"{number}.png" for number in range(3)]
    for name in names:
        write_noise(Path("raw") / name, 0)
    Image.open("raw/0.png").convert("P").save("raw/1.png")
    write_noise(Path("raw/2.png"), 2)
    labels = {"pid": pd.array([1, None, None], "Int64"), "split": ["query", None, None]}
    pd.DataFrame({"image": names, "camid": ["roof", "lift", "lift"], **labels}).to_csv("raw/sightings.csv", index=False)
    params.datasets["street"] = DatasetConfig(layout="table", path=Path("raw/sightings.csv"))
    with caplog.at_level("INFO"):
        prepare(params, "street")
    assert (
        "street gallery: 0 images of 0 people on 1 cameras, and 0 junk, and 1 sightings without labels" in caplog.text
    )
    assert "look the same as one of another person" not in caplog.text
    assert Manifest.load(PREPARED / "street").cameras == {0: "lift", 1: "roof"}


def test_images_that_decoded_before_are_read_again_only_if_they_changed_and_give_the_same_bytes(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outputs() -> dict[str, bytes]:
        return {path.as_posix(): path.read_bytes() for path in Path("data").rglob("*") if path.is_file()}

    read, decoded = Mock(side_effect=sha256), Mock(side_effect=decode_image)
    monkeypatch.setattr(images, "sha256", read)
    monkeypatch.setattr(images, "decode_image", decoded)

    def counts() -> tuple[int, int]:
        """Return how many images were read and decoded since the last call; the digest of all files is one more."""
        counted = read.call_count - 1, decoded.call_count
        read.reset_mock()
        decoded.reset_mock()
        return counted

    prepare(params, "street")
    first = outputs()
    assert counts() == (4, 4)
    Path("raw/cam_a/001_0.bmp").touch()
    prepare(params, "street")
    assert counts() == (1, 0) and outputs() == first
    Image.new("RGB", (4, 8), (0, 90, 0)).save("raw/cam_b/002_90.bmp")
    prepare(params, "street")
    assert counts() == (1, 1) and outputs() != first
    Path("raw/cam_b/002_90.bmp").write_bytes(b"BM damaged")
    with pytest.raises(InputError, match=r"1 images cannot be read:\n  cam_b/002_90\.bmp"):
        prepare(params, "street")


def test_images_that_other_code_has_decoded_are_decoded_again(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(params, "street")
    decoded = Mock(side_effect=decode_image)
    monkeypatch.setattr(images, "decode_image", decoded)
    monkeypatch.setattr(checked, "_code_digest", lambda: "other")
    prepare(params, "street")
    assert decoded.call_count == 4
