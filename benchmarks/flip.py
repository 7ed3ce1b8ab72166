"""Measure `encode.flip` with the trained networks of artifacts/model on drawn sites that are no target.

`python -m benchmarks.flip` prints the mAP of each method without flip, with mirrored maps averaged as they are, and
with those moved to the place that they show, as the encoder averages them; and the time to encode an image.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from benchmarks.baseline import draw
from benchmarks.machine import describe
from benchmarks.recipes import DRAWN, shift_of
from qaconv.data.loading import Crops, as_input
from qaconv.data.manifest import Manifest
from qaconv.matching import score_matrix
from qaconv.metrics import evaluate_ranking
from qaconv.models.checkpoint import Network, load_network
from qaconv.models.encoder import Encoder
from qaconv.models.mirroring import average_mirrored
from qaconv.paths import MODELS

CPU = torch.device("cpu")
TIMED = 64  # images
Averages = dict[str, Callable[[Tensor, Tensor], Tensor]]


def main() -> None:
    """Measure the networks and print their table."""
    torch.set_num_threads(1)
    methods = sorted(folder.name for folder in MODELS.iterdir())
    table = Table("method", "site", "none", "not moved", "flip", title="mAP in per cent, direct", title_justify="left")
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{describe()['processor']}, 1 thread")
    with TemporaryDirectory() as folder:
        sites = {name: draw(name, Path(folder), site) for name, site in DRAWN.items()}
        for method in methods:
            network, _ = load_network(MODELS / method)
            for name, site in sites.items():
                table.add_row(method, name, *(f"{value:.1f}" for value in measure(network, site)))
            without, with_flip = (_time(network, sites["501"], flip) for flip in (False, True))
            console.print(f"{method}: {without:.1f} processor ms an image, with flip {with_flip:.1f}")
    console.print(table)


def measure(network: Network, site: Manifest) -> list[float]:
    """Return the mAP of a site in per cent: without flip, averaged as they are, and moved."""
    shift = shift_of(network)
    network.encoder.shift = None
    averages: Averages = {
        "none": lambda maps, _: F.normalize(maps, dim=1),
        "not moved": lambda maps, mirrored: average_mirrored(maps, mirrored, 0),
        "flip": lambda maps, mirrored: average_mirrored(maps, mirrored, shift),
    }
    query, gallery = site.split("query"), site.split("gallery")
    encoded = [[_encode(network, site, part, flip) for flip in (False, True)] for part in (query, gallery)]
    values = []
    for average in averages.values():
        query_maps, gallery_maps = (average(*both) for both in encoded)
        scores = score_matrix(query_maps, gallery_maps, network.head, device=CPU)
        metrics = evaluate_ranking(scores, query["pid"], gallery["pid"], query["camid"], gallery["camid"])
        values.append(100 * metrics.mean_average_precision)
    return values


@torch.inference_mode()
def _encode(network: Network, site: Manifest, part: pd.DataFrame, flip: bool) -> Tensor:
    crops = Crops([site.root / image for image in part["image"]], network.architecture.image)
    batches = [range(start, min(start + 64, len(part))) for start in range(0, len(part), 64)]
    images = (as_input(crops.batch(batch), CPU) for batch in batches)
    return torch.cat([network.encoder(each.flip(-1) if flip else each) for each in images])


def _time(network: Network, site: Manifest, flip: bool) -> float:
    """Return processor milliseconds to encode an image that has been read."""
    assert isinstance(network.encoder, Encoder)
    network.encoder.shift = shift_of(network) if flip else None
    rows = site.split("gallery")[:TIMED]
    crops = Crops([site.root / image for image in rows["image"]], network.architecture.image)
    images = as_input(crops.batch(range(TIMED)), CPU)
    with torch.inference_mode():
        network.encoder(images)
        started = process_time()
        network.encoder(images)
        spent = process_time() - started
    network.encoder.shift = None
    return 1000 * spent / TIMED


if __name__ == "__main__":
    main()
