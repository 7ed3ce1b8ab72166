"""Render a synthetic site into Market-1501's folders."""

import logging
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qaconv.config import Params
from qaconv.data.layouts import market1501
from qaconv.metrics import evaluate_ranking
from qaconv.paths import RAW
from qaconv.synthetic.render import render_site

log = logging.getLogger(__name__)


def synthetic(params: Params, site: str) -> None:
    """Render a site into data/raw/<site>, and log the rank-1 of a baseline without learning."""
    folder = RAW / site
    render_site(params.site(site), folder, processes=os.cpu_count() or 1)
    log.info("%s: nearest neighbour on mean colour has rank-1 %.1f %%", site, 100 * mean_colour_rank1(folder))


def mean_colour_rank1(folder: Path) -> float:
    """Return rank-1 in [0, 1] of a site's queries by the nearest mean colour."""
    manifest = market1501.read(folder, folder.name)
    query, gallery = manifest.split("query"), manifest.split("gallery")
    query_colours, gallery_colours = (
        np.array([_mean_colour(folder / image) for image in rows["image"]]) for rows in (query, gallery)
    )
    distances = np.linalg.norm(query_colours[:, None] - gallery_colours, axis=2)
    ranking = evaluate_ranking(-distances, query["pid"], gallery["pid"], query["camid"], gallery["camid"])
    return float(ranking.cmc[0])


def _mean_colour(path: Path) -> NDArray[np.float64]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((1, 1), Image.Resampling.BOX), dtype=np.float64).ravel()
