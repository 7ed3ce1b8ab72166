"""Export the trained network as ONNX, with calibration and thresholds from the held-out people."""

from pathlib import Path

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
    export_folder(MODELS / params.registry.method, ONNX, seed=params.seed)


def export_folder(network_folder: Path, folder: Path, *, seed: int) -> None:
    """Write the graphs and the contract of a saved network.

    Args:
        network_folder: folder of the network.
        folder: replaced as a whole.
        seed: of the random crops on which ONNX Runtime and PyTorch are compared.

    Raises:
        InputError: there is no network, or its graphs do not agree with it.
    """
    network, trained = load_network(network_folder)
    fitted = trained["calibration"]
    holdout = read_file(pd.read_parquet, SOURCES / "holdout.parquet") if fitted else None
    export_network(
        network,
        trained["data"],
        folder,
        calibration=Calibration(**fitted) if fitted else None,
        verification=None if holdout is None else verify_images(network, holdout),
        seed=seed,
    )
