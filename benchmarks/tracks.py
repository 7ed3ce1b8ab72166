"""Compare rules that score two tracks by the scores of their crops, on networks drawn for it and on the demo's.

`python -m benchmarks.tracks` prints mAP in points. The demo's model has trained on none of these people. The rule of
`qaconv.runtime.tracks` was chosen on the drawn networks; `station` and `mall` are reported only.
"""

from collections.abc import Callable, Iterator
from io import BytesIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from scipy.special import expit, logsumexp

from benchmarks.demo import require_outputs
from qaconv.config import SiteConfig, load_params
from qaconv.metrics import evaluate_ranking
from qaconv.paths import ONNX
from qaconv.progress import track
from qaconv.runtime.model import ServedModel
from qaconv.runtime.tracks import score_tracks
from qaconv.synthetic.network import NetworkSettings, simulate
from qaconv.synthetic.render import draw_crops

DRAWN = {f"drawn {seed}": SiteConfig(seed=seed, cameras=5, people=60) for seed in (201, 202, 203)}
REPORTED = ("station", "mall")
CROPS = (1, 2, 3, 5)  # of a track
MEAN_CROPS = 8.0  # that a pass leaves in the simulation; passes with fewer than the largest of CROPS are left out

Floats = NDArray[np.float64]
Rule = Callable[[Floats, Floats], Floats]  # scores [T, n, T, n], and how alike each track's crops are [T] -> [T, T]


def main() -> None:
    """Print a table for each network."""
    require_outputs([ONNX])
    model = ServedModel(ONNX)
    sites = load_params().sites
    console = Console(soft_wrap=True, highlight=False)
    for name, site in [*DRAWN.items(), *((name, sites[name]) for name in REPORTED if name in sites)]:
        crops = choose_passes(site)
        logits = match(site, crops, model)
        table = Table(title=f"{name}: {len(logits)} tracks, mAP by crops of a track", title_justify="left")
        table.add_column("rule")
        for count in CROPS:
            table.add_column(str(count), justify="right")
        first = crops[:: max(CROPS)]
        for rule, values in measure(logits, first["person"].to_numpy(), first["camera"].to_numpy()):
            table.add_row(rule, *(f"{100 * value:.1f}" for value in values))
        console.print(table)


def choose_passes(site: SiteConfig) -> pd.DataFrame:
    """Simulate a network's walks; keep the first crops of each pass, in the order of passes."""
    settings = NetworkSettings(
        seed=site.seed, cameras=site.cameras, people=site.people, days=site.days, crops_per_pass=MEAN_CROPS
    )
    crops = simulate(settings)
    passes = crops.groupby(["person", "visit"])
    crops = crops[(passes["time_s"].transform("size") >= max(CROPS)) & (passes.cumcount() < max(CROPS))]
    return crops.assign(mate=crops["person"], pid=crops["person"] + 1).reset_index(drop=True)


def match(site: SiteConfig, crops: pd.DataFrame, model: ServedModel) -> Floats:
    """Draw, encode and match the crops; return logits [T, n, T, n] of T tracks with n crops each."""
    height, width = model.crop_size
    starts = range(0, len(crops), 64)
    files = [file for start in track(starts, "drawing") for file in draw_crops(site, crops[start : start + 64])]
    images = [Image.open(BytesIO(file)).convert("RGB") for file in files]
    pixels = np.stack([np.asarray(image.resize((width, height), Image.Resampling.BICUBIC)) for image in images])
    maps = model.encode(pixels)
    size = max(CROPS)
    logits = model.score(maps, maps).astype(np.float64)
    return logits.reshape(len(crops) // size, size, len(crops) // size, size)


def measure(logits: Floats, people: NDArray[np.int64], cameras: NDArray[np.int64]) -> Iterator[tuple[str, list[float]]]:
    """Yield each rule's mAP for each number of crops; each track is a query, its own camera is left out."""
    for name, rule in RULES.items():
        values = []
        for count in CROPS:
            table = logits[:, :count, :, :count]
            scores = rule(table, _likeness(table))
            values.append(evaluate_ranking(scores, people, people, cameras, cameras).mean_average_precision)
        yield name, values


def _likeness(table: Floats) -> Floats:
    """How alike the crops of each track are, [T]: their mean probability by the scaling of the re-ranker, 0 for one."""
    count = table.shape[1]
    within = table[np.arange(len(table)), :, np.arange(len(table))]
    apart = ~np.eye(count, dtype=bool)
    return expit(within[:, apart] / 10).mean(axis=1) if count > 1 else np.zeros(len(table))


def _blocks(table: Floats) -> Floats:
    """Return the scores of each pair of tracks in a row, [T, T, n * n]."""
    tracks, count = table.shape[:2]
    return table.transpose(0, 2, 1, 3).reshape(tracks, tracks, count * count)


def _best(share: float) -> Rule:
    def rule(table: Floats, likeness: Floats) -> Floats:
        scores = np.sort(_blocks(table), axis=2)
        mean: Floats = scores[:, :, -max(1, round(share * scores.shape[2])) :].mean(axis=2)
        return mean

    return rule


def _log_mean_exp(scale: float) -> Rule:
    def rule(table: Floats, likeness: Floats) -> Floats:
        scores = _blocks(table) / scale
        mean: Floats = scale * (logsumexp(scores, axis=2) - np.log(scores.shape[2]))
        return mean

    return rule


def _independent_odds(table: Floats, likeness: Floats) -> Floats:
    """Add log odds as if a track had fewer crops the more alike they are: n / (1 + (n - 1) * likeness)."""
    count = table.shape[1]
    effective = count / (1 + (count - 1) * likeness)
    odds: Floats = _blocks(table).mean(axis=2) * np.sqrt(effective[:, None] * effective)
    return odds


def _best_of_each_crop(table: Floats, likeness: Floats) -> Floats:
    tracks, count = table.shape[:2]
    numbers = np.repeat(np.arange(tracks), count)
    return score_tracks(table.reshape(tracks * count, tracks * count), numbers, numbers)


RULES: dict[str, Rule] = {
    "mean": _best(1.0),
    "best pair": _best(0.0),
    "mean of the best half": _best(0.5),
    "mean of the best quarter": _best(0.25),
    "log-mean-exp": _log_mean_exp(1.0),
    "log-mean-exp, scale 3": _log_mean_exp(3.0),
    "odds by independent crops": _independent_odds,
    "best of each crop": _best_of_each_crop,
}


if __name__ == "__main__":
    main()
