"""Bring the cameras of a target to one look without labels: by colours, by maps, and by the statistics of batch norms.

`python -m benchmarks.cameras [FOLDER]` encodes drawn sites that are no target of the demo with the demo's network, as
they are and with each change, and prints direct mAP, for what gains most also lifted mAP and what transit times say.
FOLDER holds `bounding_box_train` of Market-1501, of whose people 150 are one more site. As a control, changes are made
with the cameras of sightings permuted. No change reads a label. Adapting has the batch norms of each camera.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from benchmarks.adapting_foreign import NETWORKS, spoil_images
from benchmarks.baseline import CPU, draw
from benchmarks.demo import require_outputs
from benchmarks.machine import describe
from benchmarks.recipes import DRAWN
from qaconv.adaptation.camera_norms import draw_rows
from qaconv.adaptation.evidence import HeldOutMatches, judge_by_times, share_difference
from qaconv.adaptation.view import View, view_target
from qaconv.config import SiteConfig, load_params
from qaconv.data.layouts import market1501
from qaconv.data.loading import Crops, as_input
from qaconv.data.manifest import JUNK, Manifest
from qaconv.matching import MapStore, score_matrix
from qaconv.metrics import evaluate_ranking
from qaconv.metrics.rankings import list_rankings
from qaconv.metrics.target_metrics import scores_by_ranking
from qaconv.metrics.target_sightings import EvaluatedSightings
from qaconv.models.camera_norms import estimate_norms
from qaconv.models.checkpoint import Network, load_network
from qaconv.models.description import weights_digest
from qaconv.models.encoder import Encoder
from qaconv.paths import MODELS

BATCH = 64
PEOPLE = 150  # of Market-1501's training people
PIXELS, NORMS = "colours, mean and deviation", "batch norms, each camera"
JUDGED = ("as they are", PIXELS, NORMS)  # by lifted scores and by times, which takes longer

Ints = NDArray[np.int64]


def main(folder: str | None) -> None:
    """Print a row for each site and change as soon as it is measured."""
    torch.set_num_threads(1)
    require_outputs([MODELS])
    name = load_params().registry.method
    network, _ = load_network(MODELS / name)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{describe()['processor']}, 1 thread; mAP in per cent")
    console.print("site | change | direct | re-ranked | lifted | both | right by times, change")
    with TemporaryDirectory() as scratch:
        for site, manifest in draw_sites(Path(scratch), folder):
            views: list[View] = []
            for change, maps in change_cameras(network, manifest):
                figures = [f"{measure_direct(network, manifest, maps):.1f}"]
                if change in JUDGED:
                    views.append(see(MODELS / name, manifest, maps, Path(scratch) / "view"))
                    figures = [*measure_all(manifest, views[-1]), judge(views)]
                console.print(" | ".join([site, change, *figures]))


def draw_sites(folder: Path, real: str | None) -> Iterator[tuple[str, Manifest]]:
    """Yield sites by name: real people of a folder, two whose cameras are of another make, and two drawn as ever."""
    if real:
        yield "Market-1501, training people", training_people(Path(real))
    for seed, (cameras, strength) in NETWORKS.items():
        site = SiteConfig(seed=seed, cameras=cameras, people=120, train_share=0.5, distractors=30)
        draw(f"drawn{seed}", folder, site)
        yield f"{seed}, foreign", _spoil(folder / f"drawn{seed}", seed, strength)
    for name in ("503", "502"):
        yield name, draw(name, folder, DRAWN[name])


def _spoil(source: Path, seed: int, strength: float) -> Manifest:
    folder = source.parent / f"foreign{seed}"
    spoil_images(source, folder, seed, strength)
    return market1501.read(folder, folder.name)


def training_people(folder: Path) -> Manifest:
    """Return some of the people that Market-1501 trains on as a site; the first image on a camera is a query."""
    market = market1501.read(folder, "market")
    rows = market.split("train")
    people = np.random.default_rng(0).permutation(rows["pid"][rows["pid"] != JUNK].unique())[:PEOPLE]
    rows = rows[rows["pid"].isin(people)].reset_index(drop=True)
    split = np.where(rows.duplicated(["pid", "camid"]), "gallery", "query")
    return replace(market, frame=rows.assign(split=split), images_digest="")


def change_cameras(network: Network, manifest: Manifest) -> Iterator[tuple[str, Tensor]]:
    """Yield the maps [N, C, h, w] of all sightings, of unit length, with each change of the cameras."""
    sightings = manifest.sightings()
    crops = Crops([manifest.root / image for image in sightings["image"]], network.architecture.image)
    images = torch.cat([crops.batch(rows) for rows in torch.arange(len(crops)).split(BATCH)])
    camids = sightings["camid"].to_numpy()
    permuted = np.random.default_rng(1).permutation(camids)
    encoder = network.encoder.eval()
    assert isinstance(encoder, Encoder)
    plain = encode(encoder, images)
    pixels = images.float() / 255
    maps: dict[str, Callable[[], Tensor]] = {
        "as they are": lambda: plain,
        "colours, mean": lambda: encode(encoder, bring_together(pixels, camids, deviations=False).clamp(0, 1)),
        PIXELS: lambda: encode(encoder, bring_together(pixels, camids).clamp(0, 1)),
        "maps, mean": lambda: bring_together(plain, camids, deviations=False),
        "maps, mean and deviation": lambda: bring_together(plain, camids),
        "batch norms, all cameras": lambda: encode_by_camera(encoder, images, np.zeros_like(camids)),
        NORMS: lambda: encode_by_camera(encoder, images, camids),
        "colours, cameras permuted": lambda: encode(encoder, bring_together(pixels, permuted).clamp(0, 1)),
        "maps, cameras permuted": lambda: bring_together(plain, permuted, deviations=False),
        "batch norms, cameras permuted": lambda: encode_by_camera(encoder, images, permuted),
    }
    for change, make in maps.items():
        yield change, F.normalize(make(), dim=1)


@torch.inference_mode()
def encode(encoder: Encoder, images: Tensor) -> Tensor:
    """Encode images, bytes or in [0, 1], as maps before they are brought to unit length."""
    parts = torch.tensor_split(images, -(-len(images) // BATCH))  # of equal size, as batch norms count each as much
    batches = (as_input(part, CPU) if part.dtype == torch.uint8 else part for part in parts)
    return torch.cat([encoder.neck(encoder.trunk(encoder.normalise(batch))) for batch in batches])


def bring_together(values: Tensor, camids: Ints, *, deviations: bool = True) -> Tensor:
    """Move the mean of each channel on each camera, and its deviation, to the means of all cameras.

    Args:
        values: images or maps, [N, C, H, W].
        camids: camera of each, [N].
        deviations: whether deviations are moved too. Default: True.
    """
    rows = {camid: torch.from_numpy(np.flatnonzero(camids == camid)) for camid in np.unique(camids)}
    means = {camid: values[row].mean((0, 2, 3))[:, None, None] for camid, row in rows.items()}
    spreads = {camid: values[row].std((0, 2, 3))[:, None, None] for camid, row in rows.items()}
    mean, spread = (sum(len(rows[camid]) / len(values) * each[camid] for camid in rows) for each in (means, spreads))
    moved = torch.empty_like(values)
    for camid, row in rows.items():
        scale = spread / spreads[camid] if deviations else 1
        moved[row] = (values[row] - means[camid]) * scale + mean
    return moved


@torch.inference_mode()
def encode_by_camera(encoder: Encoder, images: Tensor, camids: Ints) -> Tensor:
    """Encode the images of each camera with batch norms whose statistics are those of its images."""
    by_camera = deepcopy(encoder)
    batches = {camid: _split(images, rows) for camid, rows in draw_rows(camids, 0).items()}
    by_camera.normalise_cameras(estimate_norms(encoder, batches))
    cameras = torch.from_numpy(camids).split(BATCH)
    parts = zip(images.split(BATCH), cameras, strict=True)
    return torch.cat([by_camera(as_input(part, CPU), of_part) for part, of_part in parts])


def _split(images: Tensor, rows: Ints) -> Iterator[Tensor]:
    """Yield images of some rows as the encoder takes them, in batches of nearly equal size, as each counts as much."""
    for part in torch.from_numpy(rows).tensor_split(-(-len(rows) // BATCH)):
        yield as_input(images[part], CPU)


def measure_direct(network: Network, manifest: Manifest, maps: Tensor) -> float:
    """Return the direct mAP in per cent; maps are of all sightings."""
    sightings = manifest.sightings()
    parts = [((sightings["split"] == split) & (sightings["pid"] != JUNK)).to_numpy() for split in ("query", "gallery")]
    query, gallery = (maps[torch.from_numpy(np.flatnonzero(part))] for part in parts)
    scores = score_matrix(query, gallery, network.head, device=CPU)
    pids, camids = (([sightings[column][part] for part in parts]) for column in ("pid", "camid"))
    return 100 * evaluate_ranking(scores, *pids, *camids).mean_average_precision


def see(network: Path, manifest: Manifest, maps: Tensor, folder: Path) -> View:
    """Match, re-rank and fit a profile with maps in place of those that the network encodes."""

    def store_maps(network: Path, manifest: Manifest, folder: Path, **_settings: object) -> MapStore:
        sightings = manifest.sightings()
        channels, height, width = maps.shape[1:]
        store = MapStore.create(folder, (channels, height, width), dtype="float32", model=weights_digest(network))
        store.append(maps, sightings["image"].tolist(), sightings["camid"], sightings["time_s"])
        return store

    with patch("qaconv.adaptation.view.encode_sightings", store_maps):
        return view_target(network, manifest, load_params().evaluate, folder, device=CPU, workers=0)


def measure_all(manifest: Manifest, view: View) -> list[str]:
    """Return the mAP of each ranking in per cent."""
    sightings = EvaluatedSightings(manifest.frame, manifest.root)
    logits = sightings.logits(view.matches.logits)
    rankings = list_rankings(load_params().evaluate.rerank)
    tables = scores_by_ranking(rankings, logits, view.matches.reranked_measured, view.profile, sightings)
    metrics = (evaluate_ranking(table, *sightings.identities) for _, table in tables)
    return [f"{100 * each.mean_average_precision:.1f}" for each in metrics]


def judge(views: Sequence[View]) -> str:
    """Return by how many points more of the last view's best matches are right, by the times of the first, or ""."""
    first, last = views[0], views[-1]
    if first.profile.match_odds is None or len(views) == 1:
        return ""
    everybody = np.unique(first.identities.identity, return_inverse=True)[1]
    matches: list[HeldOutMatches] = [judge_by_times(view, first, everybody) for view in (last, first)]
    gain = share_difference(*matches, seed=load_params().seed)
    return f"{100 * gain.value:+.1f} ({100 * gain.low:.1f} to {100 * gain.high:.1f})"


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit("usage: python -m benchmarks.cameras [FOLDER]")
    main(sys.argv[1] if len(sys.argv) == 2 else None)
