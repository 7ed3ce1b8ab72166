"""Keep feature maps and their sightings on disk, a shard at a time, and map blocks of them into memory.

A store is a folder: `store.json` says what the maps are and names the shards, each a safetensors file of maps, ids,
camids and times. A shard counts once `store.json` names it, so that a reader sees a shard whole or not at all.
N images, C channels, H x W map size, S = H*W locations.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from qaconv.errors import InputError
from qaconv.files import replacing_file, write_json
from qaconv.runtime.locations import as_locations, first_not_finite, widen
from qaconv.runtime.quantise import Codes, dequantise, quantise

if TYPE_CHECKING:
    import torch

HEADER = "store.json"
DTYPES = ("float32", "float16", "int8")
HALF_MAX = float(np.finfo(np.float16).max)  # of a float16, as which the scales of int8 are stored too
NUMPY_DTYPES = {"F32": "<f4", "F16": "<f2", "I8": "<i1", "I64": "<i8", "F64": "<f8", "U8": "<u1"}  # of safetensors'


class Shard(NamedTuple):
    """One file of a store."""

    name: str
    images: int


class MapStore:
    """Maps on disk with their ids, cameras and times; opened in constant memory, as blocks are mapped when asked for.

    One process may append while others read what they opened. Ids need not be unique.

    Attributes:
        folder: path of the store.
        shape: (N, C, H, W).
        dtype: "float32", "float16", or "int8" with one float16 scale a location.
        model: name of what made the maps, such as the digest of a network. Maps of two models cannot be compared.

    Raises:
        InputError: the folder holds no store, or one of another model than `model`; or a shard is missing, truncated
            or of another store.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from qaconv.matching import MapStore
        >>> folder = tempfile.TemporaryDirectory()
        >>> store = MapStore.create(Path(folder.name), shape=(4, 3, 2), dtype="float16", model="example")
        >>> store.append(np.ones((2, 4, 3, 2)), ids=["a.jpg", "b.jpg"], camids=[1, 2], times=[0.5, np.nan])
        >>> MapStore(Path(folder.name)).shape
        (2, 4, 3, 2)
        >>> store.block(0, 1).dtype
        dtype('float32')
        >>> folder.cleanup()
    """

    def __init__(self, folder: Path | str, *, model: str | None = None) -> None:
        self.folder = folder = Path(folder)
        self._read_header()
        if model is not None and model != self.model:
            raise InputError(f"{folder / HEADER}: maps must be of model {model!r}, got {self.model!r}")
        for shard in self._shards:
            self._check(shard)

    @classmethod
    def create(
        cls,
        folder: Path | str,
        shape: tuple[int, int, int],
        *,
        dtype: Literal["float32", "float16", "int8"] = "float16",
        model: str,
    ) -> "MapStore":
        """Create an empty store of maps of `shape` (C, H, W), and its folder if it does not exist.

        Raises:
            InputError: the folder holds a store already.
        """
        folder = Path(folder)
        if (folder / HEADER).exists():
            raise InputError(f"{folder}: must not hold a store of maps already")
        write_json(folder / HEADER, {"shape": list(shape), "dtype": dtype, "model": model, "shards": []})
        return cls(folder)

    def append(
        self, maps: "NDArray[Any] | torch.Tensor", ids: Sequence[str], camids: ArrayLike, times: ArrayLike
    ) -> None:
        """Write one shard; a few thousand images are a good size.

        Args:
            maps: array or tensor [n, C, H, W] of finite values.
            ids: names such as the images' paths, [n].
            camids: cameras, [n].
            times: times in seconds, [n]; NaN where unknown.

        Raises:
            ValueError: the maps have another shape, are not finite or too large for the store's type, or a column has
                another length.
        """
        maps = as_array(maps)
        columns = {"camids": np.array(camids, dtype=np.int64), "times": np.array(times, dtype=np.float64)}
        lengths = {"ids": len(ids), **{name: len(column) for name, column in columns.items()}}
        if maps.shape[1:] != self.shape[1:]:
            raise ValueError(f"maps must have shape [n, {', '.join(map(str, self.shape[1:]))}], got {maps.shape}")
        if set(lengths.values()) != {len(maps)}:
            raise ValueError(f"columns must have length {len(maps)}, as the maps have, got {lengths}")
        locations = as_locations(maps)
        if (image := first_not_finite(locations)) is not None:
            raise ValueError(f"maps must be finite, got NaN or infinity in image {image}, {ids[image]!r}")
        if self.dtype != "float32" and (largest := np.abs(locations).max(initial=0)) > HALF_MAX:
            raise ValueError(f"maps of a store of {self.dtype} must be in -{HALF_MAX:g}..{HALF_MAX:g}, got {largest:g}")
        arrays: dict[str, NDArray[Any]] = {"ids": _encode(ids), **columns}
        if self.dtype == "int8":
            arrays["maps"], arrays["scales"] = quantise(locations)
        else:
            arrays["maps"] = locations.astype(self.dtype, copy=False)
        name = _shard_name(len(self._shards))
        with replacing_file(self.folder / name) as beside:
            save_file(arrays, beside, metadata={"of": self._identity()})
        self._write_header([*self._shards, Shard(name, len(maps))])

    def __len__(self) -> int:
        return sum(shard.images for shard in self._shards)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Return (N, C, H, W)."""
        return (len(self), *self._map_shape)

    def block(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the maps of the images start..stop as float32 [n, C, H, W], a view of contiguous [n, S, C]."""
        if self.dtype == "int8":
            return self._as_maps(dequantise(self.codes(start, stop)))
        return self._as_maps(widen(self._rows("maps", start, stop)))

    def take(self, images: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the maps of chosen images as float32 [n, C, H, W], in the order of `images`."""
        _, channels, height, width = self.shape
        taken = np.empty((len(images), height * width, channels), dtype=np.float32)
        offset = 0
        for shard in self._shards:
            positions = np.flatnonzero((images >= offset) & (images < offset + shard.images))
            if len(positions):
                rows = images[positions] - offset
                maps = self._mapped(shard, "maps")[rows]
                if self.dtype == "int8":
                    taken[positions] = dequantise(Codes(maps, self._mapped(shard, "scales")[rows]))
                else:
                    taken[positions] = maps
            offset += shard.images
        return self._as_maps(taken)

    def codes(self, start: int, stop: int) -> Codes:
        """Return the maps of the images start..stop as codes [n, S, C] and scales; an int8 store does not copy them."""
        if self.dtype == "int8":
            return Codes(self._rows("maps", start, stop), self._rows("scales", start, stop))
        return quantise(widen(self._rows("maps", start, stop)))

    @property
    def ids(self) -> NDArray[np.object_]:
        """Return the names [N], read from disk."""
        names: list[str] = []
        for shard in self._shards:
            names += json.loads(self._mapped(shard, "ids").tobytes())
        return np.array(names, dtype=object)

    @property
    def camids(self) -> NDArray[np.int64]:
        """Return the cameras [N], read from disk."""
        return self._rows("camids", 0, len(self)) if len(self) else np.empty(0, dtype=np.int64)

    @property
    def times(self) -> NDArray[np.float64]:
        """Return the times [N] in seconds, NaN where unknown, read from disk."""
        return self._rows("times", 0, len(self)) if len(self) else np.empty(0, dtype=np.float64)

    def _as_maps(self, locations: NDArray[np.float32]) -> NDArray[np.float32]:
        """View [n, S, C] as [n, C, H, W]."""
        _, channels, height, width = self.shape
        return locations.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)

    def _rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return rows of one array; within one shard they are mapped, not copied."""
        parts = [self._mapped(shard, name)[first:last] for shard, first, last in self._overlaps(start, stop)]
        if not parts:
            raise ValueError(f"rows must be at least one of 0..{len(self)}, got {start}..{stop}")
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _mapped(self, shard: Shard, name: str) -> NDArray[Any]:
        """Map an array of a shard's file into memory; what is written to the array does not reach the file."""
        path = self.folder / shard.name
        with path.open("rb") as file:  # 8 bytes of length, a JSON header of that length, then the arrays
            header_bytes = int.from_bytes(file.read(8), "little")
            entry = json.loads(file.read(header_bytes))[name]
        shape = tuple(entry["shape"])
        dtype = np.dtype(NUMPY_DTYPES[entry["dtype"]])
        if 0 in shape:  # there is nothing to map
            return np.empty(shape, dtype)
        offset = 8 + header_bytes + entry["data_offsets"][0]
        return np.asarray(np.memmap(path, dtype, mode="c", offset=offset, shape=shape))

    def _overlaps(self, start: int, stop: int) -> Iterator[tuple[Shard, int, int]]:
        """Yield the shards that hold the images start..stop, and the first and last of their rows."""
        offset = 0
        for shard in self._shards:
            first, last = max(start - offset, 0), min(stop - offset, shard.images)
            if first < last:
                yield shard, first, last
            offset += shard.images

    def _check(self, shard: Shard) -> None:
        path = self.folder / shard.name
        try:
            with safe_open(path, framework="np") as file:
                belongs = (file.metadata() or {}).get("of") == self._identity()
                images = file.get_slice("maps").get_shape()[0] if belongs else 0
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path}: is missing, truncated or not a shard: {error}; write the store again") from error
        if not belongs or images != shard.images:
            content = f"{images} images" if belongs else "maps of another shape, type or model"
            raise InputError(f"{path}: must hold the {shard.images} maps that {HEADER} names, got {content}")

    def _identity(self) -> str:
        """Return what every shard of this store carries."""
        return json.dumps({"shape": self._map_shape, "dtype": self.dtype, "model": self.model})

    def _read_header(self) -> None:
        path = self.folder / HEADER
        try:
            header = json.loads(path.read_text(encoding="utf-8"))
            channels, height, width = header["shape"]
            self._map_shape = (int(channels), int(height), int(width))
            self.dtype, self.model = header["dtype"], header["model"]
            self._shards = [Shard(_shard_name(number), images) for number, images in enumerate(header["shards"])]
            if self.dtype not in DTYPES:
                raise ValueError(f"unknown dtype {self.dtype!r}, allowed: {', '.join(DTYPES)}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: must be the header of a store of maps: {error}") from error

    def _write_header(self, shards: list[Shard]) -> None:
        header = {"shape": list(self._map_shape), "dtype": self.dtype, "model": self.model}
        write_json(self.folder / HEADER, {**header, "shards": [shard.images for shard in shards]})
        self._shards = shards


def _shard_name(number: int) -> str:
    return f"{number:06d}.safetensors"


def as_array(maps: "NDArray[Any] | torch.Tensor") -> NDArray[Any]:
    """Return maps as an array; a tensor's gradient is left behind, and it is copied only from another device."""
    return np.asarray(maps.detach().cpu() if hasattr(maps, "detach") else maps)


def _encode(ids: Sequence[str]) -> NDArray[np.uint8]:
    """Return JSON as bytes, as a name may hold any character."""
    return np.frombuffer(json.dumps(list(ids), ensure_ascii=False).encode(), dtype=np.uint8)
