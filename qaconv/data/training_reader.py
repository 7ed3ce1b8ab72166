"""Read batches of training images, augmented one by one on the CPU or a whole batch at once on a GPU."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from qaconv.data.batch_transforms import BatchAugmentation
from qaconv.data.loading import Crops, map_ahead
from qaconv.data.samplers import Draw
from qaconv.runtime.resize import load_resizing


class TrainingCrops(Dataset[tuple[Tensor, int]]):
    """Augmented training images with their labels.

    A draw carries the seed of its augmentation, so an image is the same in every process and in a resumed run.
    """

    def __init__(self, crops: Crops, labels: Sequence[int], augmentation: v2.Compose) -> None:
        self.crops = crops
        self.labels = labels
        self.augmentation = augmentation

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int]:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(draw.seed)  # torch.manual_seed takes 0.3 ms for GPUs
            return self.augmentation(self.crops[draw.row]), self.labels[draw.row]


class TrainingReader:
    """Read batches of training images in worker processes, which stay from epoch to epoch.

    The worker processes augment images one by one for a CPU. A GPU augments a whole batch at once.

    Args:
        crops: training images with their labels.
        workers: number of processes that read, in addition to this one.
        device: device that receives the batches.
    """

    def __init__(self, crops: TrainingCrops, workers: int, device: torch.device) -> None:
        load_resizing()  # once, before the worker processes start
        self._device = device
        self._augment = BatchAugmentation(crops.augmentation) if device.type == "cuda" else None
        self._batches: list[list[Draw]] = []
        self._loader: DataLoader[Any] = DataLoader(
            crops if self._augment is None else _PlainCrops(crops, self._augment),
            batch_sampler=self._batches,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self._augment is not None,  # it is copied while the GPU computes
        )

    def read(self, batches: Iterable[list[Draw]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Read uint8 images [B, 3, H, W] and labels [B], in the order of `batches`, onto the device."""
        self._batches[:] = batches
        if self._augment is None:
            yield from self._loader
            return
        stream = torch.cuda.Stream(self._device)
        with ThreadPoolExecutor(1) as pool:  # its thread runs while this one waits for the gradients of a step
            for images, labels, done in map_ahead(pool, partial(self._augment_on_gpu, stream), self._loader, 1):
                current = torch.cuda.current_stream(self._device)
                current.wait_event(done)
                for part in (images, labels):
                    part.record_stream(current)
                yield images, labels

    def _augment_on_gpu(
        self, stream: torch.cuda.Stream, batch: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, torch.cuda.Event]:
        """Return images and labels on the GPU, and the event that marks when they are ready."""
        assert self._augment is not None
        with torch.cuda.stream(stream):
            images, labels = (part.to(self._device, non_blocking=True) for part in (batch[0], batch[2]))
            augmented = self._augment(images, batch[1]).contiguous(memory_format=torch.channels_last)
            return augmented, labels, stream.record_event()


class _PlainCrops(Dataset[tuple[Tensor, Tensor, int]]):
    """Training images without augmentation, with their random numbers and labels."""

    def __init__(self, crops: TrainingCrops, augment: BatchAugmentation) -> None:
        self._crops, self._augment = crops, augment

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor, int]:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(draw.seed)  # torch.manual_seed takes 0.3 ms for GPUs
            image = self._crops.crops[draw.row]
            return image, self._augment.draw(image), self._crops.labels[draw.row]
