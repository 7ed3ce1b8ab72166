"""Measure trained networks on the queries and galleries of prepared datasets: direct rank-1 and mAP.

`python -m benchmarks.real_images NETWORK ...` prints a row for each folder that `qaconv train` wrote, such as
artifacts/model/qaconv, and a column for each dataset of data/prepared that has queries. It is the quick way to compare
several seeds: `match` computes all pairs of sightings, and this the pairs of queries and gallery alone.
"""

import logging
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from benchmarks.adapting_market import measure
from benchmarks.demo import require_outputs
from qaconv.config import load_params
from qaconv.data.manifest import Manifest
from qaconv.paths import PREPARED

log = logging.getLogger(__name__)


def main(networks: list[Path]) -> None:
    """Print the table."""
    require_outputs(networks)
    params = load_params()
    targets = [Manifest.load(PREPARED / name) for name in params.targets]
    table = Table("network", *params.targets, title="rank-1 / mAP in per cent, direct", title_justify="left")
    for network in networks:
        with TemporaryDirectory() as folder:
            row = [network.name, *(measure(network, target, params, Path(folder)) for target in targets)]
        log.info(" | ".join(row))  # a killed run leaves what it has measured
        table.add_row(*row)
    Console(soft_wrap=True, highlight=False).print(table)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if len(sys.argv) < 2:
        sys.exit("usage: python -m benchmarks.real_images NETWORK ...")
    main([Path(name) for name in sys.argv[1:]])
