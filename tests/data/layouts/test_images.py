"""Every image decodes completely, and no content is accepted twice."""

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from qaconv.data import layouts
from qaconv.errors import InputError
from tests.data.layouts.layout_writers import write_noise

TRAIN = "bounding_box_train/0002_c1s1_000451_03.jpg"
QUERY = "query/0003_c1s1_000451_00.jpg"
GALLERY = "bounding_box_test/0003_c2s1_000451_01.jpg"


@pytest.fixture
def market(tmp_path: Path) -> Path:
    for seed, image in enumerate((TRAIN, QUERY, GALLERY)):
        write_noise(tmp_path / image, seed)
    return tmp_path


@pytest.mark.parametrize(("suffix", "lost"), [("jpg", 1), ("jpg", 100), ("png", 40), ("png", 200), ("bmp", 1)])
def test_truncated_image_is_named(suffix: str, lost: int, tmp_path: Path) -> None:
    for camera, seed in (("cam_a", 0), ("cam_b", 1)):
        write_noise(tmp_path / camera / f"001_45.{suffix}", seed)
    image = tmp_path / f"cam_b/001_45.{suffix}"
    image.write_bytes(image.read_bytes()[:-lost])
    with pytest.raises(InputError, match=rf"1 images cannot be read:\n  cam_b/001_45\.{suffix}: "):
        layouts.read("viper", tmp_path)


def test_file_that_is_not_an_image_is_named(market: Path) -> None:
    (market / QUERY).write_text("<html>404</html>")
    (market / GALLERY).write_bytes(b"")
    fault = "is not an image, allowed: JPEG, .*"
    with pytest.raises(InputError, match=f"2 images cannot be read:\n  {QUERY}: {fault}\n  {GALLERY}: {fault}"):
        layouts.read("market1501", market)


def test_damaged_scan_is_named(market: Path) -> None:
    content = (market / GALLERY).read_bytes()
    (market / QUERY).write_bytes(content[:-80] + bytes(64) + content[-16:])
    (market / GALLERY).write_bytes(content[:-80] + b"\xff\xd9")
    fault = "cannot be decoded as JPEG: "
    with pytest.raises(InputError, match=f"2 images cannot be read:\n  {QUERY}: {fault}.*\n  {GALLERY}: {fault}"):
        layouts.read("market1501", market)


def test_image_of_another_format_is_named(market: Path) -> None:
    Image.new("RGB", (8, 16), "red").save(market / QUERY, "GIF")
    Image.new("F", (8, 16), 0.5).save(market / GALLERY, "TIFF")
    faults = f"{QUERY}: is a GIF file, allowed: JPEG, .*\n  {GALLERY}: cannot be decoded as TIFF: values that are"
    with pytest.raises(InputError, match=f"2 images cannot be read:\n  {faults}"):
        layouts.read("market1501", market)


def test_image_file_of_gigabytes_is_named_without_being_read(market: Path) -> None:
    with (market / QUERY).open("ab") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(InputError, match=f"{QUERY}: has 1,099,511,627,776 bytes, must have at most 67,108,864"):
        layouts.read("market1501", market)


def test_dangling_link_is_named(market: Path) -> None:
    (market / QUERY).unlink()
    (market / QUERY).symlink_to(market / "gone.jpg")
    with pytest.raises(InputError, match=f"{QUERY}: No such file"):
        layouts.read("market1501", market)


@pytest.mark.parametrize(
    ("original", "copy"),
    [
        (TRAIN, "bounding_box_train/0002_c1s1_000452_03.jpg"),
        (GALLERY, "bounding_box_test/0003_c2s1_000999_01.jpg"),
        (QUERY, "query/0003_c1s1_000452_00.jpg"),
        (TRAIN, "bounding_box_test/0009_c1s1_000451_03.jpg"),
        (TRAIN, "query/0009_c1s1_000451_03.jpg"),
        (QUERY, "bounding_box_test/0004_c1s1_000451_03.jpg"),
        (QUERY, "bounding_box_test/0003_c3s1_000451_03.jpg"),
    ],
    ids=["train", "gallery", "query", "train_gallery", "train_query", "other_person", "other_camera"],
)
def test_duplicate_is_named_with_its_original(original: str, copy: str, market: Path) -> None:
    shutil.copy(market / original, market / copy)
    with pytest.raises(InputError, match="1 images have duplicates") as refusal:
        layouts.read("market1501", market)
    assert original in str(refusal.value)
    assert copy in str(refusal.value)


def test_query_may_be_in_the_gallery_as_the_same_person_on_the_same_camera(market: Path) -> None:
    shutil.copy(market / QUERY, market / "bounding_box_test/0003_c1s1_000451_07.jpg")
    assert len(layouts.read("market1501", market).frame) == 4


def test_query_may_not_be_in_a_gallery_of_one_camera(market: Path) -> None:
    (market / GALLERY).rename(market / "bounding_box_test/0003_c1s1_000900_01.jpg")
    write_noise(market / "bounding_box_test/-1_c2s1_000001_01.jpg", 7)  # junk on another camera is not measured
    shutil.copy(market / QUERY, market / "bounding_box_test/0003_c1s1_000451_07.jpg")
    with pytest.raises(InputError, match="1 images have duplicates"):
        layouts.read("market1501", market)


def test_same_names_with_another_picture_have_another_digest(market: Path) -> None:
    before = layouts.read("market1501", market)
    assert layouts.read("market1501", market).digest == before.digest
    Image.new("RGB", (8, 16), "red").save(market / GALLERY)
    assert layouts.read("market1501", market).digest != before.digest


def test_pipe_and_folder_named_as_images_are_named_without_waiting(market: Path) -> None:
    pipe = market / "query/0003_c1s1_000777_01.jpg"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match=rf"{pipe.name}: is not a file"):
        layouts.read("market1501", market)
    pipe.unlink()
    pipe.mkdir()
    with pytest.raises(InputError, match=rf"{pipe.name}: is not a file"):
        layouts.read("market1501", market)
