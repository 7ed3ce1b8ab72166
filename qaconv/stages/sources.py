"""The prepared training datasets go in; one training table comes out, its people numbered from 0 across all of them."""

import logging

import pandas as pd

from qaconv.config import Params
from qaconv.errors import InputError
from qaconv.files import replacing_folder, write_json
from qaconv.manifest import JUNK, Manifest
from qaconv.stages.places import PREPARED, SOURCES

log = logging.getLogger(__name__)


def sources(params: Params) -> None:
    """Writes data/sources: `train.parquet` (path, label, domain, pid) and `summary.json`.

    Raises:
        InputError: a dataset has no training images.
    """
    tables, digests = [], {}
    for name in params.train.datasets:
        manifest = Manifest.load(PREPARED / name)
        rows = manifest.split("train")
        rows = rows[rows["pid"] != JUNK]
        if rows.empty:
            raise InputError(f"params.yaml: train.datasets names {name!r}, which has no images in its train split")
        root = manifest.root.as_posix()
        tables.append(pd.DataFrame({"path": root + "/" + rows["image"], "domain": name, "pid": rows["pid"]}))
        digests[name] = manifest.digest
    table = pd.concat(tables, ignore_index=True)
    table.insert(1, "label", table.groupby(["domain", "pid"], sort=True).ngroup())
    with replacing_folder(SOURCES) as beside:
        table.to_parquet(beside / "train.parquet", index=False)
        write_json(
            beside / "summary.json",
            {"images": len(table), "people": int(table["label"].nunique()), "digests": digests},
        )
    log.info("%d training images of %d people from %s", len(table), table["label"].nunique(), ", ".join(digests))
