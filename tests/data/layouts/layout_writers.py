"""Write sightings as a folder in a dataset's layout, and return the rows that a reader must give."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy.io import savemat

from qaconv.data.manifest import Manifest

TEST_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
DUKE_START_FRAMES = (5542, 3606, 27243)  # of the first three cameras
RANDPERSON_START_FRAMES = (0, 160_000)  # of the first two scenes, of two cameras each
CLONEDPERSON_SCENES = (2, 4, 5)  # one camera of each, which the dataset's 24 count as 0, 4 and 8
CLONEDPERSON_CAMIDS = (0, 4, 8)


def people(sightings: pd.DataFrame) -> pd.DataFrame:
    """Leave out junk and distractors, which only Market-1501 has."""
    return sightings[sightings["pid"] > 0]


def write_market1501(root: Path, sightings: pd.DataFrame) -> pd.DataFrame:
    """Write the crops under the names that the synthetic camera network gives them."""
    return _write(root, sightings, lambda number, row: row.path)


def write_cuhk03np(root: Path, sightings: pd.DataFrame) -> pd.DataFrame:
    def name(number: int, row: Any) -> str:
        return f"{TEST_FOLDERS[row.split]}/{row.pid:04d}_c{row.camid + 1}_{number}.png"

    return _write(root, people(sightings), name).assign(time_s=np.nan)


def write_dukemtmc(root: Path, sightings: pd.DataFrame) -> pd.DataFrame:
    def name(number: int, row: Any) -> str:
        frame = round(row.time_s * 59.94) - DUKE_START_FRAMES[row.camid]
        return f"{TEST_FOLDERS[row.split]}/{row.pid:04d}_c{row.camid + 1}_f{frame:07d}.jpg"

    after_all_starts = people(sightings).assign(time_s=sightings["time_s"] + 500)
    return _write(root, after_all_starts, name)


def write_randperson(root: Path, sightings: pd.DataFrame) -> pd.DataFrame:
    def name(number: int, row: Any) -> str:
        scene, camera = divmod(row.camid, 2)
        return f"randperson_subset/{row.pid:06d}_s{scene:02d}_c{camera:02d}_f{round(row.time_s * 24):06d}.jpg"

    truth = _write(root, people(sightings).assign(split="train"), name)
    scene_starts = [RANDPERSON_START_FRAMES[camid // 2] / 24 for camid in truth["camid"]]
    return truth.assign(time_s=truth["time_s"] + scene_starts)


def write_clonedperson(root: Path, sightings: pd.DataFrame) -> pd.DataFrame:
    folders = {"train": "train", "query": "test/query", "gallery": "test/gallery"}

    def name(number: int, row: Any) -> str:
        scene = CLONEDPERSON_SCENES[row.camid]
        return f"{folders[row.split]}/{row.pid + 700_000}_s{scene:02d}_c00_f{round(row.time_s * 24):06d}.jpg"

    truth = _write(root, people(sightings), name)
    return truth.assign(pid=truth["pid"] + 700_000, camid=[CLONEDPERSON_CAMIDS[camid] for camid in truth["camid"]])


def write_msmt17(root: Path, sightings: pd.DataFrame, folders: tuple[str, str] = ("train", "test")) -> pd.DataFrame:
    """Number the people from 0 in train and in test, and list half of the training images as the dataset's val."""
    rows = people(sightings)
    is_test = rows["split"] != "train"
    label = rows.groupby(is_test)["pid"].transform(lambda pids: pids.rank(method="dense")).astype(int) - 1
    rows = rows.assign(pid=label)

    def name(number: int, row: Any) -> str:
        folder = folders[row.split != "train"]
        return f"{folder}/{row.pid:04d}/{row.pid:04d}_{number:03d}_{row.camid + 1:02d}_0303morning_0008_0.jpg"

    truth = _write(root, rows, name)
    is_val = (truth["split"] == "train") & (np.arange(len(truth)) % 2 == 1)
    lists = truth["split"].mask(is_val, "val")
    for split in ("train", "val", "query", "gallery"):
        listed = truth[lists == split]
        lines = [f"{image.partition('/')[2]} {pid}\n" for image, pid in listed[["image", "pid"]].to_numpy()]
        (root / f"list_{split}.txt").write_text("".join(lines))
    train_people = truth.loc[truth["split"] == "train", "pid"].nunique()
    return truth.assign(pid=truth["pid"] + train_people * (truth["split"] != "train"), time_s=np.nan)


def write_viper(root: Path, sightings: pd.DataFrame) -> pd.DataFrame:
    def name(number: int, row: Any) -> str:
        return f"cam_{'ab'[row.camid]}/{row.pid:03d}_{45 * row.camid}.bmp"

    return _write(root, _one_on_each_of_two_cameras(sightings), name).assign(time_s=np.nan)


def write_prid2011(root: Path, sightings: pd.DataFrame) -> pd.DataFrame:
    """Give half of the people numbers above 200, which mean different people on the two cameras."""
    rows = _one_on_each_of_two_cameras(sightings)
    rows = rows.assign(pid=rows["pid"].where(rows["pid"] % 2 == 0, rows["pid"] + 200))

    def name(number: int, row: Any) -> str:
        return f"single_shot/cam_{'ab'[row.camid]}/person_{row.pid:04d}.png"

    truth = _write(root, rows, name).assign(time_s=np.nan)
    return truth[(truth["camid"] == 1) | (truth["pid"] <= 200)]


def write_cuhksysu(root: Path, sightings: pd.DataFrame) -> pd.DataFrame:
    """Number the images of a person in the order of their names, as camids must be."""
    rows = people(sightings)
    rows = rows.assign(split="train", camid=rows.groupby("pid").cumcount(), time_s=np.nan)
    return _write(root, rows, lambda number, row: f"cropped_images/p{row.pid}_s{1000 + number}_{row.camid + 1}.jpg")


def write_mars(root: Path, sightings: pd.DataFrame) -> pd.DataFrame:
    """Make a tracklet of a person's images on a camera in a split, with the lists and numbers of the authors' files."""
    rows = sightings.sort_values(["pid", "camid"], kind="stable").assign(time_s=np.nan)
    part = np.where(rows["split"] == "train", "train", "test")
    seen = [part, rows["split"], rows["pid"], rows["camid"]]
    tracklet = rows.groupby([*seen, rows.groupby(seen).cumcount() // 4]).ngroup()  # of at most four images
    rank = tracklet.groupby(tracklet).cumcount()
    rows = rows.assign(part=part, tracklet=tracklet, rank=rank).sort_values(["tracklet", "rank"])

    def name(number: int, row: Any) -> str:
        person = "00-1" if row.pid == -1 else f"{row.pid:04d}"
        return f"bbox_{row.part}/{person}/{person}C{row.camid + 1}T{row.tracklet:04d}F{row.rank + 1:03d}.jpg"

    truth = _write(root, rows, name)
    listed = truth.assign(part=rows["part"], tracklet=rows["tracklet"])
    (root / "info").mkdir()
    for which in ("train", "test"):
        images = listed[listed["part"] == which].reset_index(drop=True)
        names = [f"{Path(image).name}\n" for image in images["image"]]
        (root / f"info/{which}_name.txt").write_text("".join(names))
        groups = [group for _, group in images.groupby("tracklet", sort=False)]
        table = [
            [group.index[0] + 1, group.index[-1] + 1, group["pid"].iloc[0], group["camid"].iloc[0] + 1]
            for group in groups
        ]
        savemat(root / f"info/tracks_{which}_info.mat", {f"track_{which}_info": np.array(table, dtype=np.int32)})
        if which == "test":
            queries = [row + 1 for row, group in enumerate(groups) if group["split"].iloc[0] == "query"]
            savemat(root / "info/query_IDX.mat", {"query_IDX": np.array(queries, dtype=np.uint16)})
    return truth


def write_table(path: Path, sightings: pd.DataFrame) -> pd.DataFrame:
    truth = _write(path.parent, sightings, lambda number, row: f"crops/{number}.jpg")
    (truth.to_csv if path.suffix == ".csv" else truth.to_parquet)(path, index=False)
    return truth


def assert_reads_as(manifest: Manifest, truth: pd.DataFrame, time_step: float) -> None:
    """Check that every image has its person, camera and split, and its time to the nearest step."""
    columns = ["image", "pid", "camid", "split"]
    frame = manifest.frame.sort_values("image", ignore_index=True)
    truth = truth.sort_values("image", ignore_index=True)
    pd.testing.assert_frame_equal(frame[columns], truth[columns], check_dtype=False)
    np.testing.assert_allclose(frame["time_s"], truth["time_s"], rtol=0, atol=time_step / 2 + 1e-9)


def write_noise(path: Path, seed: int) -> None:
    """Write an image that no other seed gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 8, 3), dtype=np.uint8)).save(path)


def _write(root: Path, rows: pd.DataFrame, name: Callable[[int, Any], str]) -> pd.DataFrame:
    truth = rows.assign(image=[name(number, row) for number, row in enumerate(rows.itertuples())])
    for image, picture in zip(truth["image"], truth["picture"], strict=True):
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        picture.save(root / image)
    return truth[["image", "pid", "camid", "time_s", "split"]]


def _one_on_each_of_two_cameras(sightings: pd.DataFrame) -> pd.DataFrame:
    rows = people(sightings)
    rows = rows[rows["camid"] < 2].drop_duplicates(["pid", "camid"])
    return rows.assign(split=rows["camid"].map({0: "query", 1: "gallery"}))
