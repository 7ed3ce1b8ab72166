"""Image files go in; batches for the network come out."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from qaconv.batch_transforms import BatchAugmentation
from qaconv.config import ImageConfig
from qaconv.errors import InputError
from qaconv.pixels import NoImage, load_resizing, resize, unpack
from qaconv.samplers import Draw

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Encode:
    """A way to encode.

    Attributes:
        call: uint8 images [B, 3, H, W] to maps float32 [B, C, h, w] on the CPU.
        at_once: batches that it encodes side by side, each in a thread.
    """

    call: Callable[[Tensor], Tensor]
    at_once: int = 1

    def each(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """The maps of every batch, in order."""
        if self.at_once == 1:  # in the caller's own thread, whose workers PyTorch has started
            yield from map(self.call, batches)
            return
        with ThreadPoolExecutor(self.at_once) as pool:
            yield from _map_ahead(pool, self.call, batches, self.at_once)


class Crops(Dataset[Tensor]):
    """Image files as uint8 [3, H, W] at the network's size."""

    def __init__(self, paths: Sequence[Path], size: ImageConfig) -> None:
        self.paths = paths
        self.size = size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self._read(index)).permute(2, 0, 1).contiguous()

    def batch(self, indices: Iterable[int]) -> Tensor:
        """uint8 [B, 3, H, W] with the colours last in memory, as encoders take them."""
        return torch.from_numpy(np.stack([self._read(index) for index in indices])).permute(0, 3, 1, 2)

    def _read(self, index: int) -> NDArray[np.uint8]:
        path = self.paths[index]
        try:
            return resize(unpack(path.read_bytes()), self.size.height, self.size.width)
        except NoImage as error:
            raise InputError(f"{path}: {error}; legal is what `qaconv prepare` has read, a whole image") from error


class TrainingCrops(Dataset[tuple[Tensor, int]]):
    """Varied training images with their labels.

    A draw carries its own seed, so an image looks the same whichever process reads it and whenever a run is resumed.
    """

    def __init__(self, crops: Crops, labels: Sequence[int], augmentation: v2.Compose) -> None:
        self.crops = crops
        self.labels = labels
        self.augmentation = augmentation

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(draw.seed)
            return self.augmentation(self.crops[draw.row]), self.labels[draw.row]


class TrainingReader:
    """Reads batches of training images; the processes that read stay from epoch to epoch.

    On a GPU the images of a batch are varied there, all at once; on the CPU by the processes that read, one by one.

    Args:
        crops: the images.
        workers: processes that read beside this one.
        device: where batches are wanted.
    """

    def __init__(self, crops: TrainingCrops, workers: int, device: torch.device) -> None:
        load_resizing()  # here, not in every process that reads
        self._device = device
        self._vary = BatchAugmentation(crops.augmentation) if device.type == "cuda" else None
        self._batches: list[list[Draw]] = []
        self._loader: DataLoader[Any] = DataLoader(
            crops if self._vary is None else _UnvariedCrops(crops, self._vary),
            batch_sampler=self._batches,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self._vary is not None,  # such memory moves while the GPU works
        )

    def read(self, batches: Iterable[list[Draw]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Read uint8 images [B, 3, H, W] and labels [B], in the order of `batches`, onto the device."""
        self._batches[:] = batches
        if self._vary is None:
            yield from self._loader
            return
        stream = torch.cuda.Stream(self._device)
        with ThreadPoolExecutor(1) as pool:  # it works while this thread waits for a step's gradients
            for images, labels, done in _map_ahead(pool, partial(self._varied, stream), self._loader, 1):
                current = torch.cuda.current_stream(self._device)
                current.wait_event(done)
                for part in (images, labels):
                    part.record_stream(current)
                yield images, labels

    def _varied(
        self, stream: torch.cuda.Stream, batch: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, torch.cuda.Event]:
        """Images and labels on the GPU, and what marks the moment when they are there."""
        assert self._vary is not None
        with torch.cuda.stream(stream):
            images, labels = (part.to(self._device, non_blocking=True) for part in (batch[0], batch[2]))
            varied = self._vary(images, batch[1]).contiguous(memory_format=torch.channels_last)
            return varied, labels, stream.record_event()


class _UnvariedCrops(Dataset[tuple[Tensor, Tensor, int]]):
    """Training images as they are, with what is drawn for each, and labels."""

    def __init__(self, crops: TrainingCrops, vary: BatchAugmentation) -> None:
        self._crops, self._vary = crops, vary

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor, int]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(draw.seed)
            image = self._crops.crops[draw.row]
            return image, self._vary.draw(image), self._crops.labels[draw.row]


def encode_batches(
    encode: Encode,
    paths: Sequence[Path],
    size: ImageConfig,
    *,
    batch_size: int,
    workers: int = 0,
    progress: bool = True,
) -> Iterator[Tensor]:
    """Image files to maps float32 [B, C, h, w], a batch at a time, in order; the next ones are read meanwhile.

    `workers` threads read, or as many as encode, if those are more.
    """
    crops = Crops(paths, size)
    parts = [range(start, min(start + batch_size, len(paths))) for start in range(0, len(paths), batch_size)]
    readers = max(1, workers, encode.at_once)
    with ThreadPoolExecutor(readers) as pool:
        batches = _map_ahead(pool, crops.batch, parts, readers + 1)
        encoded = encode.each(batches)
        yield from track(encoded, f"encode {len(paths)} images", total=len(parts), disable=not progress)


def _map_ahead(
    pool: ThreadPoolExecutor, call: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """What `pool` makes of the items, in order; so many are begun before their turn."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(call, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def encode_all(
    encode: Encode, paths: Sequence[Path], size: ImageConfig, *, batch_size: int, workers: int = 0
) -> Tensor:
    """Files of few enough images to maps float32 [N, C, h, w], without progress."""
    return torch.cat(list(encode_batches(encode, paths, size, batch_size=batch_size, workers=workers, progress=False)))


def in_torch(encoder: nn.Module, device: torch.device) -> Encode:
    """By PyTorch, on any device; the encoder is put in eval mode."""
    encoder.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def encode(images: Tensor) -> Tensor:
        maps = encoder(as_input(images, device).contiguous(memory_format=torch.channels_last))
        return maps.float().cpu().contiguous()

    return Encode(encode)


def as_input(images: Tensor, device: torch.device) -> Tensor:
    """Move uint8 images to the device and make them the encoder's float32 in [0, 1]."""
    return images.to(device, non_blocking=True).float() / 255
