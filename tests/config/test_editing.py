"""params.yaml is edited as a whole, or left alone with one message that names it."""

import os
from pathlib import Path

import pytest

from qaconv.config.editing import editing_params
from qaconv.errors import InputError

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture
def params(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_bytes(PARAMS.read_bytes())
    return path


def test_invalid_change_is_refused_by_the_name_of_the_file_itself(params: Path) -> None:
    with pytest.raises(InputError) as caught, editing_params(params) as values:
        values["train"]["epochs"] = -1
    assert str(caught.value).startswith(f"{params}: train.epochs")
    assert params.read_bytes() == PARAMS.read_bytes()
    assert list(params.parent.iterdir()) == [params]


@pytest.mark.parametrize("text", ["train: [", "seed: 7\nseed: 8\n"])
def test_text_that_is_not_yaml_is_refused_by_the_name_of_the_file(params: Path, text: str) -> None:
    params.write_text(text)
    with pytest.raises(InputError, match=f"^{params}: .*is not YAML: "), editing_params(params):
        pass


def test_file_that_is_missing_or_cannot_be_replaced_is_named(params: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="other.yaml: No such file"), editing_params(tmp_path / "other.yaml"):
        pass
    with pytest.raises(InputError, match=f"^{params}: cannot be written"), editing_params(params):
        (tmp_path / f".{params.name}.{os.getpid()}.part").mkdir()
