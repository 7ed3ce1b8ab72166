"""Whether re-ranking helps is decided by scores and cameras alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from qaconv.matching import rerank_choice
from qaconv.matching.rerank_choice import CameraEvidence, compare_cameras
from qaconv.matching.rerankers import KReciprocal
from qaconv.matching.results import CHOICE, save_reranked
from qaconv.metrics.metrics_file import Reranking

PEOPLE = 120


def draw_target(images: int, cameras: int = 2, seed: int = 1) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Draw people with a number of images on each camera; return cameras [N] and distances [N, N]."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(PEOPLE), images * cameras)
    camids = np.tile(np.repeat(np.arange(cameras), images), PEOPLE)
    looks = rng.normal(size=(PEOPLE, 24))[person]
    on_camera = rng.normal(size=(cameras, 24))[camids]  # cameras have colours of their own
    vectors = looks + 0.6 * on_camera + 0.5 * rng.normal(size=looks.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return camids, expit(-(vectors @ vectors.T))


def compare(images: int, **options: int) -> CameraEvidence:
    camids, distances = draw_target(images, **options)
    return compare_cameras(camids, lambda rows, columns: distances[rows, columns])


@pytest.mark.parametrize(("images", "expected"), [(1, 1), (2, 2), (3, 3), (5, 3)])
@pytest.mark.parametrize("cameras", [2, 4])
def test_the_number_of_images_on_a_camera_is_told_without_labels(images: int, expected: int, cameras: int) -> None:
    evidence = compare(images, cameras=cameras)
    assert evidence.images_on_camera == expected
    assert evidence.anchors == min(1000, PEOPLE * images * cameras)


def test_one_camera_or_few_sightings_say_nothing() -> None:
    camids, distances = draw_target(2)
    assert compare_cameras(np.zeros_like(camids), lambda rows, columns: distances[rows, columns]) == CameraEvidence()
    assert compare_cameras(camids[:40], lambda rows, columns: distances[rows, columns]) == CameraEvidence()


def test_the_same_sightings_give_the_same_choice() -> None:
    assert compare(2) == compare(2)


def test_anchors_are_matched_with_a_camera_together_and_none_with_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    camids, distances = draw_target(2)
    np.fill_diagonal(distances, 0)
    calls: list[int] = []

    def pairs(rows: NDArray[np.integer], columns: NDArray[np.integer]) -> NDArray[np.float64]:
        calls.append(len(np.unique(rows)))
        chosen: NDArray[np.float64] = distances[rows, columns]
        return chosen

    together = compare_cameras(camids, pairs)
    assert sum(calls) == 2 * together.anchors
    assert len(calls) == 2 * together.anchors // rerank_choice.ANCHORS_AT_ONCE
    monkeypatch.setattr(rerank_choice, "ANCHORS_AT_ONCE", 1)
    assert compare_cameras(camids, pairs) == together == compare(2)


@pytest.mark.parametrize(("images", "k1", "k2"), [(2, 10, 3), (3, 20, 6)])
def test_fewer_images_on_a_camera_halve_the_neighbours(images: int, k1: int, k2: int) -> None:
    camids, distances = draw_target(images)
    chosen, facts = KReciprocal().choose(camids, lambda rows, columns: distances[rows, columns])
    assert chosen is not None and (chosen.k1, chosen.k2) == (k1, k2)
    assert facts["images_on_camera"] == images


def test_one_image_on_a_camera_keeps_the_direct_ranking_unless_told_always_to_rerank() -> None:
    camids, distances = draw_target(1)
    pairs = lambda rows, columns: distances[rows, columns]  # noqa: E731
    assert KReciprocal().choose(camids, pairs)[0] is None
    always = KReciprocal(apply="always")
    assert always.choose(camids, pairs) == (always, {})


def test_a_target_that_says_nothing_is_reranked_as_the_settings_say() -> None:
    chosen, _ = KReciprocal().choose(np.zeros(9, dtype=np.int64), lambda rows, columns: np.zeros(len(rows)))
    assert chosen == KReciprocal()


@pytest.mark.parametrize("reranker", [None, KReciprocal(k1=10)])
def test_the_choice_is_written_next_to_the_scores_and_into_the_metrics(
    tmp_path: Path, reranker: KReciprocal | None
) -> None:
    facts: dict[str, Any] = {"images_on_camera": 2, "excess": 0.5, "anchors": 7}
    save_reranked(tmp_path, np.zeros((1, 2), np.float32), None, "model", reranker, facts)
    choice = json.loads((tmp_path / CHOICE).read_text())
    assert choice == {"reranker": reranker and reranker.model_dump(), **facts}
    described = Reranking.of_choice(choice)
    assert described.applied == (reranker is not None)
    assert described.k1 == (reranker and 10)
    assert described.excess == 0.5
