"""People held out measure and calibrate a network, and too few of them are refused."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from qaconv.config import BackboneConfig, ImageConfig
from qaconv.errors import InputError
from qaconv.models.checkpoint import Architecture, Network, build_network
from qaconv.training.holdout import Holdout

SIZE = ImageConfig(height=32, width=16)
CPU: dict[str, Any] = {"device": torch.device("cpu"), "workers": 0}


@pytest.fixture(scope="module")
def network() -> Network:
    backbone = BackboneConfig(name="resnet18", last_layer="layer2", neck_channels=8, weights="none")
    return build_network(Architecture(backbone=backbone, image=SIZE, pooled=True), seed=1)


def make_holdout(folder: Path, labels: Sequence[int], cameras: Sequence[int]) -> Holdout:
    """Draw images of stripes, one pattern for each person, with a little noise."""
    rng = np.random.default_rng(0)
    paths: list[Path] = []
    people = {label: np.repeat(rng.integers(0, 256, (4, 1, 3)), 8, axis=0) for label in sorted(set(labels))}
    for index, label in enumerate(labels):
        pixels = np.clip(people[label].repeat(16, axis=1) + rng.integers(-5, 6, (32, 16, 3)), 0, 255)
        paths.append(folder / f"{index}.png")
        Image.fromarray(pixels.astype(np.uint8)).save(paths[-1])
    return Holdout(paths, np.array(labels), np.array(cameras), SIZE)


def test_people_matched_without_error_have_a_map_of_1_and_a_rising_calibration(
    tmp_path: Path, network: Network
) -> None:
    holdout = make_holdout(tmp_path, [0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 0, 1])
    assert holdout.mean_average_precision(network, **CPU) == 1
    fitted = holdout.calibrate(network, **CPU)
    assert fitted.scale > 0
    assert (fitted.matches, fitted.others) == (6, 24)


def test_an_image_is_not_matched_with_images_of_its_person_on_its_camera(tmp_path: Path, network: Network) -> None:
    fitted = make_holdout(tmp_path, [0, 0, 0, 1], [0, 0, 1, 0]).calibrate(network, **CPU)
    assert (fitted.matches, fitted.others) == (4, 6)


@pytest.mark.parametrize(("labels", "cameras"), [([0, 0], [0, 1]), ([0, 0, 1, 1], [0, 0, 1, 1])])
def test_people_without_a_match_on_another_camera_are_refused(
    tmp_path: Path, labels: list[int], cameras: list[int]
) -> None:
    with pytest.raises(InputError, match="sources.holdout_share must be 0 or hold out at least two people"):
        make_holdout(tmp_path, labels, cameras)


def test_a_fitted_head_states_log_odds_and_ranks_as_before(tmp_path: Path) -> None:
    backbone = BackboneConfig(name="resnet18", last_layer="layer2", neck_channels=8, weights="none")
    network = build_network(Architecture(backbone=backbone, image=SIZE, pooled=True), seed=1)
    holdout = make_holdout(tmp_path, [0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 0, 1])
    before = holdout._scores(network, **CPU)
    fitted = holdout.calibrate(network, **CPU)
    holdout.fit_head(network, **CPU)
    expected = fitted.scale * before + fitted.offset
    np.testing.assert_allclose(holdout._scores(network, **CPU), expected, rtol=1e-3, atol=1e-3)
    assert holdout.calibrate(network, **CPU).scale == pytest.approx(1, rel=0.01)


def test_a_head_that_people_cannot_be_told_apart_by_stays_as_it_was(tmp_path: Path) -> None:
    backbone = BackboneConfig(name="resnet18", last_layer="layer2", neck_channels=8, weights="none")
    network = build_network(Architecture(backbone=backbone, image=SIZE, pooled=True), seed=1)
    holdout = make_holdout(tmp_path, [0, 0, 1, 1], [0, 1, 0, 1])
    swapped = Holdout(holdout.paths, np.array([0, 1, 1, 0]), holdout.cameras, SIZE)
    swapped.fit_head(network, **CPU)
    assert network.head.logit_norm.weight.item() == 1
