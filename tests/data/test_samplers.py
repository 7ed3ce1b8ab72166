from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qaconv.data.samplers import domain_batches, graph_batches, one_image_each, pk_batches, random_batches

LABELS = np.repeat(np.arange(10), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]).astype(np.int64)
SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS, st.integers(2, 5), st.integers(2, 5))
def test_every_pk_batch_has_p_people_with_k_images_each(seed, identities, images):
    for batch in pk_batches(LABELS, identities=identities, images=images, rng=np.random.default_rng(seed)):
        counts = Counter(LABELS[draw.row] for draw in batch)
        assert len(counts) == identities
        assert set(counts.values()) == {images}


def test_a_pk_epoch_shows_about_as_many_images_as_there_are():
    batches = pk_batches(LABELS, identities=4, images=2, rng=np.random.default_rng(0))
    assert sum(map(len, batches)) == 56 and len(LABELS) == 55


def test_no_image_returns_before_its_person_s_others_were_shown():
    draws = [
        draw.row for batch in pk_batches(LABELS, identities=5, images=2, rng=np.random.default_rng(3)) for draw in batch
    ]
    shown = Counter(draws)
    for label in range(10):
        counts = [shown[index] for index in np.flatnonzero(label == LABELS)]
        assert max(counts) - min(counts) <= 1


@given(SEEDS)
def test_graph_batches_hold_each_person_once_as_centre_with_the_most_alike(seed):
    scores = np.random.default_rng(seed).normal(size=(10, 10)).astype(np.float32)
    batches = graph_batches(LABELS, scores, identities=3, images=2, rng=np.random.default_rng(seed))
    groups = {tuple(sorted({int(LABELS[draw.row]) for draw in batch})) for batch in batches}
    for centre in range(10):
        others = [other for other in np.argsort(-scores[centre]) if other != centre]
        assert tuple(sorted([centre, *others[:2]])) in groups
    assert len(batches) == 10


def test_the_same_seed_draws_the_same_batches():
    first, second = (pk_batches(LABELS, identities=3, images=2, rng=np.random.default_rng(1)) for _ in range(2))
    assert first == second
    assert first != pk_batches(LABELS, identities=3, images=2, rng=np.random.default_rng(2))


def test_one_image_each_follows_the_order_of_the_people():
    assert LABELS[one_image_each(LABELS, np.random.default_rng(0))].tolist() == list(range(10))


DOMAINS = np.where(LABELS < 3, "small", "large")  # three people and seven


@given(SEEDS, st.integers(2, 6))
def test_every_domain_has_as_many_people_in_a_batch_but_one(seed, identities):
    totals = Counter()
    batches = domain_batches(LABELS, DOMAINS, identities=identities, images=2, rng=np.random.default_rng(seed))
    for batch in batches:
        people = {(str(DOMAINS[draw.row]), int(LABELS[draw.row])) for draw in batch}
        counts = Counter(domain for domain, _ in people)
        assert sum(counts.values()) == identities and len(batch) == 2 * identities
        assert abs(counts["small"] - counts["large"]) <= 1
        totals += counts
    assert abs(totals["small"] - totals["large"]) <= 1


def test_one_domain_alone_is_drawn_as_by_pk():
    one, other = (
        draw(LABELS, *domains, identities=3, images=2, rng=np.random.default_rng(1))
        for draw, domains in ((pk_batches, ()), (domain_batches, (np.zeros(len(LABELS)),)))
    )
    assert one == other


@given(SEEDS, st.integers(1, 20))
def test_a_random_epoch_shows_no_image_twice_and_leaves_out_less_than_a_batch(seed, size):
    batches = random_batches(LABELS, size=size, rng=np.random.default_rng(seed))
    rows = [draw.row for batch in batches for draw in batch]
    assert len(rows) == len(set(rows)) > len(LABELS) - size
    assert {len(batch) for batch in batches} == {size}
