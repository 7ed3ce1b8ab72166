"""sources refuses what cannot be measured or would flatter, before hours of training."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from qaconv.config import DatasetConfig, Params, SourcesConfig, load_params
from qaconv.data.manifest import JUNK, Manifest
from qaconv.errors import InputError
from qaconv.paths import FINGERPRINTS, PREPARED, SOURCES
from qaconv.stages.prepare import prepare
from qaconv.stages.sources import sources
from tests.data.layouts.layout_writers import write_noise
from tests.imports import PROJECT

ROLES = ("train", "train", "query", "gallery", "gallery")


def write_shop(folder: Path, first: int, splits: tuple[str, ...] = ROLES) -> DatasetConfig:
    """Write a table of noise images that are drawn by their number."""
    for number in range(len(splits)):
        write_noise(folder / f"{number}.png", first + number)
    rows = pd.DataFrame({"split": splits, "time_s": 0.0})
    is_train = rows["split"] == "train"
    rows = rows.assign(image=[f"{row}.png" for row in rows.index], pid=rows.index.where(is_train, 99), camid=rows.index)
    rows.to_csv(folder / "shop.csv", index=False)
    return DatasetConfig(layout="table", path=folder / "shop.csv")


def prepared(datasets: dict[str, DatasetConfig], train: list[str], targets: list[str]) -> Params:
    params = Params.model_construct(
        seed=1,
        datasets=datasets,
        targets=targets,
        sources=SourcesConfig.model_construct(datasets=train, holdout_share=0.0),
    )
    for name in datasets:
        prepare(params, name)
    return params


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_dataset_may_be_trained_on_and_measured_on_its_other_images() -> None:
    sources(prepared({"shop": write_shop(Path("shop"), 0)}, ["shop"], ["shop"]))
    assert len(pd.read_parquet(SOURCES / "train.parquet")) == 2


@pytest.mark.parametrize("tested", ["query", "gallery", "junk"])
def test_training_on_a_targets_images_under_another_name_is_refused_with_examples(tested: str) -> None:
    shop = write_shop(Path("shop"), 0)
    source = write_shop(Path("copy"), 100, ("train",) * 4)
    image = {"query": "2.png", "gallery": "3.png", "junk": "3.png"}[tested]
    if tested == "junk":
        rows = pd.read_csv(shop.path)
        rows.assign(pid=[*rows["pid"][:3], -1, 99]).to_csv(shop.path, index=False)
    shutil.copy(f"shop/{image}", "copy/1.png")
    params = prepared({"shop": shop, "copy": source}, ["copy"], ["shop"])
    with pytest.raises(InputError) as refusal:
        sources(params)
    assert str(refusal.value) == (
        "params.yaml: target 'shop' must share no image with sources.datasets, got 1 query and gallery images that are "
        f"also trained on in copy:\n  copy/1.png = shop/{image}"
    )
    assert not SOURCES.exists()


def test_many_shared_images_are_counted_and_two_are_shown() -> None:
    shop = write_shop(Path("shop"), 0, ("query", "gallery", "gallery"))
    everything = write_shop(Path("all"), 0, ("train",) * 3)
    with pytest.raises(InputError, match=r"got 3 query .* in all:\n  all/0.*\n  all/1.*\n  \.\.\. 3 in all, listed in"):
        sources(prepared({"shop": shop, "all": everything}, ["all"], ["shop"]))


def test_trained_images_that_are_stored_again_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    shop = write_shop(Path("shop"), 0)
    source = write_shop(Path("copy"), 100)
    with Image.open("shop/2.png") as picture:
        picture.resize((picture.width * 2, picture.height * 2)).save("copy/1.png")
    sources(prepared({"shop": shop, "copy": source}, ["copy"], ["shop"]))
    assert "shop: 1 query and gallery images look the same as one that is trained on" in caplog.text
    assert "copy/1.png = shop/2.png" in caplog.text


def test_fingerprints_of_other_images_are_refused() -> None:
    params = prepared({"shop": write_shop(Path("shop"), 0)}, ["shop"], ["shop"])
    manifest = Manifest.load(PREPARED / "shop")
    Manifest(manifest.frame[1:], manifest.root).save(PREPARED / "shop")
    with pytest.raises(InputError, match=r"shop\.parquet: holds other images than data/prepared/shop"):
        sources(params)
    (FINGERPRINTS / "shop.parquet").unlink()
    with pytest.raises(InputError, match="shop.parquet: file not found"):
        sources(params)


def save(name: str, **people: list[int]) -> None:
    """Save a manifest with an image of each person in each split."""
    rows = [(split, pid) for split, pids in people.items() for pid in pids]
    frame = pd.DataFrame(rows, columns=["split", "pid"])
    images = [f"{split}{pid}.png" for split, pid in rows]
    frame = frame.assign(image=images, camid=0, time_s=float("nan"), domain=name)
    Manifest(frame, Path(name)).save(PREPARED / name)


@pytest.mark.parametrize(
    ("people", "counts"), [({"train": [1]}, "0 and 0"), ({"query": [1], "gallery": [JUNK]}, "1 and 0")]
)
def test_target_without_query_or_gallery_is_refused_by_name(people: dict[str, list[int]], counts: str) -> None:
    params = load_params(PROJECT / "params.yaml").model_copy(update={"targets": ["mall"]})
    save("campus", train=[1, 2, 3])
    save("mall", **people)
    with pytest.raises(InputError, match=f"targets: 'mall' must have query and gallery images, got {counts}"):
        sources(params)
    assert not SOURCES.exists()


def test_training_dataset_without_training_images_is_refused_by_name() -> None:
    params = load_params(PROJECT / "params.yaml").model_copy(update={"targets": ["mall"]})
    save("campus", train=[JUNK], query=[1], gallery=[1])
    save("mall", query=[1], gallery=[1])
    with pytest.raises(InputError, match="sources.datasets names 'campus', which has no images in its train split"):
        sources(params)
