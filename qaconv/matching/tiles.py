"""Feature maps go in; the logits of all pairs come out, a tile at a time.

Q queries, G gallery images, C channels, H x W map size, S = H*W locations.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor

from qaconv.matching.quantise import Codes, dequantise, quantise
from qaconv.matching.store import MapStore
from qaconv.models.head import FoldedHead, QAConv

Maps = Tensor | NDArray[Any] | MapStore
Engine = Literal["exact", "int8"]
ENGINES = ("exact", "int8")
BLOCK_BYTES = 128 << 20  # of the float32 maps of one side of a tile
TABLE_BYTES = 2 << 20  # of the cosines at one time: what stays in cache between the product and the maxima


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
    device = device or torch.device("cpu")
    folded = FoldedHead(*(part.to(device) for part in head.folded()))
    mirrored = query_maps is gallery_maps and torch.equal(folded.query, folded.gallery)
    size = max(1, BLOCK_BYTES // (4 * head.channels * head.height * head.width))
    queries, galleries = len(query_maps), len(gallery_maps)
    with Progress(disable=not progress) as bar:
        task = bar.add_task(f"match {queries} x {galleries}", total=queries * galleries)
        for rows in _blocks(queries, size):
            query = _load(query_maps, rows, engine, device)
            for columns in _blocks(galleries, size):
                if mirrored and columns.start < rows.start:
                    continue
                logits = _match(query, _load(gallery_maps, columns, engine, device), folded).cpu()
                yield Tile(rows, columns, logits)
                if mirrored and columns.start > rows.start:
                    yield Tile(columns, rows, logits.T)
                bar.advance(task, logits.numel() * (1 + (mirrored and columns.start > rows.start)))


def _blocks(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(count, start + size))


def _load(maps: Maps, rows: slice, engine: Engine, device: torch.device) -> Tensor:
    """Maps as float32 [n, S, C]; for int8 rounded to codes first."""
    if engine == "int8":
        if isinstance(maps, MapStore):
            codes = maps.codes(rows.start, rows.stop)
        else:
            codes = quantise(_locations(torch.as_tensor(maps[rows])))
        return dequantise(Codes(*(part.to(device) for part in codes)))
    block = maps.block(rows.start, rows.stop) if isinstance(maps, MapStore) else torch.as_tensor(maps[rows])
    return _locations(block.to(device)).contiguous()


def _locations(maps: Tensor) -> Tensor:
    return maps.flatten(2).transpose(1, 2).float()


def _match(queries: Tensor, gallery: Tensor, folded: FoldedHead) -> Tensor:
    """[Q, S, C] and [G, S, C] to logits [Q, G]: product and both maxima in pieces that stay in cache."""
    galleries, locations, _ = gallery.shape
    logits = torch.empty(len(queries), galleries, device=gallery.device)
    width = max(1, TABLE_BYTES // (4 * locations * locations))
    for start in range(0, galleries, width):
        tile = gallery[start : start + width]
        flat = tile.flatten(0, 1)
        for row, query in enumerate(queries):
            table = (flat @ query.T).unflatten(0, (-1, locations))  # [tile, S of gallery, S of query]
            of_query, of_gallery = table.amax(dim=1), table.amax(dim=2)
            logits[row, start : start + len(tile)] = of_query @ folded.query + of_gallery @ folded.gallery
    return logits + folded.bias
