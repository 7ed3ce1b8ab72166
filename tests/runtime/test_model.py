from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from qaconv.errors import InputError
from qaconv.runtime.contract import Contract
from qaconv.runtime.model import BATCH, ServedModel
from tests.small_service import small_model


def test_a_head_of_another_size_than_the_encoders_maps_is_refused(tmp_path: Path) -> None:
    small_model(tmp_path)
    contract = Contract.load(tmp_path)
    head = contract.head.model_copy(update={"gallery": [0.5, 0.5, 0.5]})
    contract.model_copy(update={"head": head}).save(tmp_path)
    message = "contract.json: head.query and head.gallery must have 2 weights, .* encoder.onnx's maps, got 2 and 3"
    with pytest.raises(InputError, match=message):
        ServedModel(tmp_path, threads=1)


def test_crops_are_encoded_as_one_by_one_and_no_more_than_a_batch_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(tmp_path)
    crops = np.random.default_rng(0).integers(0, 256, (2 * BATCH + 3, 4, 2, 3), dtype=np.uint8)
    taken = 0

    def take() -> Iterator[NDArray[np.uint8]]:
        nonlocal taken
        for crop in crops:
            taken += 1
            yield crop

    encode = model.encode
    ahead = []

    def encode_and_note(batch: NDArray[np.uint8], camids: ArrayLike | None) -> NDArray[np.float32]:
        ahead.append(taken)
        return encode(batch, camids)

    monkeypatch.setattr(model, "encode", encode_and_note)
    maps = model.encode_batches(take())
    assert ahead == [BATCH, 2 * BATCH, 2 * BATCH + 3]
    np.testing.assert_array_equal(maps, np.concatenate([encode(crop[None]) for crop in crops]))
    assert model.encode_batches([]).shape == (0, *model.map_shape)
