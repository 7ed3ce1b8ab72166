"""What training and evaluation need of the datasets is checked before the first training."""

from pathlib import Path

import pandas as pd
import pytest

from qaconv.config import Params, load_params
from qaconv.data.manifest import JUNK, Manifest
from qaconv.errors import InputError
from qaconv.paths import PREPARED, SOURCES
from qaconv.stages.sources import sources
from tests.imports import PROJECT


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.chdir(tmp_path)
    return load_params(PROJECT / "params.yaml").model_copy(update={"targets": ["mall"]})


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
def test_target_without_query_or_gallery_is_refused_by_name(
    params: Params, people: dict[str, list[int]], counts: str
) -> None:
    save("campus", train=[1, 2, 3])
    save("mall", **people)
    with pytest.raises(InputError, match=f"targets: 'mall' must have query and gallery images, got {counts}"):
        sources(params)
    assert not SOURCES.exists()


def test_training_dataset_without_training_images_is_refused_by_name(params: Params) -> None:
    save("campus", train=[JUNK], query=[1], gallery=[1])
    save("mall", query=[1], gallery=[1])
    with pytest.raises(InputError, match="train.datasets names 'campus', which has no images in its train split"):
        sources(params)
