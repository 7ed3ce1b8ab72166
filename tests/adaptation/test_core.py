import numpy as np
import pandas as pd

from qaconv.adaptation.core import HELD_OUT, choose_core, draw_held_out
from qaconv.identities import Identities

IDENTITY = np.array([3, 3, 3, 5, 5, 5, 7, 7, 8, 8, 8])
CAMID = np.array([0, 1, 1, 0, 0, 0, 0, 1, 2, 0, 1])
NOBODY = np.full(len(IDENTITY), -1)


def choose(probability: float | list[float] = 1.0, held_out: np.ndarray = NOBODY) -> list[int]:
    certain = np.broadcast_to(np.asarray(probability, dtype=np.float64), IDENTITY.shape)
    labels: list[int] = choose_core(CAMID, Identities(IDENTITY, certain, (), pd.DataFrame(), 8), held_out, 0.5).tolist()
    return labels


def test_identities_of_one_camera_or_of_two_images_are_not_trained_on() -> None:
    assert choose() == [0, 0, 0, -1, -1, -1, -1, -1, 1, 1, 1]


def test_a_sighting_that_may_belong_elsewhere_is_left_out_and_counts_for_nothing() -> None:
    assert choose([1, 1, 0.4, *[1] * 8]) == [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0]


def test_people_held_out_are_not_trained_on() -> None:
    assert choose(held_out=np.where(IDENTITY == 8, 0, -1)) == [0, 0, 0, *[-1] * 8]


def test_a_fifth_of_the_identities_is_held_out_with_all_their_sightings() -> None:
    identity = np.random.default_rng(0).integers(1, 51, 1000)
    held_out = draw_held_out(identity, seed=1)
    people = np.unique(identity[held_out >= 0])
    assert len(people) == round(HELD_OUT * 50)
    assert (held_out[np.isin(identity, people)] >= 0).all()
    assert np.unique(held_out).tolist() == list(range(-1, len(people)))
