"""Match all pairs of two sets of feature maps, a tile of logits at a time.

Q queries, G gallery images, C channels, H x W map size, S = H*W locations.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from qaconv.matching.store import MapStore, as_array
from qaconv.runtime.head import Head
from qaconv.runtime.locations import as_locations, first_not_finite
from qaconv.runtime.matcher import Matcher, cpu_matcher
from qaconv.runtime.quantise import Block, quantise

if TYPE_CHECKING:
    import torch

    Maps = NDArray[Any] | MapStore | torch.Tensor

Engine = Literal["exact", "int8"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
MIRRORED_BLOCKS = 16  # of images that are matched with themselves, at least: 17/32 of the pairs are computed
BLOCK_BYTES = 128 << 20  # of the float32 maps of one side of a tile


class FoldableHead(Protocol):
    """A head that can be written as one affine map: a `Head`, or a `QAConv` of torch."""

    def folded(self) -> Head:
        """Return the affine map."""


class Tile(NamedTuple):
    """The logits of some queries with some of the gallery."""

    rows: slice  # queries
    columns: slice  # gallery images
    logits: NDArray[np.float32]  # [rows, columns]


def logit_tiles(
    query_maps: "Maps",
    gallery_maps: "Maps",
    head: FoldableHead,
    *,
    engine: Engine = "exact",
    device: "torch.device | None" = None,
    progress: bool = False,
) -> Iterator[Tile]:
    """Yield tiles that cover the table of logits [Q, G], each pair once; memory does not grow with Q, G or Q x G.

    Where both sides are the same object and the head is symmetric, each pair of images is matched once, and its tile
    comes twice, the second time transposed. Otherwise all tiles of a block of queries come before those of the next.

    Args:
        query_maps: arrays or tensors [Q, C, H, W] of unit length over C, or a store of them.
        gallery_maps: maps [G, C, H, W], or a store of them.
        head: a folded head, or a `QAConv`, whose running statistics are used in either mode.
        engine: "exact" in float32, or "int8": maps rounded to 8 bits.
        device: torch device to match on. Maps move there a tile at a time. Default: None, the CPU without torch.
        progress: show a bar.

    Raises:
        ValueError: the engine is unknown, or maps have another shape than the head was made for or are not finite.
    """
    folded = head.folded()
    mirrored = query_maps is gallery_maps and folded.symmetric
    size = max(1, BLOCK_BYTES // (4 * math.prod(check_shape("query_maps", query_maps, folded))))
    if mirrored:  # a tile on the diagonal saves nothing, so there are several of them
        size = max(1, min(size, -(-len(query_maps) // MIRRORED_BLOCKS)))
    for tile in block_tiles(query_maps, gallery_maps, head, size, engine=engine, device=device, progress=progress):
        yield tile
        if mirrored and tile.columns.start > tile.rows.start:
            yield Tile(tile.columns, tile.rows, tile.logits.T)


def block_tiles(
    query_maps: "Maps",
    gallery_maps: "Maps",
    head: FoldableHead,
    size: int,
    *,
    engine: Engine = "exact",
    device: "torch.device | None" = None,
    progress: bool = False,
    leave_out: Callable[[slice, slice], bool] = lambda rows, columns: False,
) -> Iterator[Tile]:
    """Yield the tiles of blocks of `size` images; a pair of blocks comes once where both sides are the same object.

    Args:
        query_maps: as in `logit_tiles`, like `gallery_maps`, `head`, `engine`, `device` and `progress`.
        gallery_maps: the other side. If it is the same object and the head is symmetric, no columns come before rows.
        head: the head.
        size: number of images of a block.
        engine: "exact" or "int8".
        device: torch device to match on.
        progress: show a bar.
        leave_out: function of a block of rows and one of columns that says whether they are not matched. Default: none.

    Raises:
        ValueError: as of `logit_tiles`.
    """
    check_engine(engine)
    folded = head.folded()
    expected = check_shape("query_maps", query_maps, folded)
    check_shape("gallery_maps", gallery_maps, folded, expected)
    matcher = choose_matcher(folded, device)
    mirrored = query_maps is gallery_maps and folded.symmetric
    queries, galleries = len(query_maps), len(gallery_maps)
    kept = _blocks_kept(device, 4 * math.prod(expected) * size)

    @lru_cache(kept)  # blocks that stay on the GPU, so that each moves there once
    def load_gallery(start: int, stop: int) -> Any:
        block = load_block("gallery_maps", gallery_maps, slice(start, stop), engine)
        return matcher.prepare(block) if kept else block

    with Progress(disable=not progress) as bar:
        task = bar.add_task(f"match {queries} x {galleries}", total=queries * galleries)
        for rows in blocks(queries, size):
            wanted = [
                columns
                for columns in blocks(galleries, size)
                if not (mirrored and columns.start < rows.start) and not leave_out(rows, columns)
            ]
            if not wanted:
                continue
            query = matcher.prepare(load_block("query_maps", query_maps, rows, engine))
            for columns in wanted:
                logits = matcher.table(query, load_gallery(columns.start, columns.stop))
                yield Tile(rows, columns, logits)
                bar.advance(task, logits.size * (1 + (mirrored and columns.start > rows.start)))


def choose_matcher(head: FoldableHead, device: "torch.device | None" = None) -> Matcher:
    """Return the fastest way to match with this head on this device. Default: the CPU."""
    if device is None or device.type == "cpu":
        return cpu_matcher(head.folded())
    from qaconv.matching.engines.device import device_matcher  # imports torch

    return device_matcher(head.folded(), device)


def check_engine(engine: str) -> None:
    """Check that an engine is known.

    Raises:
        ValueError: it is not.
    """
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}, allowed: {', '.join(ENGINES)}")


def check_shape(name: str, maps: "Maps", head: Head, expected: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """Return (C, H, W) of maps.

    Args:
        name: what the message calls the maps.
        maps: maps [N, C, H, W].
        head: the folded head.
        expected: (C, H, W) that they must have. Default: the head's; or any with S locations, if it has none.

    Raises:
        ValueError: the maps have another shape.
    """
    if not hasattr(maps, "shape"):
        raise ValueError(f"{name} must be an array, a tensor or a store of maps, got a {type(maps).__name__}")
    shape = tuple(maps.shape)
    expected = expected or head.map_shape
    if expected is not None and shape[1:] != expected:
        raise ValueError(f"{name} must have shape [N, {', '.join(map(str, expected))}], got {shape}")
    if len(shape) != 4 or shape[2] * shape[3] != len(head.query):
        raise ValueError(f"{name} must have shape [N, C, H, W] with H * W = {len(head.query)}, got {shape}")
    return shape[1:]


def load_block(name: str, maps: "Maps", rows: slice, engine: Engine) -> Block:
    """Return maps of some images as float32 [n, S, C], or for int8 as codes; see `load_floats`."""
    if isinstance(maps, MapStore) and engine == maps.dtype == "int8":
        codes = maps.codes(rows.start, rows.stop)
        check_finite(name, codes.scales[:, :, None].astype(np.float32), range(rows.start, rows.stop))
        return codes
    locations = load_floats(name, maps, rows)
    return quantise(locations) if engine == "int8" else locations


def load_floats(name: str, maps: "Maps", rows: slice) -> NDArray[np.float32]:
    """Return maps of some images as float32 [n, S, C].

    Args:
        name: what the message calls the maps.
        maps: maps [N, C, H, W].
        rows: indices of the images.

    Raises:
        ValueError: a value is not finite.
    """
    block = maps.block(rows.start, rows.stop) if isinstance(maps, MapStore) else as_array(maps[rows])
    locations = as_locations(block)
    check_finite(name, locations, range(rows.start, rows.stop))
    return locations


def check_finite(name: str, locations: NDArray[np.float32], images: Sequence[int]) -> None:
    """Check that no value is NaN or infinite: the maxima of a match would hide some, and none would give a score.

    Args:
        name: what the message calls the maps.
        locations: maps [n, S, C].
        images: indices of the images among all maps, [n].

    Raises:
        ValueError: a value is not finite.
    """
    row = first_not_finite(locations)
    if row is not None:
        raise ValueError(f"{name} must be finite, got NaN or infinity in image {images[row]}")


def blocks(count: int, size: int) -> Iterator[slice]:
    """Yield 0..count in slices of at most `size`."""
    for start in range(0, count, size):
        yield slice(start, min(count, start + size))


def _blocks_kept(device: "torch.device | None", block_bytes: int) -> int:
    """Return how many gallery blocks a quarter of a GPU's free memory holds; 0 on the CPU."""
    if device is None or device.type != "cuda":
        return 0
    from qaconv.matching.engines.device import free_bytes

    return free_bytes(device) // 4 // block_bytes
