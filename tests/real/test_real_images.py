"""Market-1501, in the folder QACONV_MARKET1501, is read completely, and a short training finds unseen people."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from qaconv.config import AugmentConfig, BackboneConfig, ImageConfig
from qaconv.data import layouts
from qaconv.data.loading import Crops, as_input
from qaconv.data.manifest import Manifest
from qaconv.data.samplers.pk import pk_batches
from qaconv.data.training_reader import TrainingCrops
from qaconv.data.transforms import build_augmentation
from qaconv.matching import score_matrix
from qaconv.metrics import evaluate_ranking
from qaconv.models.checkpoint import Architecture, Network, build_network
from qaconv.models.losses.pairwise_matching import PairwiseMatching

FOLDER = os.environ.get("QACONV_MARKET1501")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="QACONV_MARKET1501 names no folder of Market-1501")
SIZE = ImageConfig(height=64, width=32)
STEPS, LR = 60, 0.05
PEOPLE = 100  # of the query that the result is measured on
CHANCE = 3  # least mAP of the trained network, in multiples of a random ranking's


@pytest.fixture(scope="module")
def market() -> Manifest:
    return layouts.read("market1501", Path(FOLDER or ""), domain="market")


def test_every_split_has_the_images_and_people_that_its_authors_publish(market: Manifest) -> None:
    splits = market.summary()["splits"]
    assert {name: counts["images"] for name, counts in splits.items()} == {
        "train": 12936,
        "query": 3368,
        "gallery": 19732,
    }
    assert (splits["train"]["pids"], splits["query"]["pids"], splits["gallery"]["junk"]) == (751, 750, 3819)


def test_a_minute_of_training_finds_unseen_people_far_better_than_chance(market: Manifest) -> None:
    network = train(market)
    query, gallery = market.split("query"), market.split("gallery")
    chosen = query["pid"].unique()[:PEOPLE]
    query, gallery = (rows[rows["pid"].isin(chosen)].reset_index(drop=True) for rows in (query, gallery))
    query = query.drop_duplicates("pid")
    query_maps = encode(network, [market.root / image for image in query["image"]])
    gallery_maps = encode(network, [market.root / image for image in gallery["image"]])
    truth = (query["pid"], gallery["pid"], query["camid"], gallery["camid"])
    trained = evaluate_ranking(score_matrix(query_maps, gallery_maps, network.head), *truth)
    random = evaluate_ranking(np.random.default_rng(0).random((len(query), len(gallery))), *truth)
    assert trained.mean_average_precision > CHANCE * random.mean_average_precision


def train(market: Manifest) -> Network:
    """Train a new network by some steps of pairwise matching."""
    backbone = BackboneConfig(name="resnet18", last_layer="layer2", neck_channels=32, weights="none")
    network = build_network(Architecture(backbone=backbone, image=SIZE, pooled=False), seed=1)
    rows = market.split("train")
    augment = AugmentConfig(pad=4, rotation_degrees=0, flip=0.5, colour_jitter=0, occlusion=0)
    paths, labels = [market.root / image for image in rows["image"]], rows["pid"].to_numpy(np.int64)
    crops = TrainingCrops(Crops(paths, SIZE), labels.tolist(), build_augmentation(augment, SIZE))
    batches = pk_batches(labels, identities=8, images=4, rng=np.random.default_rng(1))[:STEPS]
    loss = PairwiseMatching().build(network.head, people=1)
    network.encoder.train()
    loss.train()
    parameters = [*network.encoder.parameters(), *loss.parameters()]
    optimiser = torch.optim.SGD(parameters, LR, momentum=0.9, nesterov=True)
    for batch in batches:
        images, pids = zip(*(crops[draw] for draw in batch), strict=True)
        outcome = loss(network.encoder(as_input(torch.stack(images), torch.device("cpu"))), torch.tensor(pids))
        optimiser.zero_grad()
        outcome.loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 8)
        optimiser.step()
    return network


@torch.inference_mode()
def encode(network: Network, paths: list[Path]) -> torch.Tensor:
    crops, encoder = Crops(paths, SIZE), network.encoder.eval()
    images = torch.stack([crops[index] for index in range(len(crops))])
    return torch.cat([encoder(as_input(part, torch.device("cpu"))) for part in images.split(128)])
