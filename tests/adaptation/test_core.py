import numpy as np

from qaconv.adaptation.core import HELD_OUT, choose_core, draw_held_out

IDENTITY = np.array([3, 3, 3, 5, 5, 5, 7, 7, 8, 8, 8])
CAMID = np.array([0, 1, 1, 0, 0, 0, 0, 1, 2, 0, 1])
NOBODY = np.full(len(IDENTITY), -1)


def test_identities_of_one_camera_or_of_two_images_are_not_trained_on() -> None:
    assert choose_core(CAMID, IDENTITY, NOBODY).tolist() == [0, 0, 0, -1, -1, -1, -1, -1, 1, 1, 1]


def test_people_held_out_are_not_trained_on() -> None:
    assert choose_core(CAMID, IDENTITY, np.where(IDENTITY == 8, 0, -1)).tolist() == [0, 0, 0, *[-1] * 8]


def test_a_fifth_of_the_identities_is_held_out_with_all_their_sightings() -> None:
    identity = np.random.default_rng(0).integers(1, 51, 1000)
    held_out = draw_held_out(identity, seed=1)
    people = np.unique(identity[held_out >= 0])
    assert len(people) == round(HELD_OUT * 50)
    assert (held_out[np.isin(identity, people)] >= 0).all()
    assert np.unique(held_out).tolist() == list(range(-1, len(people)))
