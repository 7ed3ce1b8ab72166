"""Feature maps go in; the logits of all pairs come out, a tile at a time.

Q queries, G gallery images, C channels, H x W map size, S = H*W locations.
"""

from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple, Protocol, get_args

import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor

from qaconv.matching.engines.compiled import CompiledMatcher, load_kernel
from qaconv.matching.engines.torch_tiles import TorchMatcher
from qaconv.matching.quantise import Block, quantise
from qaconv.matching.store import MapStore
from qaconv.models.head import QAConv

Maps = Tensor | NDArray[Any] | MapStore
Engine = Literal["exact", "int8"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
MIRRORED_BLOCKS = 16  # of images that are matched with themselves, at least: 17/32 of the pairs are computed
BLOCK_BYTES = 128 << 20  # of the float32 maps of one side of a tile


class Matcher(Protocol):
    """One way to match two blocks of maps on one device."""

    def prepare(self, queries: Block) -> Any: ...

    def table(self, queries: Any, gallery: Block) -> Tensor: ...

    def pairs(self, queries: Any, gallery: Block, query_index: Tensor, gallery_index: Tensor) -> Tensor: ...


class Tile(NamedTuple):
    """The logits of some queries against some of the gallery."""

    rows: slice  # queries
    columns: slice  # gallery images
    logits: Tensor  # float32, on the CPU


@torch.no_grad()
def logit_tiles(
    query_maps: Maps,
    gallery_maps: Maps,
    head: QAConv,
    *,
    engine: Engine = "exact",
    device: torch.device | None = None,
    progress: bool = False,
) -> Iterator[Tile]:
    """Tiles that cover the table of logits [Q, G], each pair once; memory does not grow with Q, G or Q x G.

    Where both sides are the same object and the head is symmetric, each pair of images is matched once, and its tile
    comes twice, the second time transposed; otherwise all tiles of a block of queries come before those of the next.

    Args:
        query_maps: [Q, C, H, W], unit length over C; or a store of them.
        gallery_maps: the same.
        head: its running statistics are used, whatever its mode.
        engine: "exact" in float32, or "int8": maps rounded to 8 bits.
        device: where to match; the CPU unless given. Maps go there a tile at a time.
        progress: show a bar.

    Raises:
        ValueError: an unknown engine, or maps of another shape than the head was made for.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine is {engine!r}; legal are {', '.join(map(repr, ENGINES))}")
    expected = (head.channels, head.height, head.width)
    for name, maps in (("query_maps", query_maps), ("gallery_maps", gallery_maps)):
        if tuple(maps.shape[1:]) != expected:
            raise ValueError(f"{name} have shape {tuple(maps.shape)}; expected [N, {', '.join(map(str, expected))}]")
    folded = head.folded()
    matcher = choose_matcher(head, device)
    mirrored = query_maps is gallery_maps and folded.symmetric
    floats = head.channels * head.height * head.width
    size = max(1, BLOCK_BYTES // (4 * floats))
    queries, galleries = len(query_maps), len(gallery_maps)
    if mirrored:  # a tile on the diagonal saves nothing, so there are several of them
        size = min(size, -(-queries // MIRRORED_BLOCKS))
    on_gpu = device is not None and device.type == "cuda"
    kept = torch.cuda.mem_get_info(device)[0] // 4 // (4 * floats * size) if on_gpu else 0

    @lru_cache(kept)  # blocks that stay on the GPU, so that each moves there once
    def load_gallery(start: int, stop: int) -> Block:
        block = load_block(gallery_maps, slice(start, stop), engine)
        return matcher.prepare(block) if on_gpu else block

    with Progress(disable=not progress) as bar:
        task = bar.add_task(f"match {queries} x {galleries}", total=queries * galleries)
        for rows in blocks(queries, size):
            query = matcher.prepare(load_block(query_maps, rows, engine))
            for columns in blocks(galleries, size):
                if mirrored and columns.start < rows.start:
                    continue
                logits = matcher.table(query, load_gallery(columns.start, columns.stop))
                yield Tile(rows, columns, logits)
                if mirrored and columns.start > rows.start:
                    yield Tile(columns, rows, logits.T)
                bar.advance(task, logits.numel() * (1 + (mirrored and columns.start > rows.start)))


def choose_matcher(head: QAConv, device: torch.device | None) -> Matcher:
    """Choose the fastest way to match with this head on this device; the CPU unless given."""
    folded, device = head.folded(), device or torch.device("cpu")
    if head.height * head.width == 1:  # one product, which torch multiplies
        return TorchMatcher(folded, device)
    if device.type == "cpu" and (kernel := load_kernel()) is not None:
        return CompiledMatcher(folded, kernel)
    if device.type == "cuda" and find_spec("triton"):
        from qaconv.matching.engines import cuda  # Triton comes with PyTorch for CUDA alone

        if cuda.fits(head.height * head.width, head.channels, device):
            return cuda.TritonMatcher(folded, device)
    return TorchMatcher(folded, device)


def load_block(maps: Maps, rows: slice, engine: Engine) -> Block:
    """Maps of some images as float32 [n, S, C], or for int8 as codes."""
    if isinstance(maps, MapStore) and engine == "int8":
        return maps.codes(rows.start, rows.stop)
    locations = load_floats(maps, rows)
    return quantise(locations) if engine == "int8" else locations


def load_floats(maps: Maps, rows: slice) -> Tensor:
    """Maps of some images as float32 [n, S, C]."""
    block = maps.block(rows.start, rows.stop) if isinstance(maps, MapStore) else torch.as_tensor(maps[rows])
    return block.flatten(2).transpose(1, 2).float().contiguous()


def blocks(count: int, size: int) -> Iterator[slice]:
    """0..count in slices of at most `size`."""
    for start in range(0, count, size):
        yield slice(start, min(count, start + size))
