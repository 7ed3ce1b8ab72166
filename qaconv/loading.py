"""Image files go in; batches for the network come out."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from qaconv.config import ImageConfig
from qaconv.errors import InputError
from qaconv.pixels import NoImage, resize, unpack
from qaconv.samplers import Draw

BATCHES_AHEAD = 2  # read while one is encoded

Encode = Callable[[Tensor], Tensor]  # uint8 images [B, 3, H, W] to maps float32 [B, C, h, w] on the CPU


class Crops(Dataset[Tensor]):
    """Image files as uint8 [3, H, W] at the network's size."""

    def __init__(self, paths: Sequence[Path], size: ImageConfig) -> None:
        self.paths = paths
        self.size = size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        path = self.paths[index]
        try:
            pixels = unpack(path.read_bytes())
        except NoImage as error:
            raise InputError(f"{path}: {error}") from error
        return torch.from_numpy(resize(pixels, self.size.height, self.size.width)).permute(2, 0, 1).contiguous()


class TrainingCrops(Dataset[tuple[Tensor, int]]):
    """Varied training images with their labels.

    A draw carries its own seed, so an image looks the same whichever process reads it and whenever a run is resumed.
    """

    def __init__(self, crops: Crops, labels: Sequence[int], augmentation: v2.Transform) -> None:
        self.crops = crops
        self.labels = labels
        self.augmentation = augmentation

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(draw.seed)
            return self.augmentation(self.crops[draw.row]), self.labels[draw.row]


def training_batches(
    crops: TrainingCrops, batches: Iterable[list[Draw]], workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of uint8 images [B, 3, H, W] and labels [B], in the order of `batches`."""
    yield from DataLoader(crops, batch_sampler=batches, num_workers=workers)


def encode_batches(
    encode: Encode,
    paths: Sequence[Path],
    size: ImageConfig,
    *,
    batch_size: int,
    workers: int = 0,
    progress: bool = True,
) -> Iterator[Tensor]:
    """Image files to maps float32 [B, C, h, w], a batch at a time; the next ones are read in threads meanwhile."""
    batches = read_ahead(Crops(paths, size), batch_size, threads=max(1, workers))
    total = -(-len(paths) // batch_size)
    yield from map(encode, track(batches, f"encode {len(paths)} images", total=total, disable=not progress))


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

    return encode


def read_ahead(crops: Crops, batch_size: int, *, threads: int) -> Iterator[Tensor]:
    """Batches uint8 [B, 3, H, W] in order, the next BATCHES_AHEAD on their way: they are read without Python's lock."""
    waiting: deque[list[Future[Tensor]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(crops), batch_size):
            rows = range(start, min(start + batch_size, len(crops)))
            waiting.append([pool.submit(crops.__getitem__, row) for row in rows])
            if len(waiting) > BATCHES_AHEAD:
                yield torch.stack([image.result() for image in waiting.popleft()])
        while waiting:
            yield torch.stack([image.result() for image in waiting.popleft()])


def as_input(images: Tensor, device: torch.device) -> Tensor:
    """uint8 images to the encoder's float32 in [0, 1]."""
    return images.to(device, torch.float32) / 255
