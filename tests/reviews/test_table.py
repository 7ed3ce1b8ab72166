from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from qaconv.errors import InputError
from qaconv.reviews.table import COLUMNS, drawn_pairs, read_reviews, write_reviews

ANSWERED: dict[str, Any] = {
    "first_sha256": "a" * 64,
    "second_sha256": "b" * 64,
    "answer": "same",
    "reviewer": "ada",
    "answered_s": 1795763730.25,
    "version": "7",
    "score": 1.5,
    "probability": 0.8,
    "marked": True,
    "disputed": False,
    "source": "sample",
    "first": 3,
    "second": 4,
    "draw": 1,
    "stratum": "0.73 to 0.9",
    "stratum_pairs": 40,
    "weight": 20.0,
}
CHOSEN = {"source": "search", "draw": None, "stratum": None, "stratum_pairs": None, "weight": None}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    write_reviews(path, pd.DataFrame([{**ANSWERED, **row} for row in rows], columns=list(COLUMNS)))
    return path


def test_answers_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = write(tmp_path / "reviews" / "mall.csv", {}, CHOSEN)
    drawn, chosen = read_reviews(path).to_dict("records")
    assert drawn == ANSWERED
    assert pd.isna(chosen["draw"]) and pd.isna(chosen["weight"]) and chosen["answer"] == "same"
    assert read_reviews(write(tmp_path / "none.csv")).empty


def test_people_who_disagree_are_one_pair_with_the_share_of_its_answers(tmp_path: Path) -> None:
    others = [{"reviewer": "bob", "answer": "different"}, {"reviewer": "cleo", "answer": "cannot tell"}]
    (pair,) = drawn_pairs(read_reviews(write(tmp_path / "t.csv", {}, *others))).to_dict("records")
    assert (pair["same"], pair["stratum_pairs"]) == (0.5, 40)


def test_only_the_sample_with_the_most_answered_pairs_counts(tmp_path: Path) -> None:
    rows = [{"draw": 1}, {"draw": 1, "first_sha256": "c" * 64}, {"draw": 2}, CHOSEN | {"second_sha256": "d" * 64}]
    assert set(drawn_pairs(read_reviews(write(tmp_path / "t.csv", *rows)))["first_sha256"]) == {"a" * 64, "c" * 64}
    newest = drawn_pairs(read_reviews(write(tmp_path / "t.csv", {}, {"draw": 2, "answer": "different"})))
    assert newest["same"].tolist() == [0.0]


def test_no_answers_are_no_pairs(tmp_path: Path) -> None:
    assert drawn_pairs(read_reviews(write(tmp_path / "t.csv"))).empty
    assert drawn_pairs(read_reviews(write(tmp_path / "t.csv", CHOSEN, {"answer": "cannot tell"}))).empty


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answer": "maybe"}, r"unknown answers \['maybe'\], allowed: same, different, cannot tell"),
        ({"answer": None}, r"unknown answers \[''\], allowed: "),
        ({"first_sha256": "x"}, "must be digests of 64 hexadecimal digits"),
        ({"probability": "high"}, "probability must have numbers alone"),
        ({"stratum_pairs": None}, "stratum_pairs must be at least 1 where draw is given"),
        ({"draw": None}, "stratum_pairs must be at least 1 where draw is given, and empty elsewhere"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_reviews(write(tmp_path / "mall.csv", row))
    assert "mall.csv" in str(error.value)


def test_another_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "mall.csv").write_text("image,pid\na.jpg,1\n")
    with pytest.raises(InputError, match=r"mall.csv: must have the columns first_sha256.*; `qaconv reviews` writes it"):
        read_reviews(tmp_path / "mall.csv")
    (tmp_path / "mall.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="mall.csv: cannot be read"):
        read_reviews(tmp_path / "mall.csv")
