"""A folder for each person: the draw is stable, shares nobody, and every query has something to find."""

from pathlib import Path

import pytest

from qaconv.data import layouts
from qaconv.data.layouts.folders import read
from qaconv.data.manifest import Manifest
from qaconv.errors import InputError
from tests.data.layouts.layout_writers import write_noise

PEOPLE = [f"{name}_{number}" for name in ("ada", "ben", "cho") for number in range(10)]


def write(root: Path, people: list[str], names: list[str]) -> Path:
    """Make empty files; the layout itself reads no image."""
    for person in people:
        for name in names:
            (root / person / name).parent.mkdir(parents=True, exist_ok=True)
            (root / person / name).touch()
    return root


def places(manifest: Manifest) -> dict[str, str]:
    """Return train or test of each person's folder."""
    frame = manifest.frame
    is_training = frame["split"] == "train"
    first = is_training.groupby(frame["image"].str.split("/").str[0]).first()
    return {str(person): "train" if trained else "test" for person, trained in first.items()}


def test_people_are_in_training_or_in_test_and_every_query_has_a_match_on_another_camera(tmp_path: Path) -> None:
    write(tmp_path, PEOPLE, ["0001_c1_1.jpg", "0001_c1_2.jpg", "0001_c2_1.jpg", "0001_c3_1.jpg", "0001_c3_2.jpg"])
    manifest = read(tmp_path, "shop", seed=3, train_share=0.6)
    frame = manifest.frame
    assert manifest.split("train")["pid"].nunique() == 18
    assert not set(manifest.split("train")["pid"]) & set(manifest.sightings()["pid"])
    queries, gallery = manifest.split("query"), manifest.split("gallery")
    assert queries.groupby("pid")["camid"].apply(sorted).tolist() == [[1, 3]] * 12  # camera 2 has one image
    for query in queries.itertuples():
        assert (gallery["camid"][gallery["pid"] == query.pid] != query.camid).any()
    assert set(frame["camid"]) == {1, 2, 3} and frame["time_s"].isna().all()
    assert frame.groupby("pid")["image"].apply(lambda images: images.str.split("/").str[0].nunique()).eq(1).all()
    assert manifest.notes["split"] == "drawn with seed 3: 18 of 30 people in train, the others in test"
    assert manifest.notes["cameras"].startswith("3 by the pattern ")


def test_person_with_one_image_on_each_camera_is_searched_once(tmp_path: Path) -> None:
    write(tmp_path, PEOPLE, ["c1_1.jpg", "c2_1.jpg"])
    write(tmp_path, ["one_camera"], ["c1_1.jpg", "c1_2.jpg"])
    manifest = read(tmp_path, "shop", train_share=0)
    assert manifest.split("query").groupby("pid").size().tolist() == [1] * 30
    alone = manifest.frame["image"].str.startswith("one_camera/")
    assert set(manifest.frame["split"][alone]) == {"gallery"}


def test_another_seed_draws_other_people_and_a_new_person_changes_nobody_elses_place(tmp_path: Path) -> None:
    write(tmp_path, PEOPLE, ["1.jpg", "2.jpg"])
    first = places(read(tmp_path, "shop"))
    assert places(read(tmp_path, "shop")) == first
    assert places(read(tmp_path, "shop", seed=1)) != first
    write(tmp_path, ["dan"], ["1.jpg", "2.jpg"])
    later = places(read(tmp_path, "shop"))
    assert sum(later[person] != place for person, place in first.items()) <= 1  # the share makes room for one more


def test_without_cameras_in_names_all_are_of_one_camera_and_one_image_of_each_person_is_a_query(tmp_path: Path) -> None:
    write(tmp_path, PEOPLE, ["clip1.jpg", "abc2.jpg", "face.jpg"])  # a c within a word is no camera
    write(tmp_path, ["once"], ["1.jpg"])
    manifest = read(tmp_path, "shop", train_share=0)
    assert set(manifest.frame["camid"]) == {0}
    assert manifest.split("query").groupby("pid").size().tolist() == [1] * 30
    once = manifest.frame[manifest.frame["image"] == "once/1.jpg"]
    assert once["split"].tolist() == ["gallery"]
    assert manifest.notes["cameras"] == "none in the names: all images count as of one camera"


@pytest.mark.parametrize(
    ("names", "camids"),
    [
        (["c1s1_000451_03.jpg", "c6s2_1.jpg"], {1, 6}),
        (["cam_2_7.png", "cam-12-7.png"], {2, 12}),
        (["camera04/7.png", "camera05/7.png"], {4, 5}),
        (["000451.c3.jpg", "000451-C3.jpg".lower()], {3}),
    ],
)
def test_cameras_are_found_in_usual_names(names: list[str], camids: set[int], tmp_path: Path) -> None:
    manifest = read(write(tmp_path, ["ada", "ben"], names), "shop")
    assert set(manifest.frame["camid"]) == camids and manifest.cameras == {}


def test_pattern_of_cameras_may_be_set_and_names_are_kept(tmp_path: Path) -> None:
    write(tmp_path, ["ada", "ben"], ["hall-1.jpg", "entrance-1.jpg"])
    manifest = read(tmp_path, "shop", camera=r"^([a-z]+)-")
    assert manifest.cameras == {0: "entrance", 1: "hall"}
    camids = manifest.frame["image"].str.contains("hall").astype(int)
    assert (manifest.frame["camid"] == camids).all()


@pytest.mark.parametrize(
    ("files", "options", "fault"),
    [
        (
            ["ada/1.jpg", "ben/1.jpg", "list.txt"],
            {},
            "a folder for each person and nothing else, got files:\n  list.txt",
        ),
        (["ada/1.jpg"], {}, "at least two people, got 1"),
        (["ada/1.jpg", "ben/.DS_Store"], {}, "1 people have no images:\n  ben"),
        (["ada/c1_1.jpg", "ben/1.jpg"], {}, "1 images have no camera in their names, others do:\n  ben/1.jpg"),
        (["ada/1.jpg", "ben/1.jpg"], {"camera": "c("}, "option camera must be a regular expression"),
        (["ada/1.jpg", "ben/1.jpg"], {"camera": "c1"}, "option camera must have one group, got 0"),
        (["ada/1.jpg", "ben/1.jpg"], {"camera": "c(1)"}, "no image has a camera by the option camera"),
        (["ada/1.jpg", "ben/1.jpg"], {"train_share": 1.5}, r"option train_share must be in \[0, 1\], got 1.5"),
    ],
)
def test_folder_that_is_not_clear_is_refused(
    files: list[str], options: dict[str, float | str], fault: str, tmp_path: Path
) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    with pytest.raises(InputError, match=fault):
        layouts.read("folders", tmp_path, domain="shop", **options)


def test_images_are_decoded_and_a_missing_folder_is_refused(tmp_path: Path) -> None:
    for number, person in enumerate(("ada", "ben", "cho", "dan")):
        for image in range(2):
            write_noise(tmp_path / f"{person}/{image}.png", 2 * number + image)
    assert len(layouts.read("folders", tmp_path, seed=1).images_digest) == 64
    with pytest.raises(InputError, match="nowhere: must be an existing folder"):
        layouts.read("folders", tmp_path / "nowhere")
