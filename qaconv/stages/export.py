"""The trained network goes in, and people whom it has not seen; what is served comes out."""

from pathlib import Path

import pandas as pd
import torch

from qaconv.config import Params
from qaconv.data.loading import encode_all, in_torch
from qaconv.matching import score_matrix
from qaconv.metrics import Calibration, VerificationMetrics, evaluate_verification
from qaconv.models.checkpoint import Network, load_network
from qaconv.paths import MODELS, ONNX, SOURCES
from qaconv.release.export import export_network

BATCH_SIZE = 32  # images encoded at a time


def export(params: Params) -> None:
    """Writes artifacts/onnx: `encoder.onnx`, `matcher.onnx` and `contract.json`.

    Raises:
        InputError: there is no trained network, or its graphs do not agree with it.
    """
    network, trained = load_network(MODELS / "qaconv")
    fitted = trained["calibration"]
    export_network(
        network,
        trained["data"],
        ONNX,
        calibration=Calibration(**fitted) if fitted else None,
        verification=_verify(network) if fitted else None,
        seed=params.seed,
    )


def _verify(network: Network) -> VerificationMetrics:
    """Decides on the pairs of images of the people whom training held back."""
    table = pd.read_parquet(SOURCES / "holdout.parquet")
    people, cameras = table["label"].to_numpy(), table.groupby(["domain", "camid"]).ngroup().to_numpy()
    paths, cpu = [Path(path) for path in table["path"]], torch.device("cpu")
    encode, size = in_torch(network.encoder, cpu), network.architecture.image
    maps = encode_all(encode, paths, size, batch_size=BATCH_SIZE)
    scores = score_matrix(maps, maps, network.head, device=cpu)
    return evaluate_verification(scores, people, people, cameras, cameras)
