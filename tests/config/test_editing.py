"""params.yaml is edited as a whole, or left alone with one message that names it."""

import os
from pathlib import Path

import pytest

from qaconv.config.editing import editing_params
from qaconv.errors import InputError

PARAMS = Path(__file__).parents[2] / "params.yaml"


def test_invalid_change_is_refused_by_the_name_of_the_file_itself(params_file: Path) -> None:
    with pytest.raises(InputError) as caught, editing_params(params_file) as values:
        values["methods"]["qaconv"]["train"]["epochs"] = -1
    assert str(caught.value).startswith(f"{params_file}: methods.qaconv.train.epochs")
    assert params_file.read_bytes() == PARAMS.read_bytes()
    assert list(params_file.parent.iterdir()) == [params_file]


@pytest.mark.parametrize("text", ["train: [", "seed: 7\nseed: 8\n"])
def test_text_that_is_not_yaml_is_refused_by_the_name_of_the_file(params_file: Path, text: str) -> None:
    params_file.write_text(text)
    with pytest.raises(InputError, match=f"^{params_file}: line [12]: "), editing_params(params_file):
        pass


def test_file_that_is_missing_or_cannot_be_replaced_is_named(params_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="other.yaml: No such file"), editing_params(tmp_path / "other.yaml"):
        pass
    with pytest.raises(InputError, match=f"^{params_file}: cannot be written"), editing_params(params_file):
        (tmp_path / f".{params_file.name}.{os.getpid()}.part").mkdir()
