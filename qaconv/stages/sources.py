"""Join the training datasets into one table for training and one of people held out.

Labels count from 0 across all datasets, separately in each table.
"""

import logging

import numpy as np
import pandas as pd

from qaconv.config import Params
from qaconv.data.fingerprints import load_fingerprinted, refuse_trained_images, warn_of_trained_looks
from qaconv.data.manifest import JUNK, Manifest
from qaconv.errors import InputError
from qaconv.files import replacing_folder, write_json
from qaconv.paths import PREPARED, SOURCES

log = logging.getLogger(__name__)


def sources(params: Params) -> None:
    """Write `train.parquet`, `holdout.parquet` and `summary.json` to data/sources.

    The tables have the columns path, label, domain, pid, camid and sha256.
    `sources.holdout_share` of each dataset's people are held out, drawn by `seed` independently of other datasets.
    Images of the targets that look the same as one that is trained on are reported.

    Raises:
        InputError: a dataset has no training images, a target has no query or no gallery, or one of a target's images
            is trained on.
    """
    for name in params.targets:
        require_use(params, name, Manifest.load(PREPARED / name))
    train_tables: list[pd.DataFrame] = []
    holdout_tables: list[pd.DataFrame] = []
    digests: dict[str, str] = {}
    for name in params.sources.datasets:
        manifest = Manifest.load(PREPARED / name)
        require_use(params, name, manifest)
        rows = load_fingerprinted(name)
        rows = rows[(rows["split"] == "train") & (rows["pid"] != JUNK)].reset_index(drop=True)
        rows = rows.assign(domain=name)
        seed = [params.seed, *name.encode()]
        is_held_out = rows["pid"].isin(_draw_people(rows["pid"], params.sources.holdout_share, seed))
        train_tables.append(rows[~is_held_out])
        holdout_tables.append(rows[is_held_out])
        digests[name] = manifest.digest
    trained = pd.concat([*train_tables, *holdout_tables])
    for target in params.targets:
        refuse_trained_images(trained, target)
        warn_of_trained_looks(trained, target)
    train = _join(train_tables)
    holdout = _join(holdout_tables)
    train_people = int(train["label"].nunique())
    holdout_people = int(holdout["label"].nunique())
    with replacing_folder(SOURCES) as new_folder:
        train.to_parquet(new_folder / "train.parquet", index=False)
        holdout.to_parquet(new_folder / "holdout.parquet", index=False)
        write_json(
            new_folder / "summary.json",
            {
                "images": len(train),
                "people": train_people,
                "held_out": {"images": len(holdout), "people": holdout_people},
                "digests": digests,
            },
        )
    log.info(
        "%d training images of %d people from %s; %d images of %d more people are held out",
        len(train),
        train_people,
        ", ".join(digests),
        len(holdout),
        holdout_people,
    )


def require_use(params: Params, name: str, manifest: Manifest) -> None:
    """Check that a dataset has the images that params.yaml uses it for. It is known before hours of training.

    Raises:
        InputError: it has not.
    """
    train = manifest.split("train")
    if name in params.sources.datasets and train[train["pid"] != JUNK].empty:
        raise InputError(f"params.yaml: sources.datasets names {name!r}, which has no images in its train split")
    if name in params.targets:
        manifest.check_target(name)


def _draw_people(pids: pd.Series, share: float, seed: list[int]) -> list[int]:
    """Draw the people to hold out: none, or at least two, as one person cannot be mistaken for another."""
    people = np.unique(pids)
    count = max(2, round(share * len(people))) if share else 0
    chosen: list[int] = np.random.default_rng(seed).permutation(people)[:count].tolist()
    return chosen


def _join(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Join tables and number their people."""
    table = pd.concat(tables, ignore_index=True)
    table["label"] = table.groupby(["domain", "pid"], sort=True).ngroup()
    return table[["path", "label", "domain", "pid", "camid", "sha256"]]
