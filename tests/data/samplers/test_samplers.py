"""Samplers draw the right people as often as they state, and a seed repeats their batches."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from qaconv.config.kinds import SamplerSettings
from qaconv.data.samplers import TrainingImages
from qaconv.data.samplers.across_cameras import AcrossCamerasSampler, across_camera_batches
from qaconv.data.samplers.domain_balanced import DomainBalancedSampler, domain_batches
from qaconv.data.samplers.graph import GraphSampler, graph_batches, one_image_each
from qaconv.data.samplers.pk import PKSampler, pk_batches
from qaconv.data.samplers.random import RandomSampler, random_batches
from qaconv.errors import InputError

LABELS = np.repeat(np.arange(10), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]).astype(np.int64)
SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS, st.integers(2, 5), st.integers(2, 5))
def test_every_pk_batch_has_p_people_with_k_images_each(seed: int, identities: int, images: int) -> None:
    for batch in pk_batches(LABELS, identities=identities, images=images, rng=np.random.default_rng(seed)):
        counts = Counter(LABELS[draw.row] for draw in batch)
        assert len(counts) == identities
        assert set(counts.values()) == {images}


def test_a_pk_epoch_shows_about_as_many_images_as_there_are() -> None:
    batches = pk_batches(LABELS, identities=4, images=2, rng=np.random.default_rng(0))
    assert sum(map(len, batches)) == 56 and len(LABELS) == 55


def test_no_image_returns_before_the_others_of_its_person() -> None:
    draws = [
        draw.row for batch in pk_batches(LABELS, identities=5, images=2, rng=np.random.default_rng(3)) for draw in batch
    ]
    shown = Counter(draws)
    for label in range(10):
        counts = [shown[index] for index in np.flatnonzero(label == LABELS).tolist()]
        assert max(counts) - min(counts) <= 1


@given(SEEDS)
def test_graph_batches_hold_each_person_once_as_centre_with_the_most_alike(seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(10, 10)).astype(np.float32)
    batches = graph_batches(LABELS, scores, identities=3, images=2, rng=np.random.default_rng(seed))
    groups = {tuple(sorted({int(LABELS[draw.row]) for draw in batch})) for batch in batches}
    for centre in range(10):
        others = [other for other in np.argsort(-scores[centre]) if other != centre]
        assert tuple(sorted([centre, *others[:2]])) in groups
    assert len(batches) == 10


def test_the_same_seed_draws_the_same_batches() -> None:
    first, second = (pk_batches(LABELS, identities=3, images=2, rng=np.random.default_rng(1)) for _ in range(2))
    assert first == second
    assert first != pk_batches(LABELS, identities=3, images=2, rng=np.random.default_rng(2))


def test_one_image_each_follows_the_order_of_the_people() -> None:
    assert LABELS[one_image_each(LABELS, np.random.default_rng(0))].tolist() == list(range(10))


DOMAINS = np.where(LABELS < 3, "small", "large")  # three people and seven
CAMIDS = np.concatenate([np.arange(count) // 4 for count in range(1, 11)])  # up to four images each, on three cameras


@given(SEEDS, st.integers(2, 6))
def test_domains_have_equally_many_people_in_a_batch_or_differ_by_one(seed: int, identities: int) -> None:
    totals: Counter[str] = Counter()
    batches = domain_batches(LABELS, DOMAINS, identities=identities, images=2, rng=np.random.default_rng(seed))
    for batch in batches:
        people = {(str(DOMAINS[draw.row]), int(LABELS[draw.row])) for draw in batch}
        counts = Counter(domain for domain, _ in people)
        assert sum(counts.values()) == identities and len(batch) == 2 * identities
        assert abs(counts["small"] - counts["large"]) <= 1
        totals += counts
    assert abs(totals["small"] - totals["large"]) <= 1


def test_one_domain_alone_is_drawn_as_by_pk() -> None:
    alone = np.zeros(len(LABELS))
    balanced = domain_batches(LABELS, alone, identities=3, images=2, rng=np.random.default_rng(1))
    assert balanced == pk_batches(LABELS, identities=3, images=2, rng=np.random.default_rng(1))


@given(SEEDS, st.integers(2, 5))
def test_a_person_is_on_as_many_cameras_as_can_be_in_a_batch_across_cameras(seed: int, images: int) -> None:
    shown: Counter[int] = Counter()
    rng = np.random.default_rng(seed)
    for batch in across_camera_batches(LABELS, CAMIDS, identities=4, images=images, rng=rng):
        assert len(batch) == 4 * images
        people = Counter(int(LABELS[draw.row]) for draw in batch)
        assert set(people.values()) == {images} and len(people) == 4
        for person in people:
            cameras = Counter(int(CAMIDS[draw.row]) for draw in batch if LABELS[draw.row] == person)
            assert len(cameras) == min(images, len(set(CAMIDS[person == LABELS])))
            assert max(cameras.values()) - min(cameras.values()) <= 1
        shown.update(draw.row for draw in batch)
    for person, camid in {*zip(LABELS.tolist(), CAMIDS.tolist(), strict=True)}:
        counts = [shown[row] for row in np.flatnonzero((person == LABELS) & (camid == CAMIDS)).tolist()]
        assert max(counts) - min(counts) <= 1  # no image returns before the others of its person and camera


@given(SEEDS, st.integers(1, 20))
def test_a_random_epoch_shows_no_image_twice_and_leaves_out_less_than_a_batch(seed: int, size: int) -> None:
    batches = random_batches(LABELS, size=size, rng=np.random.default_rng(seed))
    rows = [draw.row for batch in batches for draw in batch]
    assert len(rows) == len(set(rows)) > len(LABELS) - size
    assert {len(batch) for batch in batches} == {size}


def score(rows: Sequence[int]) -> NDArray[np.float32]:
    """Score people by the distance of their labels."""
    labels = LABELS[list(rows)]
    scores: NDArray[np.float32] = -np.abs(labels[:, None] - labels).astype(np.float32)
    return scores


IMAGES = TrainingImages(LABELS, DOMAINS, CAMIDS, identities=4, images=2, score=score)


@pytest.mark.parametrize(
    "sampler", [PKSampler(), GraphSampler(), DomainBalancedSampler(), AcrossCamerasSampler(), RandomSampler()]
)
def test_samplers_state_whether_each_person_in_a_batch_has_two_images(sampler: SamplerSettings) -> None:
    batches = sampler.batches(IMAGES, np.random.default_rng(0))
    assert {len(batch) for batch in batches} == {8}
    counts = [Counter(LABELS[draw.row] for draw in batch) for batch in batches]
    assert all(min(count.values()) >= 2 for count in counts) == sampler.gives_pairs


def test_graph_sampler_puts_the_people_of_the_highest_scores_together() -> None:
    batches = GraphSampler().batches(IMAGES, np.random.default_rng(0))
    spans = [np.ptp([LABELS[draw.row] for draw in batch]) for batch in batches]
    assert max(spans) <= 4  # of ten people


@pytest.mark.parametrize("sampler", [PKSampler(), GraphSampler()])
def test_a_batch_of_all_people_is_allowed_and_one_of_more_is_not(sampler: SamplerSettings) -> None:
    sampler.check(TrainingImages(LABELS, DOMAINS, CAMIDS, identities=10, images=2, score=score))
    with pytest.raises(InputError, match=r"must be in 2\.\.10, got 11: .* 11 people of all sources"):
        sampler.check(TrainingImages(LABELS, DOMAINS, CAMIDS, identities=11, images=2, score=score))


def test_domain_balanced_needs_its_people_in_each_domain() -> None:
    DomainBalancedSampler().check(TrainingImages(LABELS, DOMAINS, CAMIDS, identities=6, images=2, score=score))
    with pytest.raises(InputError, match=r"must be in 2\.\.6, got 7: .* 4 people of small, .* have 3"):
        DomainBalancedSampler().check(TrainingImages(LABELS, DOMAINS, CAMIDS, identities=7, images=2, score=score))


def test_random_needs_the_images_of_a_batch_on_any_number_of_people() -> None:
    RandomSampler().check(TrainingImages(LABELS, DOMAINS, CAMIDS, identities=11, images=5, score=score))
    with pytest.raises(InputError, match=r"must be at most 55, the training images, got 14 x 4"):
        RandomSampler().check(TrainingImages(LABELS, DOMAINS, CAMIDS, identities=14, images=4, score=score))
