"""Each augmentation changes pixels as its definition says, and nothing else."""

import colorsys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from qaconv.config import AugmentConfig, ImageConfig
from qaconv.data.transforms import WhiteOcclusion, build_augmentation

SIZE = ImageConfig(height=24, width=16)
NOTHING: dict[str, Any] = {"pad": 0, "rotation_degrees": 0, "flip": 0, "colour_jitter": 0, "occlusion": 0}
ALL: dict[str, Any] = {
    "pad": 2,
    "rotation_degrees": 5,
    "flip": 0.5,
    "colour_jitter": 1,
    "occlusion": 0.8,
    "erasing": 0.5,
}


def augmentation(**settings: float) -> v2.Compose:
    return build_augmentation(AugmentConfig(**(NOTHING | settings)), SIZE)


def numbered_image() -> Tensor:
    """Make an image in which no two pixels are equal and none is 0 or 255."""
    rows, columns = torch.meshgrid(torch.arange(SIZE.height), torch.arange(SIZE.width), indexing="ij")
    return torch.stack([10 + 5 * rows, 10 + 9 * columns, 100 + rows + columns]).to(torch.uint8)


def draws(count: int, image: Tensor, **settings: float) -> list[Tensor]:
    torch.manual_seed(0)
    augment = augmentation(**settings)
    return [augment(image) for _ in range(count)]


def test_no_augmentation_set_to_0_changes_a_pixel() -> None:
    assert torch.equal(augmentation()(numbered_image()), numbered_image())


def test_a_crop_is_the_image_moved_by_up_to_the_padding_with_black_next_to_it() -> None:
    pad, image = 3, numbered_image()
    padded = torch.nn.functional.pad(image, [pad] * 4)
    shifts = []
    for cropped in draws(300, image, pad=pad):
        same = [
            (down, right)
            for down in range(2 * pad + 1)
            for right in range(2 * pad + 1)
            if torch.equal(cropped, padded[:, down : down + SIZE.height, right : right + SIZE.width])
        ]
        assert len(same) == 1
        shifts += same
    for direction in zip(*shifts, strict=True):
        assert set(direction) == set(range(2 * pad + 1))


@pytest.mark.parametrize("probability", [0.25, 0.5, 1])
def test_an_image_is_mirrored_left_to_right_as_often_as_the_setting_says(probability: float) -> None:
    image = numbered_image()
    mirrored = image[:, :, torch.arange(SIZE.width - 1, -1, -1)]
    flipped = draws(600, image, flip=probability)
    assert all(torch.equal(result, image) or torch.equal(result, mirrored) for result in flipped)
    assert sum(torch.equal(result, mirrored) for result in flipped) == pytest.approx(600 * probability, abs=45)


def rotated(image: np.ndarray, degrees: float) -> np.ndarray:
    """Turn the image counter-clockwise about its centre: each pixel is the nearest one of the source, or black."""
    _, height, width = image.shape
    y, x = np.mgrid[:height, :width] - np.array([(height - 1) / 2, (width - 1) / 2])[:, None, None]
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    source_x = np.rint(cosine * x - sine * y + (width - 1) / 2).astype(int)
    source_y = np.rint(sine * x + cosine * y + (height - 1) / 2).astype(int)
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    return np.where(inside, image[:, source_y.clip(0, height - 1), source_x.clip(0, width - 1)], 0)


def test_an_image_is_turned_about_its_centre_by_up_to_the_set_angle_either_way() -> None:
    largest, image = 20.0, numbered_image()
    angles = np.arange(-largest - 4, largest + 4.01, 0.1)
    turned_by = {angle: rotated(image.numpy(), angle) for angle in angles}
    found_angles = []
    for turned in draws(200, image, rotation_degrees=largest):
        equal = {angle: (turned.numpy() == expected).all(axis=0).mean() for angle, expected in turned_by.items()}
        found_angles.append(max(equal, key=lambda angle: equal[angle]))
        assert equal[found_angles[-1]] > 0.95
    assert -largest - 0.5 <= min(found_angles) < -0.9 * largest
    assert 0.9 * largest < max(found_angles) <= largest + 0.5
    assert abs(np.mean(found_angles)) < largest / 5


def jittered(image: np.ndarray, factors: dict[str, Any]) -> np.ndarray:
    """Scale brightness, move contrast and saturation away from grey, turn hue; in the drawn order. Each rounds down."""
    values = image.astype(float)
    for step in factors["fn_idx"].tolist():
        grey = np.tensordot([0.2989, 0.587, 0.114], values, axes=1)
        if step == 0:
            values = factors["brightness_factor"] * values
        elif step == 1:
            values = grey.mean() + factors["contrast_factor"] * (values - grey.mean())
        elif step == 2:
            values = grey + factors["saturation_factor"] * (values - grey)
        else:
            pixels = values.reshape(3, -1).T / 255
            hsv = [colorsys.rgb_to_hsv(*pixel) for pixel in pixels]
            turned = [colorsys.hsv_to_rgb((hue + factors["hue_factor"]) % 1, *rest) for hue, *rest in hsv]
            values = 255 * np.array(turned).T.reshape(values.shape)
        values = np.floor(values.clip(0, 255) + 1e-3)
    return values


@pytest.mark.parametrize("strength", [0.5, 1])
def test_colours_are_jittered_within_the_set_strength(strength: float) -> None:
    augment, image = augmentation(colour_jitter=strength), numbered_image()
    (jitter,) = augment.transforms
    drawn = []
    for seed in range(30):
        torch.manual_seed(seed)
        drawn.append(jitter.make_params([image]))
        torch.manual_seed(seed)
        difference = np.abs(augment(image).numpy() - jittered(image.numpy(), drawn[-1]))
        assert difference.mean() < 1.5 and difference.max() <= 12  # hue turns magnify rounding
    drawn += [jitter.make_params([image]) for _ in range(300)]
    for name in ("brightness_factor", "contrast_factor", "saturation_factor"):
        factors = [jitter_params[name] for jitter_params in drawn]
        assert 0.5**strength <= min(factors) < 0.53**strength and 1.9**strength < max(factors) <= 2**strength
    hues = [jitter_params["hue_factor"] for jitter_params in drawn]
    assert -0.1 * strength <= min(hues) < -0.095 * strength and 0.095 * strength < max(hues) <= 0.1 * strength
    assert len({tuple(jitter_params["fn_idx"].tolist()) for jitter_params in drawn}) == 24


def test_a_white_square_hides_part_of_the_image_and_nothing_else_changes() -> None:
    image = numbered_image()
    shorter, sides, corners = min(SIZE.height, SIZE.width), [], []
    for occluded in draws(600, image, occlusion=0.8):
        changed = (occluded != image).any(dim=0)
        side = int(changed.any(dim=1).sum())
        sides.append(side)
        if side:
            top, left = int(changed.any(dim=1).int().argmax()), int(changed.any(dim=0).int().argmax())
            expected = image.clone()
            expected[:, top : top + side, left : left + side] = 255
            assert torch.equal(occluded, expected)
            corners.append((top == 0, left == 0, top + side == SIZE.height, left + side == SIZE.width))
    assert torch.equal(image, numbered_image())
    assert set(sides) == set(range(int(0.8 * shorter) + 1))  # 0 to 12 pixels
    assert np.mean(sides) == pytest.approx(0.8 * shorter / 2 - 0.5, abs=0.5)
    assert all(any(touching) for touching in zip(*corners, strict=True))


def test_a_rectangle_is_erased_to_the_mean_colour_as_often_as_the_setting_says() -> None:
    image, shares, ratios = numbered_image(), [], []
    for erased in draws(600, image, erasing=0.5):
        rows, columns = (erased != image).any(dim=0).nonzero(as_tuple=True)
        if len(rows):
            top, left, bottom, right = (int(edge) for edge in (rows.min(), columns.min(), rows.max(), columns.max()))
            expected = image.clone()
            expected[:, top : bottom + 1, left : right + 1] = torch.tensor([124, 116, 104])[:, None, None]
            assert torch.equal(erased, expected)
            height, width = bottom + 1 - top, right + 1 - left
            shares.append(height * width / (SIZE.height * SIZE.width))
            ratios.append(height / width)
    assert len(shares) == pytest.approx(300, abs=45)
    assert 0.01 < min(shares) < 0.05 and 0.35 < max(shares) < 0.45
    assert 0.2 < min(ratios) < 0.4 and 2.4 < max(ratios) < 4


def test_augmentations_run_in_the_order_of_the_authors_code() -> None:
    names = [type(step).__name__ for step in augmentation(**ALL).transforms]
    crop_to_jitter = ["RandomCrop", "RandomHorizontalFlip", "RandomRotation", "ColorJitter"]
    assert names == [*crop_to_jitter, WhiteOcclusion.__name__, "RandomErasing"]


def test_the_same_seed_gives_the_same_image_and_another_seed_another() -> None:
    def draw(seed: int) -> Tensor:
        torch.manual_seed(seed)
        image: Tensor = augmentation(**ALL)(numbered_image())
        return image

    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))
    assert (draw(1).shape, draw(1).dtype) == (numbered_image().shape, torch.uint8)
