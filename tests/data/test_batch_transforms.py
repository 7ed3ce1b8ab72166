"""A batch augmented at once has the images that are augmented one by one with the same seeds."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from qaconv.config import AugmentConfig, ImageConfig
from qaconv.data.batch_transforms import BatchAugmentation, Variation
from qaconv.data.transforms import build_augmentation

SIZE = ImageConfig(height=20, width=12)
NOTHING: dict[str, Any] = {"pad": 0, "rotation_degrees": 0, "flip": 0, "colour_jitter": 0, "occlusion": 0}
STEPS: dict[str, Any] = {
    "pad": 4,
    "rotation_degrees": 30,
    "flip": 0.5,
    "colour_jitter": 1,
    "occlusion": 0.8,
    "erasing": 0.5,
}


def make_images(count: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 20, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def augment_both_ways(config: dict[str, Any], seeds: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Augment each image by itself, and all in a batch."""
    images, augmentation = make_images(len(seeds), seeds[0]), build_augmentation(AugmentConfig(**config), SIZE)
    batch, single, drawn = BatchAugmentation(augmentation), [], []
    for image, seed in zip(images, seeds, strict=True):
        torch.manual_seed(seed)
        single.append(augmentation(image))
        after = torch.random.get_rng_state()
        torch.manual_seed(seed)
        drawn.append(batch.draw(image))
        assert torch.equal(torch.random.get_rng_state(), after)
    return torch.stack(single), batch(images, torch.stack(drawn))


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(0, 2**31), min_size=1, max_size=6), st.sampled_from(["pad", "flip", "occlusion", "erasing"])
)
def test_crops_mirrors_squares_and_erased_rectangles_are_the_same_pixel_by_pixel(seeds: list[int], step: str) -> None:
    single, batch = augment_both_ways({**NOTHING, step: STEPS[step]}, seeds)
    assert torch.equal(single, batch)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 2**31), min_size=1, max_size=6))
def test_colours_differ_by_rounding_at_most(seeds: list[int]) -> None:
    single, batch = augment_both_ways({**NOTHING, "colour_jitter": 1}, seeds)
    difference = (single.int() - batch.int()).abs()
    assert (difference == 0).float().mean() > 0.98
    assert difference.max() <= 8  # a last digit, before a hue or a contrast makes more of it


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 2**31), min_size=1, max_size=6))
def test_turned_images_are_the_same_but_for_pixels_halfway_between_two(seeds: list[int]) -> None:
    single, batch = augment_both_ways({**NOTHING, "rotation_degrees": 30, "pad": 4, "flip": 0.5}, seeds)
    assert (single == batch).float().mean() > 0.99


def test_every_step_together_is_the_same_but_for_rounding() -> None:
    single, batch = augment_both_ways(STEPS, list(range(64)))
    assert ((single.int() - batch.int()).abs() <= 2).float().mean() > 0.98


def test_an_image_for_which_nothing_is_drawn_stays_as_it_is() -> None:
    images = make_images(3, seed=1)
    unchanged = torch.tensor(Variation()).expand(3, -1)
    assert torch.equal(BatchAugmentation(build_augmentation(AugmentConfig(**NOTHING), SIZE))(images, unchanged), images)


def test_a_step_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="a step must be one of RandomCrop, .*, got RandomVerticalFlip"):
        BatchAugmentation(v2.Compose([v2.RandomVerticalFlip()]))
