"""Export the trained network as ONNX, with calibration and thresholds from the held-out people."""

import pandas as pd

from qaconv.config import Params
from qaconv.files import read_file
from qaconv.metrics import Calibration
from qaconv.models.checkpoint import load_network
from qaconv.paths import MODELS, ONNX, SOURCES
from qaconv.release.export import export_network
from qaconv.release.verification import verify_images


def export(params: Params) -> None:
    """Write artifacts/onnx: `encoder.onnx`, `matcher.onnx` and `contract.json`.

    Raises:
        InputError: there is no trained network, or its graphs do not agree with it.
    """
    network, trained = load_network(MODELS / params.registry.method)
    fitted = trained["calibration"]
    holdout = read_file(pd.read_parquet, SOURCES / "holdout.parquet") if fitted else None
    export_network(
        network,
        trained["data"],
        ONNX,
        calibration=Calibration(**fitted) if fitted else None,
        verification=None if holdout is None else verify_images(network, holdout),
        seed=params.seed,
    )
