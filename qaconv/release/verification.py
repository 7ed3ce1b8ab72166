"""Verify pairs of images of people who are not in the training data."""

from pathlib import Path

import pandas as pd
import torch

from qaconv.data.loading import encode_all, in_torch
from qaconv.matching import score_matrix
from qaconv.metrics import VerificationMetrics, evaluate_verification
from qaconv.models.checkpoint import Network

BATCH_SIZE = 32  # images encoded at a time


def verify_images(network: Network, table: pd.DataFrame) -> VerificationMetrics:
    """Match each image with every other on the CPU, and measure the decisions "one person" and "two people".

    Args:
        network: trained network.
        table: images, with columns path, label, domain and camid, as data/sources/holdout.parquet has them.
    """
    people = table["label"].to_numpy()
    cameras = table.groupby(["domain", "camid"]).ngroup().to_numpy()
    paths = [Path(path) for path in table["path"]]
    cpu = torch.device("cpu")
    maps = encode_all(in_torch(network.encoder, cpu), paths, network.architecture.image, batch_size=BATCH_SIZE)
    scores = score_matrix(maps, maps, network.head, device=cpu)
    return evaluate_verification(scores, people, people, cameras, cameras)
