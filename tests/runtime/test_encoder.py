"""The encoder's graph takes one camera for each crop, or none."""

from pathlib import Path

import numpy as np
import pytest

from qaconv.runtime.model import ServedModel
from tests.camera_version import CLEAR, DARK, RED, seen_by
from tests.small_service import small_model


def test_crops_of_several_cameras_are_encoded_as_each_alone_however_they_are_divided(camera_version: Path) -> None:
    model = ServedModel(camera_version, threads=1)
    crops = np.concatenate([seen_by(DARK), seen_by(RED)])
    camids = np.arange(len(crops)) % 3
    maps = model.encode_batches(crops, camids)  # the first 32, and the rest
    for camid in (CLEAR, DARK, RED):
        rows = np.flatnonzero(camids == camid)
        np.testing.assert_allclose(maps[rows], model.encode(crops[rows], np.full(len(rows), camid)), atol=1e-5)


@pytest.mark.parametrize("camids", [[], [1], [1, 2], 1])
def test_another_number_of_cameras_than_of_crops_is_refused(
    camids: object, camera_version: Path, tmp_path: Path
) -> None:
    for model in (ServedModel(camera_version, threads=1), small_model(tmp_path)):
        crops = np.zeros((3, *model.crop_size, 3), dtype=np.uint8)
        with pytest.raises(ValueError, match="camids must have one camera for each of 3 crops, got"):
            model.encode(crops, camids)  # type: ignore[arg-type]
