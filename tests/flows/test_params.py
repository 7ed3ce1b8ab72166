from pathlib import Path
from typing import Any

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


def test_only_the_named_values_change(params: Path) -> None:
    before = load_params()
    change_params({"methods.qaconv.train.epochs": 9, "seed": 8})
    after = load_params()
    assert (after.method("qaconv").model_dump()["train"]["epochs"], after.seed) == (9, 8)
    assert after.model_copy(update={"methods": before.methods, "seed": before.seed}) == before


def test_comments_and_all_other_lines_stay(params: Path) -> None:
    before = params.read_text().splitlines()
    change_params({"methods.qaconv.train.epochs": 9, "seed": 8})
    after = params.read_text().splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert [old.partition("#")[2] for old, _ in changed] == [new.partition("#")[2] for _, new in changed]
    assert [new.partition("#")[0].split() for _, new in changed] == [["seed:", "8"], ["epochs:", "9"]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods.qaconv.train.epoch": 9}, "unknown key methods.qaconv.train.epoch$"),
        ({"seed.deep": 9}, "unknown key seed.deep$"),
        ({"methods.qaconv.train.epochs": -1}, "methods.qaconv.train.epochs"),
    ],
)
def test_an_unknown_key_or_an_invalid_value_is_refused_and_nothing_changes(
    params: Path, changes: dict[str, Any], message: str
) -> None:
    before = params.read_bytes()
    with pytest.raises(InputError, match=message):
        change_params(changes)
    assert params.read_bytes() == before
    assert list(params.parent.iterdir()) == [params]
