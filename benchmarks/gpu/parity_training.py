"""Compare trainings on the GPU: resumed, moved between devices, in half precision, and in two processes."""

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.parity_network import difference, float32_products
from benchmarks.gpu.recipe import make_method, train_config
from benchmarks.gpu.record import Check, at_most
from benchmarks.gpu.settings import Setup
from benchmarks.gpu.simulated import drawn_crops
from benchmarks.gpu.together import train_in_two
from qaconv.config import AugmentConfig, BackboneConfig, TrainConfig
from qaconv.data.batch_transforms import BatchAugmentation
from qaconv.data.loading import Crops
from qaconv.data.samplers import Draw
from qaconv.data.samplers.pk import PKSampler
from qaconv.data.training_reader import TrainingCrops
from qaconv.models.checkpoint import Architecture, Network, build_network
from qaconv.models.losses.hard_triplet import HardTriplet
from qaconv.models.losses.pairwise_matching import PairwiseMatching
from qaconv.training import trainer
from qaconv.training.methods.trained import TrainedMethod

BACKBONE = BackboneConfig(name="resnet18", last_layer="layer2", neck_channels=16, weights="none")
AUGMENT = AugmentConfig(pad=4, rotation_degrees=5, flip=0.5, colour_jitter=0.5, occlusion=0.5)
PAIRWISE = make_method(loss=PairwiseMatching(), sampler=PKSampler())
TRIPLET = make_method(loss=HardTriplet(), sampler=PKSampler())
# Small steps: where large ones change which location wins, rounding grows into another training.
RECIPE = train_config(
    amp=False,
    freeze_batchnorm=False,
    identities_per_batch=4,
    epochs=2,
    lr=1e-3,
    backbone_lr=1e-3,
    lr_drop_when_loss_below=0,
    lr_drop_epoch=2,
    learnt_by_epoch=100,
)
RESUMED_LIMIT = 1e-5  # relative difference of all weights
# Relative change of a convolution's output by another order of its sums.
ROUNDING = {"float32": 1e-6, "amp": 5e-4}
NOISES = 3  # trainings with noise that large: one may meet two locations that match nearly equally, and another none
AMPLIFIED = 3  # allowed multiple of the difference that rounding alone makes; more has another cause
PIXEL_LIMIT = 0.01  # fraction of pixels that may differ by more than PIXEL_STEPS of 255
PIXEL_STEPS = 4
KILLED_AT = 1.5  # epochs of two
LEAST_SCALE = 128.0  # of the gradients; the scale starts at 65,536 and is halved at each overflow


class Killed(Exception):
    """Stand for the end of the process."""


class KilledCrops(Crops):
    """Images of a process that is killed while it reads."""

    def __init__(self, crops: Crops, after: int) -> None:
        super().__init__(crops.paths, crops.size)
        self.left = after

    def __getitem__(self, index: int) -> Tensor:
        self.left -= 1
        if self.left < 0:
            raise Killed
        return super().__getitem__(index)


def augmentation(setup: Setup) -> Iterator[Check]:
    """Compare images augmented on the GPU as a batch with those augmented on the CPU one by one, by the same draws."""
    size, (people, each) = setup.sizes.image, setup.sizes.trained
    crops = drawn_crops(setup, people, each, size, AUGMENT)
    augment = BatchAugmentation(crops.augmentation)
    draws = [Draw(row, 100 + row) for row in range(people * each)]
    expected = torch.stack([crops[draw][0] for draw in draws])
    originals = torch.stack([crops.crops[draw.row] for draw in draws])
    drawn = []
    with torch.random.fork_rng(devices=[]):
        for draw, image in zip(draws, originals, strict=True):
            torch.manual_seed(draw.seed)
            drawn.append(augment.draw(image))
    augmented = augment(originals.to(setup.device), torch.stack(drawn)).cpu()
    steps = (augmented.int() - expected.int()).abs()
    note = f"by more than {PIXEL_STEPS} of 255; on average {steps.float().mean():.2g}"
    yield at_most("fraction of pixels that differ", float((steps > PIXEL_STEPS).float().mean()), PIXEL_LIMIT, note)


def resume(setup: Setup) -> Iterator[Check]:
    """Compare a run that was killed in its second epoch and resumed with one that was not killed."""
    whole = run(setup, setup.folder / "whole", setup.device)
    again = run(setup, setup.folder / "again", setup.device)
    run(setup, setup.folder / "killed", setup.device, killed_at=KILLED_AT)
    resumed = run(setup, setup.folder / "killed", setup.device)
    noise = apart(again, whole)
    note = _bits(resumed, whole) + f"; a second whole run differs by {noise:.1e}"
    yield at_most("killed and resumed", apart(resumed, whole), RESUMED_LIMIT + 3 * noise, note)


def handover(setup: Setup, precision: str) -> Iterator[Check]:
    """Compare a run that is killed on one device and resumed on the other with one on the CPU."""
    recipe = RECIPE.model_copy(update={"amp": precision == "amp"})
    cpu = torch.device("cpu")
    whole = run(setup, setup.folder / f"cpu-{precision}", cpu, recipe)
    limit = AMPLIFIED * _effect_of_rounding(setup, whole, recipe, ROUNDING[precision])
    for name, first, second in (("CPU to GPU", cpu, setup.device), ("GPU to CPU", setup.device, cpu)):
        folder = setup.folder / f"{name}-{precision}"
        run(setup, folder, first, recipe, killed_at=KILLED_AT)
        with float32_products():
            yield at_most(f"{name}, {precision}", apart(run(setup, folder, second, recipe), whole), limit)


def amp(setup: Setup) -> Iterator[Check]:
    """Check many steps in half precision: every loss is finite, and the scale of the gradients stays large."""
    epochs, images = setup.sizes.amp_epochs, setup.sizes.trained[0] * setup.sizes.trained[1]
    update = {"amp": True, "epochs": epochs, "lr_drop_epoch": epochs, "lr": 0.01, "backbone_lr": 0.01}
    for method in (PAIRWISE, TRIPLET):
        folder, recipe = setup.folder / f"amp-{method.loss.kind}", RECIPE.model_copy(update=update)
        weights = run(setup, folder, setup.device, recipe, method)
        finite = all(bool(torch.isfinite(value).all()) for value in weights.values())
        state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
        losses, scale = [row["loss"] for row in state["state"]["history"]], state["parts"]["scaler"].get("scale")
        steps = epochs * round(images / (RECIPE.identities_per_batch * RECIPE.images_per_identity))
        note = f"{steps} steps, losses {', '.join(f'{loss:.3g}' for loss in losses)}"
        yield Check(f"{method.loss.kind}, weights are numbers", finite and bool(np.isfinite(losses).all()), note=note)
        if scale is not None:
            note = f"scale of the gradients {scale:g}"
            yield at_most(f"{method.loss.kind}, least scale / scale", LEAST_SCALE / scale, 1.0, note)


def together(setup: Setup) -> Iterator[Check]:
    """Compare two processes that share a device with one alone. They use gloo, as NCCL needs a GPU for each."""
    methods = (PAIRWISE, TRIPLET)
    pairs = train_in_two(setup, setup.folder / "together", methods)
    whole = run(setup, setup.folder / "cpu", torch.device("cpu"))
    limit = AMPLIFIED * _effect_of_rounding(setup, whole, RECIPE, ROUNDING["float32"])
    for method, (first, second) in zip(methods, pairs, strict=True):
        alone = run(setup, setup.folder / f"alone-{method.loss.kind}", setup.device, method=method)
        yield at_most(f"{method.loss.kind}, the two", apart(first, second), 0.0, _bits(first, second))
        yield at_most(f"{method.loss.kind}, two and one", apart(first, alone), limit)


def run(
    setup: Setup,
    folder: Path,
    device: torch.device,
    recipe: TrainConfig = RECIPE,
    method: TrainedMethod = PAIRWISE,
    *,
    killed_at: float | None = None,
) -> dict[str, Tensor]:
    """Train with drawn images, and return the weights by name, or none if the training is killed.

    Args:
        setup: device, sizes and folder of the drawn images.
        folder: folder of the training's state; a state in it is resumed.
        device: device to train on.
        recipe: settings of the training.
        method: method to train.
        killed_at: epochs after which the process is killed. Default: never.

    Raises:
        RuntimeError: the training ended before it could be killed.
    """
    size, (people, each) = setup.sizes.trained_image, setup.sizes.trained
    crops = drawn_crops(setup, people, each, size, AUGMENT)
    network: Network = build_network(Architecture(backbone=BACKBONE, image=size, pooled=method.pooled), seed=0)
    if killed_at is not None:
        dying = KilledCrops(crops.crops, round(killed_at * people * each))
        crops = TrainingCrops(dying, crops.labels, crops.augmentation)
    try:
        with float32_products():
            trainer.train(
                network,
                crops,
                np.full(people * each, "drawn"),
                np.zeros(people * each, np.int64),
                recipe,
                method,
                holdout=None,
                seed=1,
                device=device,
                workers=0,
                checkpoint_every_steps=2,
                state_path=folder / "state.pt",
                fingerprint="same",
            )
    except Killed:
        return {}
    if killed_at is not None:
        raise RuntimeError(f"the training ended before {killed_at} epochs")
    state = {**network.encoder.state_dict(), **network.head.state_dict()}
    return {name: value.detach().cpu() for name, value in state.items() if value.is_floating_point()}


def _effect_of_rounding(setup: Setup, whole: dict[str, Tensor], recipe: TrainConfig, rounding: float) -> float:
    """Return how far noise as large as rounding in the convolutions moves the weights of a training on the CPU."""
    generator, plain = torch.Generator(), torch.nn.Conv2d.forward

    def noisy(convolution: torch.nn.Conv2d, images: Tensor) -> Tensor:
        exact = plain(convolution, images)
        return exact * (1 + rounding * torch.randn(exact.shape, generator=generator)).to(exact.dtype)

    effects = []
    with patch.object(torch.nn.Conv2d, "forward", noisy):
        for seed in range(NOISES):
            generator.manual_seed(seed)
            folder = setup.folder / f"noisy-{rounding}-{seed}"
            effects.append(apart(run(setup, folder, torch.device("cpu"), recipe), whole))
            (folder / "state.pt").unlink()
    return max(effects)


def apart(trained: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Return the relative difference of all weights together."""
    joined = (torch.cat([weights[name].flatten() for name in expected]) for weights in (trained, expected))
    return difference(*joined)


def _bits(trained: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    same = sum(torch.equal(trained[name], value) for name, value in expected.items())
    return f"bit for bit in {same} of {len(expected)} tensors"
