"""A folder in Market-1501's layout goes in; how often mean colour alone finds the right person comes out."""

from pathlib import Path

import numpy as np
from PIL import Image


def mean_colour_rank1(folder: Path, stripes: int = 1) -> float:
    """Rank-1 in [0, 1] of the nearest neighbour in mean colour, by Market-1501's protocol.

    Args:
        folder: holds query and bounding_box_test.
        stripes: horizontal stripes of equal height, each with a mean colour of its own.
    """
    query, query_pids, query_camids = _describe(folder / "query", stripes)
    gallery, gallery_pids, gallery_camids = _describe(folder / "bounding_box_test", stripes)
    distance = np.linalg.norm(query[:, None] - gallery[None], axis=2)
    same_pid = query_pids[:, None] == gallery_pids
    dropped = (same_pid & (query_camids[:, None] == gallery_camids)) | (gallery_pids == -1)
    nearest = np.argmin(np.where(dropped, np.inf, distance), axis=1)
    return float(np.mean(gallery_pids[nearest] == query_pids))


def _describe(folder: Path, stripes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colours [N, 3 * stripes], pids [N] and camids [N]."""
    paths = sorted(folder.glob("*.jpg"))
    colours = []
    for path in paths:
        with Image.open(path) as image:
            colours.append(np.asarray(image.convert("RGB").resize((1, stripes), Image.Resampling.BOX)).ravel())
    pids = np.array([int(path.name.split("_")[0]) for path in paths])
    camids = np.array([int(path.name.split("_")[1][1:].split("s")[0]) for path in paths])
    return np.array(colours, dtype=np.float64), pids, camids
