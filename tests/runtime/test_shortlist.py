"""Estimates from landmarks."""

import numpy as np
import pytest
from numpy.typing import NDArray

from qaconv.runtime.head import Head
from qaconv.runtime.matcher import cpu_matcher
from qaconv.runtime.quantise import Codes, quantise
from qaconv.runtime.shortlist import Landmarks
from qaconv.runtime.vectors import inner_products

MATCHER = cpu_matcher(Head(np.full(6, 1.5, np.float32), np.full(6, 0.5, np.float32), -2.0, map_shape=(8, 3, 2)))


def draw(count: int, seed: int) -> Codes:
    """Draw maps that are mixtures of four."""
    rng = np.random.default_rng(seed)
    basis = np.random.default_rng(0).standard_normal((4, 6, 8))
    maps = np.einsum("nk,ksc->nsc", rng.standard_normal((count, 4)), basis)
    unit: NDArray[np.float32] = (maps / np.linalg.norm(maps, axis=2, keepdims=True)).astype(np.float32)
    return quantise(unit)


def estimates(landmarks: Landmarks, queries: Codes, images: Codes) -> NDArray[np.float32]:
    vectors = landmarks.weigh(images)
    described = landmarks.describe(MATCHER.prepare(queries))
    return np.stack([inner_products(query, vectors) for query in described]) + np.float32(landmarks.mean)


def test_estimates_rise_with_the_logits_of_queries_and_images_that_are_no_landmarks() -> None:
    queries, images = draw(20, 1), draw(200, 2)
    estimated = estimates(Landmarks(MATCHER, draw(100, 3)), queries, images)
    logits = MATCHER.table(MATCHER.prepare(queries), images)
    assert np.corrcoef(estimated.ravel(), logits.ravel())[0, 1] > 0.95
    np.testing.assert_allclose(estimated.mean(), logits.mean(), atol=0.3)


def test_without_some_landmarks_old_weights_and_new_ones_give_nearly_the_same_estimates() -> None:
    queries, images = draw(20, 1), draw(50, 2)
    landmarks = Landmarks(MATCHER, draw(100, 3))
    before = estimates(landmarks, queries, images)
    old = landmarks.weigh(images)
    fewer = landmarks.without(np.arange(10, 20))
    assert fewer is not None and len(fewer) == 90 and fewer.mean == landmarks.mean
    described = fewer.describe(MATCHER.prepare(queries))
    assert not described[:, 10:20].any() and not fewer.weigh(images).codes[:, 10:20].any()
    with_old = np.stack([inner_products(query, old) for query in described]) + np.float32(fewer.mean)
    for now in (with_old, estimates(fewer, queries, images)):
        assert np.corrcoef(now.ravel(), before.ravel())[0, 1] > 0.95
    assert landmarks.without(np.arange(100)) is None


def test_one_landmark_is_enough() -> None:
    assert np.isfinite(estimates(Landmarks(MATCHER, draw(1, 3)), draw(2, 1), draw(2, 2))).all()


@pytest.mark.parametrize("count", [2, 40])
def test_equal_landmarks_are_allowed(count: int) -> None:
    equal = draw(1, 3).take(np.zeros(count, dtype=np.int64))
    assert np.isfinite(estimates(Landmarks(MATCHER, equal), draw(2, 1), draw(2, 2))).all()
