from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from qaconv.data.manifest import UNLABELLED
from qaconv.errors import InputError
from qaconv.identities.clustering import Identities
from qaconv.identities.graph import Edges
from qaconv.identities.people import summarise
from qaconv.identities.summary import Summary
from qaconv.matching.results import Matches
from qaconv.paths import IDENTITIES
from qaconv.report.content import People
from qaconv.report.gather_people import CROPS, STEPS, gather_people
from qaconv.tlift import TLiftProfile

TABLE = np.empty((0, 0), dtype=np.float32)
MATCHES = Matches(TABLE, TABLE, TABLE, np.empty((0, 0), dtype=np.int64), np.empty((0, 0)), "model", {})
PROFILE = TLiftProfile("shop", (0, 1), active=False, reason="no times")
IDENTITY = np.array([1] * 10 + [2, 2, 3])
PROBABILITY = np.array([*np.linspace(0.9, 0.45, 10), 0.6, 0.4, 0.1])
COUNT = len(IDENTITY)


def sightings() -> pd.DataFrame:
    """Return sightings of two people and a distractor on two cameras in turn, four every ten seconds."""
    return pd.DataFrame(
        {
            "image": [f"{number}.jpg" for number in range(COUNT)],
            "pid": [7] * 10 + [8, 8, 0],
            "camid": np.arange(COUNT) % 2,
            "time_s": 10.0 * (np.arange(COUNT) // 4),
            "track": "",
            "split": ["query", "gallery"] * (COUNT // 2) + ["gallery"],
        }
    )


def gather(frame: pd.DataFrame) -> People:
    return gather_people("shop", frame, MATCHES, PROFILE)


@pytest.fixture(scope="module")
def summary() -> Summary:
    return summarise(
        sightings(),
        Identities(IDENTITY, PROBABILITY, (), pd.DataFrame(), int(IDENTITY.max())),
        Edges.join([], [], []),
        time_used=False,
    )


@pytest.fixture(autouse=True)
def folder(summary: Summary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the identities as the stage identify does, and return their folder."""
    monkeypatch.chdir(tmp_path)
    folder = IDENTITIES / "shop"
    folder.mkdir(parents=True)
    table = sightings()[["image", "camid", "time_s", "track"]].assign(identity=IDENTITY, probability=PROBABILITY)
    table.to_parquet(folder / "identities.parquet")
    summary.save(folder / "summary.json")
    return folder


def test_the_least_certain_identities_of_several_sightings_come_first() -> None:
    first, second = gather(sightings()).uncertain
    assert (first.number, first.sightings) == (2, 2)
    assert first.probability == pytest.approx(0.5)
    assert [crop.image for crop in first.crops] == ["10.jpg", "11.jpg"]
    assert first.probabilities == [0.6, 0.4]
    assert (second.number, second.sightings) == (1, 10)


def test_of_many_sightings_the_most_and_the_least_certain_are_shown() -> None:
    crops = gather(sightings()).uncertain[1].crops
    assert len(crops) == CROPS
    assert [crop.image for crop in crops] == [f"{number}.jpg" for number in (0, 1, 2, 3, 6, 7, 8, 9)]


def test_an_identity_counts_once_in_each_step_in_which_a_camera_saw_it() -> None:
    rows = pd.DataFrame(gather(sightings()).present)
    assert rows.groupby("camid")["identities"].agg(["size", "sum"]).to_numpy().tolist() == [[STEPS, 5], [STEPS, 4]]
    assert (rows["from_s"].min(), rows["to_s"].max()) == (0.0, 30.0)
    assert rows[rows["identities"] > 0].groupby("camid")["to_s"].max().tolist() == [30.0, 20.625]


def test_without_times_no_camera_has_a_chart(folder: Path) -> None:
    path = folder / "identities.parquet"
    pd.read_parquet(path).assign(time_s=np.nan).to_parquet(path)
    assert gather(sightings()).present == []


def test_labels_count_the_known_people_but_no_distractor() -> None:
    people = gather(sightings())
    assert people.truth is not None and people.truth["people"] == 2
    assert people.summary["sightings"] == COUNT
    assert gather(sightings().assign(pid=UNLABELLED)).truth is None


def test_identities_of_other_sightings_are_refused() -> None:
    with pytest.raises(InputError, match="artifacts/identities/shop: holds identities of other images"):
        gather(sightings().iloc[:-1])


def test_missing_identities_are_refused_by_name(folder: Path) -> None:
    (folder / "identities.parquet").unlink()
    with pytest.raises(
        InputError, match=r"identities/shop/identities\.parquet cannot be read: .*`dvc repro` writes it"
    ):
        gather(sightings())
