"""Train on Market-1501 with the project's training, then rank its gallery without and with fitted times."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from scipy.special import expit
from torch import Tensor

from benchmarks.gpu.market import draw_market
from benchmarks.gpu.parity_matching import LOGIT_LIMIT
from benchmarks.gpu.plain import plain_logits
from benchmarks.gpu.recipe import AUGMENT, VALUES, make_method, train_config
from benchmarks.gpu.record import Check, Figure, Row, at_most
from benchmarks.gpu.settings import Setup
from benchmarks.matched import match_maps
from qaconv.config import AugmentConfig, BackboneConfig, EvaluateConfig, TrainConfig
from qaconv.data import layouts
from qaconv.data.loading import Crops, as_input, encode_all, in_torch
from qaconv.data.manifest import JUNK, Manifest
from qaconv.data.samplers import Draw
from qaconv.data.samplers.pk import pk_batches
from qaconv.data.training_reader import TrainingCrops, TrainingReader
from qaconv.data.transforms import build_augmentation
from qaconv.errors import InputError
from qaconv.matching import score_matrix
from qaconv.matching.rerankers import KReciprocal
from qaconv.matching.results import nearest_others
from qaconv.metrics import evaluate_ranking
from qaconv.models.checkpoint import Architecture, Network, build_network
from qaconv.tlift import fit_profile
from qaconv.tlift.findings import Finding
from qaconv.training import trainer
from qaconv.training.methods.trained import TrainedMethod

PROBED = 25  # steps that are timed, to choose how many epochs fit into the time
PAIRWISE_EPOCHS = 1  # from ImageNet's weights, hard triplet with margin 16 alone learns nothing
COMPARED = (64, 500)  # queries and gallery images whose logits are also computed in the plain form
LEAST_ACCURACY = 0.2  # smallest accuracy of the last epoch
REHEARSED = {"identities_per_batch": 4, "learnt_accuracy": 0}
SETTINGS = EvaluateConfig(batch_size=256, engine="exact", parts=1, rerank=KReciprocal(k1=20, k2=6, lambda_value=0.3))


def training_and_ranking(setup: Setup) -> Iterator[Row]:
    """Train for a given time, then measure rank-1 and mAP on query and gallery."""
    if setup.images is None and not setup.rehearsal:
        yield Figure("training on real images", None, "", note="not run: --images and --weights are not given")
        return
    folder = setup.images or setup.folder / "market"
    if setup.images is None:
        draw_market(folder)
    started = time.perf_counter()
    manifest = layouts.read("market1501", folder)
    seconds = time.perf_counter() - started
    yield Figure("reading and checking the images", len(manifest.frame) / seconds, "images/s", seconds)
    network = _network(setup)
    yield from _train(setup, network, manifest)
    yield from _rank(setup, network, manifest)


def _network(setup: Setup) -> Network:
    backbone = setup.sizes.backbone
    if setup.weights is not None:
        backbone = BackboneConfig(
            name="mobilenet_v2",
            last_layer="layer3",
            neck_channels=128,
            weights=str(setup.weights),
            normalise="imagenet",
        )
    return build_network(Architecture(backbone=backbone, image=setup.sizes.image, pooled=False), seed=1)


def _train(setup: Setup, network: Network, manifest: Manifest) -> Iterator[Row]:
    """Train by the recipe cvpr2022 with as many epochs as fit."""
    method = make_method(loss={**VALUES["loss"], "pairwise_epochs": PAIRWISE_EPOCHS})
    crops = _crops(setup, manifest, AUGMENT)
    labels = np.asarray(crops.labels)
    changes: dict[str, Any] = {"epochs": 2, "lr_drop_epoch": 1}
    changes |= REHEARSED if setup.rehearsal else {}
    config = train_config(**changes)
    rate = _probe(setup, crops, config, method)
    per_epoch = len(np.unique(labels)) * config.identities_per_batch * config.images_per_identity
    epochs = 2 if setup.rehearsal else max(2, int(setup.training_seconds * rate / per_epoch))
    config = train_config(**{**changes, "epochs": epochs, "lr_drop_epoch": max(1, round(0.7 * epochs))})
    started = time.perf_counter()
    try:
        with _waiting() as waited:
            history = trainer.train(
                network,
                crops,
                np.full(len(labels), "market"),
                manifest.split("train")["camid"].to_numpy(),
                config,
                method,
                holdout=None,
                seed=1,
                device=setup.device,
                workers=setup.readers,
                checkpoint_every_steps=10**6,
                state_path=setup.folder / "real.pt",
                fingerprint="real",
            )
    except InputError as error:
        yield Check("training runs to its end", False, note=str(error))
        return
    seconds, count = time.perf_counter() - started, per_epoch * len(history)
    note = f"{len(history)} epochs of {per_epoch:,} images, graphs and states included"
    yield Figure("training", count / seconds, "images/s", seconds, note=note)
    yield Figure("fraction of training in which the host waits", 100 * waited[0] / seconds, "%", waited[0])
    for row in history.to_dict("records"):
        note = f"anchors matched right {100 * row['accuracy']:.1f} %, lr {row['lr']:g}"
        yield Figure(f"epoch {row['epoch']:.0f}", row["loss"], "loss", note=note)
    limit = 1.0 if setup.rehearsal else 1 - LEAST_ACCURACY
    yield at_most("anchors of the last epoch matched wrong", 1 - history["accuracy"].iloc[-1], limit)


def _crops(setup: Setup, manifest: Manifest, augment: AugmentConfig) -> TrainingCrops:
    rows = manifest.split("train")
    paths = [manifest.root / image for image in rows["image"]]
    labels = pd.factorize(rows["pid"], sort=True)[0].tolist()
    return TrainingCrops(Crops(paths, setup.sizes.image), labels, build_augmentation(augment, setup.sizes.image))


def _probe(setup: Setup, crops: TrainingCrops, config: TrainConfig, method: TrainedMethod) -> float:
    """Return the images a second of a training that is discarded."""
    labels, network = np.asarray(crops.labels, dtype=np.int64), _network(setup)
    learner = trainer._Learner(network, config, method, setup.device, people=len(np.unique(labels)))
    size = {"identities": config.identities_per_batch, "images": config.images_per_identity}
    batches = pk_batches(labels, **size, rng=np.random.default_rng(0))[: 3 if setup.rehearsal else PROBED]
    counted, started = 0, time.perf_counter()
    for number, (images, pids) in enumerate(TrainingReader(crops, setup.readers, setup.device).read(batches)):
        learner.step(as_input(images, setup.device), pids, 0).loss.item()
        counted += len(images)
        if number < len(batches) // 2:  # the workers and the first steps take longer
            counted, started = 0, time.perf_counter()
    return counted / (time.perf_counter() - started)


@contextmanager
def _waiting() -> Iterator[list[float]]:
    """Count the seconds that training waits for its batches, in a list of one."""
    waited = [0.0]

    def timed(reader: TrainingReader, batches: Iterable[list[Draw]]) -> Iterator[tuple[Tensor, Tensor]]:
        read = plain(reader, batches)
        while True:
            started = time.perf_counter()
            batch = next(read, None)
            waited[0] += time.perf_counter() - started
            if batch is None:
                return
            yield batch

    plain = TrainingReader.read
    with patch.object(TrainingReader, "read", timed):
        yield waited


def _trained_head_check(setup: Setup, network: Network, queries: Tensor, gallery: Tensor) -> Check:
    """Compare the trained head's logits of real maps with the formula in float64."""
    head = deepcopy(network.head).cpu()
    expected = plain_logits(head.folded(), queries.double(), gallery.double()).numpy()
    error = float(np.abs(score_matrix(queries, gallery, head, device=setup.device) - expected).max())
    note = f"largest {error:.1e} logits, which spread by {expected.std():.1f}"
    return at_most("logits of the trained head, relative to their spread", error / expected.std(), LOGIT_LIMIT, note)


def _rank(setup: Setup, network: Network, manifest: Manifest) -> Iterator[Row]:
    """Measure rank-1 and mAP of the queries, direct and lifted by times that are fitted without a label."""
    frame = manifest.frame
    sightings = frame[(frame["split"] != "train") & ((frame["split"] == "query") | (frame["pid"] != JUNK))]
    sightings = sightings.reset_index(drop=True)
    queries, count = int((sightings["split"] == "query").sum()), len(sightings)
    paths = [manifest.root / image for image in sightings["image"]]
    started = time.perf_counter()
    encode = in_torch(network.encoder, setup.device)
    maps = encode_all(encode, paths, setup.sizes.image, batch_size=SETTINGS.batch_size, workers=setup.readers)
    seconds = time.perf_counter() - started
    yield Figure("encoding files", count / seconds, "images/s", seconds, note=f"{setup.readers} threads read")
    yield _trained_head_check(setup, network, maps[:queries][: COMPARED[0]], maps[queries:][: COMPARED[1]])
    started = time.perf_counter()
    with TemporaryDirectory() as folder:
        _, found = match_maps(
            maps.numpy(), network.head, queries, Path(folder), engine=SETTINGS.engine, device=setup.device
        )
        table = found.logits[:]
    seconds = time.perf_counter() - started
    note = f"{count:,} sightings, each pair once; neighbours are chosen on the CPU meanwhile"
    yield Figure("matching all with all", count * (count + 1) / 2 / seconds, "pairs/s", seconds, note=note)
    started = time.perf_counter()
    near = found.everything
    neighbours, logits = nearest_others(near.indices, near.distances, np.arange(len(near.indices)))
    where, when = sightings["camid"].to_numpy(), sightings["time_s"].to_numpy()
    known = [Finding(**each) for each in manifest.clocks]
    profile = fit_profile(neighbours, expit(logits), where, when, known=known, target="market")
    seconds = time.perf_counter() - started
    yield Figure("fitting times", seconds, "s", seconds, note=profile.reason)
    started = time.perf_counter()
    scores = expit(table.astype(np.float64))
    lifted = profile.lift(scores, where[:queries], when[:queries], where[queries:], when[queries:])
    seconds = time.perf_counter() - started
    yield Figure("lifting", seconds, "s", seconds)
    who = sightings["pid"].to_numpy()
    truth = (who[:queries], who[queries:], where[:queries], where[queries:])
    for name, ranked in (("direct", table), ("lifted by fitted times", lifted)):
        metrics = evaluate_ranking(ranked, *truth)
        yield Figure(f"rank-1, {name}", 100 * float(metrics.cmc[0]), "%")
        yield Figure(f"mAP, {name}", 100 * metrics.mean_average_precision, "%")
