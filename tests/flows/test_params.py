from pathlib import Path

import pytest

from flows.params import change_params
from qaconv.config import load_params
from qaconv.errors import InputError
from tests.tracked_projects import REPOSITORY


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "params.yaml"
    path.write_bytes((REPOSITORY / "params.yaml").read_bytes())
    return path


def test_only_what_is_named_changes(params: Path) -> None:
    before = load_params()
    change_params({"train.epochs": 9, "seed": 8})
    after = load_params()
    assert (after.train.epochs, after.seed) == (9, 8)
    assert after.model_copy(update={"train": before.train, "seed": before.seed}) == before


def test_comments_and_all_other_lines_stay(params: Path) -> None:
    before = params.read_text().splitlines()
    change_params({"train.epochs": 9, "seed": 8})
    after = params.read_text().splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert [old.partition("#")[2] for old, _ in changed] == [new.partition("#")[2] for _, new in changed]
    assert [new.partition("#")[0].split() for _, new in changed] == [["seed:", "8"], ["epochs:", "9"]]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train.epoch": 9}, "has no key train.epoch"),
        ({"seed.deep": 9}, "has no key seed.deep"),
        ({"train.epochs": -1}, "train.epochs"),
    ],
)
def test_a_key_that_is_not_there_or_an_impossible_value_is_refused_and_nothing_changes(
    params: Path, changes: dict, said: str
) -> None:
    before = params.read_bytes()
    with pytest.raises(InputError, match=said):
        change_params(changes)
    assert params.read_bytes() == before
    assert list(params.parent.iterdir()) == [params]
