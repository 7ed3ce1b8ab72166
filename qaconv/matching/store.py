"""Feature maps and their sightings go in, a shard at a time; blocks of them come out, from disk.

A store is a folder: `store.json` says what the maps are and names the shards, each a safetensors file of maps, ids,
camids and times. A shard counts once `store.json` names it, so that a reader sees a shard whole or not at all.
N images, C channels, H x W map size, S = H*W locations.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from qaconv.errors import InputError
from qaconv.files import replacing_file, write_json
from qaconv.matching.quantise import Codes, dequantise, quantise

HEADER = "store.json"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "int8": torch.int8}


class Shard(NamedTuple):
    """One file of a store."""

    name: str
    images: int


class MapStore:
    """Maps on disk with who, where and when; opened in constant memory, as blocks are mapped when asked for.

    One process may append while others read what they opened. Ids are not checked for being unique.

    Attributes:
        folder: where it lies.
        shape: (N, C, H, W).
        dtype: "float32", "float16", or "int8" with one float16 scale a location.
        model: what wrote the maps: the digest of a network, say. Maps of two models cannot be compared.

    Raises:
        InputError: the folder holds no store, or one of another model than `model`; a shard is missing, truncated, or
            another store's.
    """

    def __init__(self, folder: Path, *, model: str | None = None) -> None:
        self.folder = folder
        self._read_header()
        if model is not None and model != self.model:
            raise InputError(f"{folder / HEADER}: maps are of model {self.model!r}; expected those of {model!r}")
        for shard in self._shards:
            self._check(shard)

    @classmethod
    def create(
        cls,
        folder: Path,
        shape: tuple[int, int, int],
        *,
        dtype: Literal["float32", "float16", "int8"] = "float16",
        model: str,
    ) -> "MapStore":
        """An empty store of maps of `shape` (C, H, W); the folder is made where it is missing.

        Raises:
            InputError: the folder holds a store.
        """
        if (folder / HEADER).exists():
            raise InputError(f"{folder}: holds a store of maps; legal is a folder without one")
        write_json(folder / HEADER, {"shape": list(shape), "dtype": dtype, "model": model, "shards": []})
        return cls(folder)

    def append(self, maps: Tensor | NDArray[Any], ids: Sequence[str], camids: ArrayLike, times: ArrayLike) -> None:
        """Writes one shard; a few thousand images make a good one.

        Args:
            maps: [n, C, H, W], finite.
            ids: n names, such as the images' paths.
            camids: n cameras.
            times: n times in seconds; NaN where unknown.

        Raises:
            ValueError: maps of another shape, or not finite; columns of another length.
        """
        maps = torch.as_tensor(maps)
        columns = {
            "camids": torch.from_numpy(np.array(camids, dtype=np.int64)),
            "times": torch.from_numpy(np.array(times, dtype=np.float64)),
        }
        lengths = {"ids": len(ids), **{name: len(column) for name, column in columns.items()}}
        if tuple(maps.shape[1:]) != self.shape[1:] or not maps.isfinite().all():
            expected = f"[n, {', '.join(map(str, self.shape[1:]))}]"
            raise ValueError(f"maps have shape {tuple(maps.shape)}; expected {expected}, all finite")
        if set(lengths.values()) != {len(maps)}:
            raise ValueError(f"{len(maps)} maps have columns of lengths {lengths}")
        locations = maps.detach().float().flatten(2).transpose(1, 2)
        tensors = {"ids": _encode(ids), **columns}
        if self.dtype == "int8":
            tensors["maps"], tensors["scales"] = quantise(locations)
        else:
            tensors["maps"] = locations.to(DTYPES[self.dtype])
        name = _shard_name(len(self._shards))
        with replacing_file(self.folder / name) as beside:
            contiguous = {key: value.cpu().contiguous() for key, value in tensors.items()}
            save_file(contiguous, beside, metadata={"of": self._identity()})
        self._write_header([*self._shards, Shard(name, len(maps))])

    def __len__(self) -> int:
        return sum(shard.images for shard in self._shards)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self), *self._map_shape)

    def block(self, start: int, stop: int) -> Tensor:
        """Maps of the images start..stop as float32 [n, C, H, W], a view of contiguous [n, S, C]."""
        locations = dequantise(self.codes(start, stop)) if self.dtype == "int8" else self._rows("maps", start, stop)
        *_, height, width = self.shape
        return locations.float().transpose(1, 2).unflatten(2, (height, width))

    def take(self, images: NDArray[np.int64]) -> Tensor:
        """Maps of chosen images as float32 [n, C, H, W], in the order asked for."""
        _, channels, height, width = self.shape
        taken = torch.empty(len(images), height * width, channels)
        offset = 0
        for shard in self._shards:
            wanted = np.flatnonzero((images >= offset) & (images < offset + shard.images))
            if len(wanted):
                rows = torch.from_numpy(images[wanted] - offset)
                with self._open(shard) as file:
                    maps = file.get_tensor("maps")[rows]
                    int8 = self.dtype == "int8"
                    taken[wanted] = dequantise(Codes(maps, file.get_tensor("scales")[rows])) if int8 else maps.float()
            offset += shard.images
        return taken.transpose(1, 2).unflatten(2, (height, width))

    def codes(self, start: int, stop: int) -> Codes:
        """Maps of the images start..stop as codes [n, S, C] and scales; those of an int8 store are not copied."""
        if self.dtype == "int8":
            return Codes(self._rows("maps", start, stop), self._rows("scales", start, stop))
        return quantise(self._rows("maps", start, stop).float())

    @property
    def ids(self) -> NDArray[np.object_]:
        """Names [N], read from disk."""
        names: list[str] = []
        for shard in self._shards:
            with self._open(shard) as file:
                names += json.loads(file.get_tensor("ids").numpy().tobytes())
        return np.array(names, dtype=object)

    @property
    def camids(self) -> NDArray[np.int64]:
        """Cameras [N], read from disk."""
        return self._rows("camids", 0, len(self)).numpy()

    @property
    def times(self) -> NDArray[np.float64]:
        """Times [N] in seconds, NaN where unknown, read from disk."""
        return self._rows("times", 0, len(self)).numpy()

    def _rows(self, name: str, start: int, stop: int) -> Tensor:
        """One tensor's rows; within one shard they are mapped, not copied."""
        parts = []
        for shard, first, last in self._overlaps(start, stop):
            with self._open(shard) as file:
                parts.append(file.get_slice(name)[first:last])
        if not parts:
            raise ValueError(f"rows {start}..{stop} of {len(self)}; legal is at least one, within the store")
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _overlaps(self, start: int, stop: int) -> Iterator[tuple[Shard, int, int]]:
        """The shards that hold images start..stop, and which of their rows."""
        offset = 0
        for shard in self._shards:
            first, last = max(start - offset, 0), min(stop - offset, shard.images)
            if first < last:
                yield shard, first, last
            offset += shard.images

    def _open(self, shard: Shard) -> Any:
        return safe_open(self.folder / shard.name, framework="pt")

    def _check(self, shard: Shard) -> None:
        path = self.folder / shard.name
        try:
            with self._open(shard) as file:
                belongs = (file.metadata() or {}).get("of") == self._identity()
                images = file.get_slice("maps").get_shape()[0] if belongs else 0
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path}: is missing, truncated or no shard: {error}; write the store anew") from error
        if not belongs or images != shard.images:
            found = f"{images} images, not {shard.images}" if belongs else "maps of another shape, type or model"
            raise InputError(f"{path}: is not the shard that {HEADER} names: it holds {found}; write the store anew")

    def _identity(self) -> str:
        """What every shard of this store carries."""
        return json.dumps({"shape": self._map_shape, "dtype": self.dtype, "model": self.model})

    def _read_header(self) -> None:
        path = self.folder / HEADER
        try:
            header = json.loads(path.read_text(encoding="utf-8"))
            channels, height, width = header["shape"]
            self._map_shape = (int(channels), int(height), int(width))
            self.dtype, self.model = header["dtype"], header["model"]
            self._shards = [
                Shard(f"{number:06d}.safetensors", images) for number, images in enumerate(header["shards"])
            ]
            if self.dtype not in DTYPES:
                raise ValueError(f"dtype is {self.dtype!r}; legal are {', '.join(DTYPES)}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: is no header of a store of maps: {error}") from error

    def _write_header(self, shards: list[Shard]) -> None:
        header = {"shape": list(self._map_shape), "dtype": self.dtype, "model": self.model}
        write_json(self.folder / HEADER, {**header, "shards": [shard.images for shard in shards]})
        self._shards = shards


def _shard_name(number: int) -> str:
    return f"{number:06d}.safetensors"


def _encode(ids: Sequence[str]) -> Tensor:
    """JSON as bytes: a name may hold any character."""
    return torch.frombuffer(bytearray(json.dumps(list(ids), ensure_ascii=False).encode()), dtype=torch.uint8)
