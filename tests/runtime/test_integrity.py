"""A version whose files were damaged is refused when it is loaded, with the file's name."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from qaconv.errors import InputError
from qaconv.runtime.contract import ENCODER, MATCHER, Contract
from qaconv.runtime.integrity import DIGESTS, write_digests
from qaconv.runtime.model import ServedModel
from tests.small_service import small_model
from tests.tracked_projects import write


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def zero_weights(folder: Path) -> None:
    """Give the encoder another weight under the digest of the contract."""
    graph = onnx.load(folder / ENCODER)
    graph.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "weight"))
    onnx.save(graph, folder / ENCODER)


def change_profile(folder: Path) -> None:
    """Leave a camera out, so that the file is still a profile."""
    path = folder / "tlift/mall.json"
    profile = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**profile, "camids": [0, 1]}), encoding="utf-8")


def change_crop_size(folder: Path) -> None:
    contract = Contract.load(folder)
    size = contract.crop_resize.model_copy(update={"height": 8})
    contract.model_copy(update={"crop_resize": size}).save(folder)


def change_head(folder: Path) -> None:
    contract = Contract.load(folder)
    contract.model_copy(update={"head": contract.head.model_copy(update={"bias": 1e39})}).save(folder)


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "zeroed weights": (zero_weights, r"encoder\.onnx: must have the sha256"),
    "a cut encoder": (lambda folder: cut(folder / ENCODER), r"encoder\.onnx: must have the sha256"),
    "a cut matcher": (lambda folder: cut(folder / MATCHER), r"matcher\.onnx: must have the sha256"),
    "no matcher": (lambda folder: (folder / MATCHER).unlink(), r"matcher\.onnx: file not found"),
    "a cut profile": (lambda folder: cut(folder / "tlift/mall.json"), r"mall\.json: must have the sha256"),
    "another profile": (change_profile, r"mall\.json: must have the sha256"),
    "no profile": (lambda folder: (folder / "tlift/mall.json").unlink(), r"mall\.json: file not found"),
    "cut digests": (lambda folder: cut(folder / DIGESTS), r"digests\.json: must hold the sha256 of files by name"),
    "digests of another kind": (lambda folder: write(folder / DIGESTS, "[1]"), r"digests\.json: must hold the sha256"),
    "another crop size": (change_crop_size, r"contract\.json: must have the sha256"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_version_is_refused_by_the_name_of_its_file(tmp_path: Path, damage: str) -> None:
    small_model(tmp_path)
    write_digests(tmp_path)
    ServedModel(tmp_path)
    change, message = DAMAGES[damage]
    change(tmp_path)
    with pytest.raises(InputError, match=message):
        ServedModel(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_crop_size, "cannot encode and match a crop of the contract's size"),
        (change_head, "must be a finite number"),
    ],
)
def test_a_version_that_does_not_run_is_refused_though_its_digests_are_right(
    tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    small_model(tmp_path)
    change(tmp_path)
    write_digests(tmp_path)
    with pytest.raises(InputError, match=message):
        ServedModel(tmp_path)
