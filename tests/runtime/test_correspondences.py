"""The contributions of locations point at the locations that they name; tests/models/test_head.py has their sum."""

import numpy as np
from numpy.typing import NDArray

from qaconv.runtime.correspondences import best_partners, correspondences
from qaconv.runtime.head import Head

CHANNELS, HEIGHT, WIDTH = 5, 3, 2
LOCATIONS = HEIGHT * WIDTH


def make_map(seed: int) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).normal(size=(CHANNELS, HEIGHT, WIDTH)).astype(np.float32)
    unit: NDArray[np.float32] = values / np.linalg.norm(values, axis=0)
    return unit


def make_head() -> Head:
    """Return a head that tells query from gallery, with weights of both signs."""
    query, gallery = np.random.default_rng(0).normal(size=(2, LOCATIONS)).astype(np.float32)
    return Head(query, gallery, bias=-0.7, average=0.3)


def test_each_correspondence_points_at_the_locations_whose_cosine_it_names() -> None:
    query, gallery = make_map(1), make_map(2)
    partners = best_partners(query, gallery, make_head())
    for location in range(LOCATIONS):
        row, column = divmod(location, WIDTH)
        cosines = [float(query[:, row, column] @ other) for other in gallery.reshape(CHANNELS, -1).T]
        assert partners.query_indices[location] == np.argmax(cosines)
        np.testing.assert_allclose(partners.query_cosines[location], max(cosines), rtol=1e-6)
        cosines = [float(gallery[:, row, column] @ other) for other in query.reshape(CHANNELS, -1).T]
        assert partners.gallery_indices[location] == np.argmax(cosines)
        np.testing.assert_allclose(partners.gallery_cosines[location], max(cosines), rtol=1e-6)


def test_location_without_weight_has_no_share() -> None:
    head = make_head()
    head.gallery[1] = 0
    head.query[2] = 0
    partners = best_partners(make_map(1), make_map(2), head)
    assert np.flatnonzero(partners.gallery_shares == 0).tolist() == [1]
    assert np.flatnonzero(partners.query_shares == 0).tolist() == [2]


def test_the_strongest_shares_of_both_directions_come_first() -> None:
    query, gallery, head = make_map(1), make_map(2), make_head()
    partners = best_partners(query, gallery, head)
    shares = [pair.share for pair in correspondences(query, gallery, head, limit=5)]
    both = np.concatenate([partners.query_shares, partners.gallery_shares])
    assert shares == sorted(both.tolist(), key=abs, reverse=True)[:5]
