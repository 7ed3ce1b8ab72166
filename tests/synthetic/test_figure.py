from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qaconv.synthetic.figure import Pose, draw_person
from qaconv.synthetic.people import BAGS, HAIRCUTS, LOGOS, LOWERS, PATTERNS, UPPERS, Garment, Person, Wardrobe

RED = (255, 0, 0)
PLAIN = Person(
    girth=1.0, shoulders=1.0, stride=0.4, skin=(200, 150, 110), hair=(30, 20, 20), haircut="short", cap=(0, 0, 90),
    upper=Garment("t-shirt", "plain", 0.07, (90, 90, 90), (20, 20, 20)),
    lower=Garment("trousers", "plain", 0.07, (40, 40, 60), (20, 20, 20)),
    shoes=(10, 10, 10), shirt=None, logo="none", logo_colour=RED, bag="none", bag_colour=RED, bag_side=1,
)  # fmt: skip


def drawn(person: Person, view_deg: float, phase: float = 1.0) -> np.ndarray:
    picture = Image.new("RGB", (128, 256), (255, 255, 255))
    draw_person(picture, person, Pose(view_deg, phase, feet=(64, 245), unit=230, elevation_deg=10))
    return np.asarray(picture).astype(int)


def red(picture: np.ndarray) -> int:
    return int(((picture[..., 0] > 150) & (picture[..., 1] < 30)).sum())


@pytest.mark.parametrize(
    ("change", "shown_at", "hidden_at"),
    [
        ({"logo": "square"}, 0, 180),
        ({"shirt": RED, "upper": replace(PLAIN.upper, kind="jacket")}, 0, 180),
        ({"bag": "backpack"}, 180, 0),
        ({"bag": "handbag", "bag_side": 1}, 90, None),
        ({"bag": "suitcase"}, 90, None),
        ({"bag": "shoulder bag"}, 0, None),
    ],
)
def test_a_feature_is_seen_only_from_where_it_is(
    change: dict[str, Any], shown_at: float, hidden_at: float | None
) -> None:
    person = replace(PLAIN, **change)
    assert red(drawn(person, shown_at)) > 60
    if hidden_at is not None:
        assert red(drawn(person, hidden_at)) < red(drawn(person, shown_at)) / 4


def test_a_walker_to_the_right_puts_the_face_to_the_right_of_the_hair() -> None:
    picture = drawn(PLAIN, 90)
    head = picture[:70]
    skin, hair = (np.abs(head - np.array(colour)).sum(axis=2) < 20 for colour in (PLAIN.skin, PLAIN.hair))
    assert np.nonzero(skin)[1].mean() > np.nonzero(hair)[1].mean() + 3


def test_legs_move_with_the_phase_of_the_gait_and_the_trunk_does_not() -> None:
    one, other = drawn(PLAIN, 90, phase=0.0), drawn(PLAIN, 90, phase=1.6)
    assert (one[170:] != other[170:]).any(axis=2).mean() > 0.05
    assert (one[50:58] == other[50:58]).all()


def test_no_two_kinds_of_a_thing_look_the_same() -> None:
    upper, lower = PLAIN.upper, PLAIN.lower
    families = [
        [replace(PLAIN, upper=replace(upper, kind=kind)) for kind in UPPERS],
        [replace(PLAIN, lower=replace(lower, kind=kind)) for kind in LOWERS],
        [replace(PLAIN, upper=replace(upper, pattern=pattern)) for pattern in PATTERNS],
        [replace(PLAIN, bag=bag) for bag in BAGS],
        [replace(PLAIN, logo=logo) for logo in LOGOS],
        [replace(PLAIN, haircut=haircut) for haircut in HAIRCUTS],
    ]
    for family in families:
        assert len({drawn(person, 20).tobytes() for person in family}) == len(family)


def test_a_figure_outside_the_picture_leaves_it_untouched() -> None:
    picture = Image.new("RGB", (128, 256), (255, 255, 255))
    draw_person(picture, PLAIN, Pose(0, 0, feet=(900, 245), unit=230, elevation_deg=10))
    assert (np.asarray(picture) == 255).all()


def test_two_sites_wear_different_clothes_and_many_people_of_one_share_colours() -> None:
    one, other = Wardrobe.of_site(1), Wardrobe.of_site(2)
    assert one.colours != other.colours and list(one.uppers) != list(other.uppers)
    rng = np.random.default_rng(0)
    worn = [one.dress(rng).upper.colour for _ in range(100)]
    assert len(set(worn)) < 20
