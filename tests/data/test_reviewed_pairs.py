from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qaconv.data import reviewed_pairs
from qaconv.data.fingerprints import save_fingerprints
from qaconv.data.manifest import Manifest
from qaconv.data.reviewed_pairs import load_reviewed_pairs
from qaconv.errors import InputError
from qaconv.paths import PREPARED, REVIEWS
from qaconv.reviews.table import COLUMNS, write_reviews

COUNT = 8
SIGHTINGS = pd.DataFrame({"camid": [0, 1] * (COUNT // 2), "time_s": np.nan})


def digest(number: int) -> str:
    return f"{number:064x}"


def review(first: int, second: int, answer: str, **changes: Any) -> dict[str, Any]:
    """Return an answer about a pair of the only stratum, of 30 pairs."""
    values = {"first_sha256": digest(first), "second_sha256": digest(second), "answer": answer, "draw": 1}
    sample = {"stratum": "0.5 to 0.9", "stratum_pairs": 30, "weight": 10.0, "probability": 0.7, "marked": True}
    return {**dict.fromkeys(COLUMNS, 0), **values, **sample, "reviewer": "ada", "source": "sample", **changes}


def write(name: str, *rows: dict[str, Any]) -> None:
    write_reviews(REVIEWS / f"{name}.csv", pd.DataFrame(rows, columns=list(COLUMNS)))


@pytest.fixture(autouse=True)
def yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepare a target of eight images without labels, in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reviewed_pairs, "FEWEST", 3)
    images = [f"{number}.jpg" for number in range(COUNT)]
    columns: dict[str, Any] = {
        "image": images,
        "pid": -2,
        "split": ["query"] * 2 + ["gallery"] * (COUNT - 2),
        "domain": "yard",
    }
    Manifest(SIGHTINGS.assign(**columns), Path("images")).save(PREPARED / "yard")
    digests = [digest(number) for number in range(COUNT)]
    save_fingerprints(pd.DataFrame({"image": images, "sha256": digests, "look": 0}), "yard")


def test_answered_pairs_are_positions_among_the_sightings_with_the_share_who_saw_one_person() -> None:
    write("yard", review(0, 1, "same"), review(2, 3, "different"), review(6, 5, "same"))
    pairs = load_reviewed_pairs("yard", ["yard"])
    assert pairs is not None
    assert pairs[["first", "second", "same"]].to_numpy().tolist() == [[0, 1, 1], [2, 3, 0], [6, 5, 1]]
    assert (pairs["stated"] == 0.7).all()


def test_without_a_file_or_with_few_answers_nothing_is_estimated(caplog: pytest.LogCaptureFixture) -> None:
    assert load_reviewed_pairs("yard", ["yard"]) is None
    write("yard", review(0, 1, "same"), review(2, 3, "same"), review(4, 5, "cannot tell"))
    assert load_reviewed_pairs("yard", ["yard"]) is None
    assert "yard.csv: 2 answered pairs; estimates need at least 3" in caplog.text


def test_pairs_of_images_that_left_the_dataset_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    rows = [review(number, number + 1, "same") for number in range(4)]
    write("yard", *rows, review(0, 99, "same"))
    pairs = load_reviewed_pairs("yard", ["yard"])
    assert pairs is not None and len(pairs) == 4
    assert "1 of 5 pairs have images that yard lacks" in caplog.text


def test_a_file_of_another_dataset_or_of_no_target_is_refused() -> None:
    write("yard", review(97, 98, "same"))
    with pytest.raises(InputError, match="must be about images of data/prepared/yard, got none of them"):
        load_reviewed_pairs("yard", ["yard"])
    write("yrad", review(0, 1, "same"))
    with pytest.raises(InputError, match=r"data/reviews/yrad.csv: unknown target 'yrad', allowed: mall, yard"):
        load_reviewed_pairs("yard", ["mall", "yard"])
