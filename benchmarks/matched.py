"""Match maps that lie in memory as the stage match does."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from qaconv.matching import MapStore
from qaconv.matching.blocks import Job, join_blocks, match_blocks
from qaconv.matching.results import Matched
from qaconv.matching.tiles import Engine
from qaconv.models.head import QAConv


def match_maps(
    maps: NDArray[np.float32],
    head: QAConv,
    queries: int,
    folder: Path,
    *,
    is_measured: NDArray[np.bool_] | None = None,
    engine: Engine = "exact",
    device: torch.device | None = None,
) -> tuple[MapStore, Matched]:
    """Store maps in a new folder, match all with each other there, and return store and matches."""
    count, channels, height, width = maps.shape
    store = MapStore.create(folder / "maps", (channels, height, width), dtype="float32", model="model")
    store.append(maps, ids=[str(image) for image in range(count)], camids=np.zeros(count), times=np.zeros(count))
    measured = np.ones(count, dtype=bool) if is_measured is None else is_measured
    job = Job.plan(store, head, queries, measured, engine)
    match_blocks(job, folder / "blocks", device or torch.device("cpu"))
    join_blocks(job, folder / "blocks", folder / "matches")
    return store, Matched.open(folder / "matches")
