"""Read image files as batches for the network, and encode them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from qaconv.config import ImageConfig
from qaconv.errors import InputError
from qaconv.progress import track
from qaconv.runtime.crops import read_crop_file

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batch(NamedTuple):
    """Images to encode.

    Attributes:
        images: uint8 [B, 3, H, W].
        camids: camera of each image, int64 [B], where cameras have batch norms of their own. Default: they have none.
    """

    images: Tensor
    camids: Tensor | None = None


@dataclass(frozen=True)
class Encode:
    """A function that encodes a batch of images, and how many batches it encodes in parallel.

    Attributes:
        call: encodes a batch as maps float32 [B, C, h, w] on the CPU.
        at_once: number of batches that are encoded at the same time, each in a thread. Default: 1.
    """

    call: Callable[[Batch], Tensor]
    at_once: int = 1

    def each(self, batches: Iterable[Batch]) -> Iterator[Tensor]:
        """Encode batches and yield their maps, in order."""
        if self.at_once == 1:  # in the caller's thread, for which PyTorch has already started its workers
            yield from map(self.call, batches)
            return
        with ThreadPoolExecutor(self.at_once) as pool:
            yield from map_ahead(pool, self.call, batches, self.at_once)


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
        """Read images as uint8 [B, 3, H, W], with the colours last in memory as encoders expect them."""
        return torch.from_numpy(np.stack([self._read(index) for index in indices])).permute(0, 3, 1, 2)

    def _read(self, index: int) -> NDArray[np.uint8]:
        try:
            return read_crop_file(self.paths[index], self.size.height, self.size.width)
        except InputError as error:
            raise InputError(f"{error}; it must be the image that `qaconv prepare` has checked") from error


def encode_batches(
    encode: Encode,
    paths: Sequence[Path],
    size: ImageConfig,
    *,
    batch_size: int,
    workers: int = 0,
    camids: ArrayLike | None = None,
    progress: bool = True,
) -> Iterator[Tensor]:
    """Encode image files as maps float32 [B, C, h, w], a batch at a time in order, and read the next ones meanwhile.

    At least as many threads read as encode, even if `workers` is less. `camids` are the cameras of the files, [N], for
    a network that knows cameras.
    """
    crops = Crops(paths, size)
    parts = [range(start, min(start + batch_size, len(paths))) for start in range(0, len(paths), batch_size)]
    readers = max(1, workers, encode.at_once)
    cameras = None if camids is None else torch.tensor(np.asarray(camids, dtype=np.int64))

    def read(part: range) -> Batch:
        return Batch(crops.batch(part), None if cameras is None else cameras[part.start : part.stop])

    with ThreadPoolExecutor(readers) as pool:
        batches = map_ahead(pool, read, parts, readers + 1)
        encoded = encode.each(batches)
        yield from track(encoded, f"encode {len(paths)} images", total=len(parts), disable=not progress)


def map_ahead(
    pool: ThreadPoolExecutor, call: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """Call a function for each item in a pool and yield the results in order, with `ahead` calls begun early."""
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
    """Encode image files as maps float32 [N, C, h, w] in memory, without a progress bar."""
    return torch.cat(list(encode_batches(encode, paths, size, batch_size=batch_size, workers=workers, progress=False)))


def in_torch(encoder: nn.Module, device: torch.device) -> Encode:
    """Encode with PyTorch on a device. Sets the encoder to eval mode."""
    encoder.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def encode(batch: Batch) -> Tensor:
        images = as_input(batch.images, device).contiguous(memory_format=torch.channels_last)
        maps = encoder(images) if batch.camids is None else encoder(images, batch.camids.to(device))
        encoded: Tensor = maps.float().cpu().contiguous()
        return encoded

    return Encode(encode)


def as_input(images: Tensor, device: torch.device) -> Tensor:
    """Move uint8 images to the device and make them the encoder's float32 in [0, 1]."""
    return images.to(device, non_blocking=True).float() / 255
