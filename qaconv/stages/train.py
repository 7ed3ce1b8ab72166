"""Make a method's network, and calibrate its logits on the people held out."""

from dataclasses import asdict
from hashlib import sha256

import pandas as pd

from qaconv.config import Params
from qaconv.files import read_file, read_json
from qaconv.paths import MODELS, SOURCES, UNFINISHED, WEIGHTS
from qaconv.release.graphs import save_with_graph
from qaconv.training.device import out_of_memory_names
from qaconv.training.distributed import is_first, joined
from qaconv.training.holdout import read_holdout
from qaconv.training.methods import NO_FILE, Sources


def train(params: Params, method: str) -> None:
    """Build and fit a method on data/sources and write artifacts/model/<method>. A killed run is resumed.

    Raises:
        InputError: the method is unknown, this machine does not have the device, or a file that the method names is
            not in DVC.
    """
    chosen = params.method(method)
    machine, unfinished = params.machine, UNFINISHED / f"{method}.pt"
    remedy = f"lower identities_per_batch or images_per_identity of methods.{method}.train, or methods.{method}.image"
    with joined(machine) as device, out_of_memory_names(remedy):
        table = read_file(pd.read_parquet, SOURCES / "train.parquet")
        summary = read_json(SOURCES / "summary.json")
        network = chosen.build(params.seed)
        holdout = read_holdout(chosen.image)
        history = chosen.fit(network, Sources(table, summary, holdout, params.seed, device, machine, unfinished))
        if not is_first():
            return
        calibration = holdout.calibrate(network, device=device, workers=machine.workers) if holdout else None
        trained = {
            "seed": params.seed,
            "method": chosen.model_dump(mode="json"),
            "data": summary if chosen.trains else {"digests": summary["digests"]},
            "calibration": asdict(calibration) if calibration else None,
        }
        weights = WEIGHTS / chosen.backbone.weights
        if weights.name not in NO_FILE and weights.is_file():
            trained["began_with"] = sha256(weights.read_bytes()).hexdigest()
        files = {"history.csv": history.to_csv(index=False, lineterminator="\n")}
        save_with_graph(network, MODELS / method, trained, files)
        unfinished.unlink(missing_ok=True)  # a method that trains nothing has none
