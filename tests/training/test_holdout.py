import numpy as np
import pytest
import torch
from PIL import Image

from qaconv.config import BackboneConfig, ImageConfig
from qaconv.errors import InputError
from qaconv.models.checkpoint import Architecture, build_network
from qaconv.training.holdout import Holdout

SIZE = ImageConfig(height=32, width=16)
CPU = {"device": torch.device("cpu"), "workers": 0}


@pytest.fixture(scope="module")
def network():
    backbone = BackboneConfig(name="resnet18", last_layer="layer2", neck_channels=8, weights="none")
    return build_network(Architecture(backbone=backbone, image=SIZE, pooled=True), seed=1)


def held(folder, labels, cameras):
    """One picture of stripes a person, with a little noise."""
    rng, paths = np.random.default_rng(0), []
    people = {label: np.repeat(rng.integers(0, 256, (4, 1, 3)), 8, axis=0) for label in sorted(set(labels))}
    for index, label in enumerate(labels):
        pixels = np.clip(people[label].repeat(16, axis=1) + rng.integers(-5, 6, (32, 16, 3)), 0, 255)
        paths.append(folder / f"{index}.png")
        Image.fromarray(pixels.astype(np.uint8)).save(paths[-1])
    return Holdout(paths, np.array(labels), np.array(cameras), SIZE)


def test_people_told_apart_without_error_have_a_map_of_1_and_a_calibration_that_rises(tmp_path, network):
    holdout = held(tmp_path, [0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 0, 1])
    assert holdout.mean_average_precision(network, **CPU) == 1
    fitted = holdout.calibrate(network, **CPU)
    assert fitted.scale > 0
    assert (fitted.matches, fitted.others) == (6, 24)


def test_an_image_is_no_match_of_itself_nor_of_others_of_its_camera(tmp_path, network):
    fitted = held(tmp_path, [0, 0, 0, 1], [0, 0, 1, 0]).calibrate(network, **CPU)
    assert (fitted.matches, fitted.others) == (4, 6)


@pytest.mark.parametrize(("labels", "cameras"), [([0, 0], [0, 1]), ([0, 0, 1, 1], [0, 0, 1, 1])])
def test_people_of_whom_nobody_can_be_found_again_are_refused(tmp_path, labels, cameras):
    with pytest.raises(InputError, match="train.holdout_share holds . people back, . of them on a second camera"):
        held(tmp_path, labels, cameras)
