"""Join the training datasets into one table, and the people held out into another.

Labels count from 0 across all datasets, separately in each table.
"""

import logging

import numpy as np
import pandas as pd

from qaconv.config import Params
from qaconv.data.manifest import JUNK, Manifest
from qaconv.errors import InputError
from qaconv.files import replacing_folder, write_json
from qaconv.paths import PREPARED, SOURCES

log = logging.getLogger(__name__)


def sources(params: Params) -> None:
    """Write `train.parquet`, `holdout.parquet` (path, label, domain, pid, camid) and `summary.json` to data/sources.

    `train.holdout_share` of each dataset's people are held out, drawn by `seed` independently of other datasets.

    Raises:
        InputError: a dataset has no training images.
    """
    trained, held, digests = [], [], {}
    for name in params.train.datasets:
        manifest = Manifest.load(PREPARED / name)
        rows = manifest.split("train")
        rows = rows[rows["pid"] != JUNK]
        if rows.empty:
            raise InputError(f"params.yaml: train.datasets names {name!r}, which has no images in its train split")
        rows = rows.assign(path=manifest.root.as_posix() + "/" + rows["image"], domain=name)
        chosen = rows["pid"].isin(_held_out(rows["pid"], params.train.holdout_share, [params.seed, *name.encode()]))
        trained.append(rows[~chosen])
        held.append(rows[chosen])
        digests[name] = manifest.digest
    train, holdout = _numbered(trained), _numbered(held)
    with replacing_folder(SOURCES) as beside:
        train.to_parquet(beside / "train.parquet", index=False)
        holdout.to_parquet(beside / "holdout.parquet", index=False)
        people, held_people = int(train["label"].nunique()), int(holdout["label"].nunique())
        write_json(
            beside / "summary.json",
            {
                "images": len(train),
                "people": people,
                "held_out": {"images": len(holdout), "people": held_people},
                "digests": digests,
            },
        )
    log.info(
        "%d training images of %d people from %s; %d images of %d more people are held out",
        len(train),
        people,
        ", ".join(digests),
        len(holdout),
        held_people,
    )


def _held_out(pids: pd.Series, share: float, seed: list[int]) -> list[int]:
    """Draw the people to hold out: none, or at least two, as one person alone cannot be confused."""
    people = np.unique(pids)
    count = max(2, round(share * len(people))) if share else 0
    chosen: list[int] = np.random.default_rng(seed).permutation(people)[:count].tolist()
    return chosen


def _numbered(tables: list[pd.DataFrame]) -> pd.DataFrame:
    table = pd.concat(tables, ignore_index=True)
    table["label"] = table.groupby(["domain", "pid"], sort=True).ngroup()
    return table[["path", "label", "domain", "pid", "camid"]]
