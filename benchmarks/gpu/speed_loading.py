"""Time the reading of a training: from image files to augmented batches, alone and in a loop with the network."""

import time
from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.gpu.recipe import AUGMENT
from benchmarks.gpu.record import Figure
from benchmarks.gpu.settings import Setup
from benchmarks.gpu.simulated import drawn_crops
from benchmarks.gpu.speed_training import IMAGES_EACH, learner
from benchmarks.gpu.timing import Clock
from qaconv.config import AugmentConfig
from qaconv.data.loading import Crops, as_input
from qaconv.data.samplers import Draw
from qaconv.data.samplers.pk import pk_batches
from qaconv.data.training_reader import TrainingCrops, TrainingReader
from qaconv.data.transforms import build_augmentation

LOOP_STEPS = 60
SKIPPED = 3  # batches at the start, while the workers start


def loader(setup: Setup) -> Iterator[Figure]:
    """Measure the loader alone, with the augmentation of the recipe cvpr2022."""
    crops = _crops(setup)
    for workers in setup.sizes.workers:
        batches = _batches(setup, crops, setup.sizes.loader_batches)
        rate = _drain(setup, crops, batches, workers)
        yield Figure(f"loader, {workers} workers", rate, "images/s", setup.sizes.batch / rate, note=_source(setup))


def _drain(setup: Setup, crops: TrainingCrops, batches: list[list[Draw]], workers: int) -> float:
    """Return the images a second after the first batches."""
    skipped = min(SKIPPED, len(batches) - 1)
    started, counted = time.perf_counter(), 0
    for number, (images, _) in enumerate(TrainingReader(crops, workers, setup.device).read(batches)):
        if number < skipped:
            started = time.perf_counter()
        else:
            counted += len(images)
    if setup.device.type == "cuda":
        torch.cuda.synchronize()  # the images are augmented there
    return counted / (time.perf_counter() - started)


def loop(setup: Setup) -> Iterator[Figure]:
    """Measure a training loop, and how long its device is idle because it waits for images."""
    crops, step = _crops(setup), learner(setup, "hard_triplet")
    batches = _batches(setup, crops, 2 * SKIPPED if setup.rehearsal else LOOP_STEPS)
    clock, started, counted = Clock(setup.device), time.perf_counter(), 0
    reader = TrainingReader(crops, setup.readers, setup.device)
    for number, (images, labels) in enumerate(reader.read(batches)):
        with clock.counts():
            step(as_input(images, setup.device), labels, 0)
        counted += len(images)
        if number == SKIPPED - 1:
            clock.seconds()
            clock, started, counted = Clock(setup.device), time.perf_counter(), 0
    busy = clock.seconds()
    seconds = time.perf_counter() - started
    note = f"{setup.readers} workers, {_source(setup)}"
    yield Figure("loop, hard_triplet", counted / seconds, "images/s", setup.sizes.batch * seconds / counted, note=note)
    yield Figure("loop, fraction that waits for images", 100 * max(0.0, 1 - busy / seconds), "%", note=note)


def _crops(setup: Setup) -> TrainingCrops:
    """Return the training images of Market-1501 if they are given, otherwise drawn ones of about that size."""
    augment = AugmentConfig(**{**AUGMENT.model_dump(), "pad": min(AUGMENT.pad, setup.sizes.image.width // 2)})
    if setup.images is None:
        each = 4
        people = max(setup.sizes.batch // IMAGES_EACH, setup.sizes.loader_batches * setup.sizes.batch // each)
        return drawn_crops(setup, people, each, setup.sizes.image, augment)
    paths = sorted((setup.images / "bounding_box_train").glob("*.jpg"))
    _, labels = np.unique([path.name.split("_")[0] for path in paths], return_inverse=True)
    return TrainingCrops(
        Crops(paths, setup.sizes.image), labels.tolist(), build_augmentation(augment, setup.sizes.image)
    )


def _batches(setup: Setup, crops: TrainingCrops, count: int) -> list[list[Draw]]:
    """Return `count` batches of people with IMAGES_EACH images each."""
    labels, identities = np.asarray(crops.labels, dtype=np.int64), setup.sizes.batch // IMAGES_EACH
    rng, drawn = np.random.default_rng(0), list[list[Draw]]()
    while len(drawn) < count:
        drawn += pk_batches(labels, identities=identities, images=IMAGES_EACH, rng=rng)
    return drawn[:count]


def _source(setup: Setup) -> str:
    return f"{'real' if setup.images else 'drawn'} images, {torch.get_num_threads()} threads"
