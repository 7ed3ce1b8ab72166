import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from qaconv.config import SiteConfig, TrackerConfig
from qaconv.stages.synthetic import mean_colour_rank1
from qaconv.synthetic.render import FPS, choose_crops, render_site

TINY = SiteConfig(seed=5, cameras=3, people=8, days=2, train_share=0.5, distractors=3, junk=5)
NAME = re.compile(r"(-1|\d{4})_c(\d)s(\d)_(\d{6})_(\d{2})\.jpg")
SITES = [
    TINY,
    SiteConfig(seed=1, cameras=6, people=220, train_share=0.7, distractors=20, junk=20),
    SiteConfig(seed=2, cameras=2, people=90, distractors=60, junk=40),
    SiteConfig(seed=9, cameras=12, people=300, distractors=0, junk=0),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("one") / "tiny"
    render_site(TINY, folder, processes=1)
    return folder


def test_site_with_tracks_has_their_table_next_to_the_crops(tmp_path: Path) -> None:
    tracked = SiteConfig(seed=5, cameras=2, people=2, tracks=TrackerConfig(breaks=0.5))
    render_site(tracked, tmp_path / "plaza", processes=1)
    table = pd.read_csv(tmp_path / "plaza/sightings.csv")
    assert set(table["image"]) == set(contents(tmp_path / "plaza"))
    assert list(table.columns) == ["image", "camid", "time_s", "track"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.jpg")}


def test_two_processes_write_the_bytes_of_one_and_remove_other_files(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "query").mkdir()
    (tmp_path / "query" / "old.jpg").touch()
    render_site(TINY, tmp_path, processes=2)
    assert contents(tmp_path) == contents(tiny)


def test_every_name_is_market_1501s_and_every_crop_a_whole_picture(tiny: Path) -> None:
    assert {path.name for path in tiny.iterdir()} == {"bounding_box_train", "bounding_box_test", "query"}
    paths = list(tiny.rglob("*.jpg"))
    assert len(paths) == len(choose_crops(TINY))
    for path in paths:
        assert NAME.fullmatch(path.name)
        with Image.open(path) as image:
            assert (image.size, image.mode) == ((64, 128), "RGB")
            image.load()


def test_names_have_the_camera_the_day_and_the_frame_on_the_cameras_clock() -> None:
    crops = choose_crops(TINY)
    parts = crops["path"].str.extract(r"c(?P<camera>\d)s(?P<session>\d)_(?P<frame>\d{6})").astype(int)
    assert (parts["camera"] == crops["camera"] + 1).all()
    assert (parts["session"] == crops["day"] + 1).all() and parts["session"].nunique() == 2
    np.testing.assert_allclose(parts["frame"] / FPS, crops["clock_s"], atol=1 / FPS)


@pytest.mark.parametrize("site", SITES, ids=lambda site: f"seed{site.seed}")
def test_people_distractors_and_junk_have_the_configured_numbers(site: SiteConfig) -> None:
    crops = choose_crops(site)
    assert sorted(set(crops["pid"]) - {0, -1}) == list(range(1, site.people + 1))
    assert crops.loc[crops["pid"] == 0, "person"].nunique() == site.distractors
    assert (crops["pid"] == -1).sum() == site.junk
    assert not crops["path"].duplicated().any()
    assert set(crops.loc[crops["pid"] <= 0, "split"]) <= {"gallery"}


@pytest.mark.parametrize("site", SITES, ids=lambda site: f"seed{site.seed}")
def test_nobody_is_in_both_train_and_test(site: SiteConfig) -> None:
    crops = choose_crops(site)
    train = set(crops.loc[crops["split"] == "train", "pid"])
    assert len(train) == round(site.train_share * site.people)
    assert not train & set(crops.loc[crops["split"] != "train", "pid"])


@pytest.mark.parametrize("site", SITES, ids=lambda site: f"seed{site.seed}")
def test_each_camera_of_a_test_person_gives_one_query_with_a_true_match_on_another(site: SiteConfig) -> None:
    crops = choose_crops(site)
    query, gallery = (crops[crops["split"] == name] for name in ("query", "gallery"))
    tested = crops[(crops["pid"] > 0) & (crops["split"] != "train")]
    assert not query.duplicated(["pid", "camera"]).any()
    assert len(query) == len(tested.drop_duplicates(["pid", "camera"]))
    pairs = query.reset_index()[["index", "pid", "camera"]].merge(gallery[["pid", "camera"]], on="pid")
    matched = pairs.loc[pairs["camera_x"] != pairs["camera_y"], "index"]
    assert set(query.index) == set(matched)


def test_mean_colour_gets_less_than_a_quarter_right(tmp_path: Path) -> None:
    render_site(SiteConfig(seed=3, cameras=4, people=25, distractors=10, junk=5), tmp_path / "site", processes=2)
    assert mean_colour_rank1(tmp_path / "site") < 0.25


def test_mean_colour_finds_people_of_one_colour_each_and_passes_over_junk_and_the_querys_camera(tmp_path: Path) -> None:
    crops = pd.DataFrame(
        [
            ("query", "0001_c1", 200),
            ("query", "0002_c1", 50),
            ("bounding_box_test", "0001_c2", 190),
            ("bounding_box_test", "0002_c12", 60),
            ("bounding_box_test", "-1_c2", 200),
            ("bounding_box_test", "0002_c1", 204),
        ],
        columns=["folder", "name", "grey"],
    )
    (tmp_path / "bounding_box_train").mkdir()
    for folder, name, grey in crops.itertuples(index=False):
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.new("RGB", (8, 16), (grey, grey, grey)).save(tmp_path / folder / f"{name}s1_000001_01.jpg")
    assert mean_colour_rank1(tmp_path) == 0.5  # 0002's other crop on c1 is nearest to 0001's query, and stays in
    (tmp_path / "bounding_box_test" / "0002_c1s1_000001_01.jpg").unlink()
    assert mean_colour_rank1(tmp_path) == 1.0
