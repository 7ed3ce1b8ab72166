"""A network and training images go in; the network comes out trained, and its history, whatever was killed on the way.

The state on disk holds everything that the next step depends on, and each draw of an image carries its own seed, so
a resumed run ends with the weights of one that was never stopped: bit for bit on the CPU, with as many threads.
Several processes may train together (qaconv/training/distributed.py); the first one writes.
"""

import logging
import math
import time
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn

from qaconv.config import MethodConfig, TrainConfig
from qaconv.data.loading import as_input, encode_all, in_torch
from qaconv.data.samplers import Draw, domain_batches, graph_batches, one_image_each, pk_batches, random_batches
from qaconv.data.training_reader import TrainingCrops, TrainingReader
from qaconv.errors import InputError
from qaconv.files import replacing_file
from qaconv.matching import score_matrix
from qaconv.models.checkpoint import Network
from qaconv.models.losses import Outcome, PairwiseMatchingLoss, build_loss
from qaconv.progress import PeriodicLog
from qaconv.training import distributed
from qaconv.training.holdout import Holdout
from qaconv.training.schedule import has_fallen, refuse_hopeless, warm_up

log = logging.getLogger(__name__)


def train(
    network: Network,
    crops: TrainingCrops,
    domains: NDArray,
    config: TrainConfig,
    method: MethodConfig,
    *,
    holdout: Holdout | None,
    seed: int,
    device: torch.device,
    workers: int,
    checkpoint_every_steps: int,
    state_path: Path,
    fingerprint: str,
) -> pd.DataFrame:
    """Trains in place; gives one row an epoch: epoch, loss, accuracy, lr; holdout_map if the schedule watches it.

    Args:
        network: moved to `device`.
        crops: the training images and labels.
        domains: [N], the camera network of each image.
        config: the recipe.
        method: the loss and the sampler.
        holdout: people who are not among the crops; needed where the recipe's schedule watches them.
        seed: of batches and augmentation.
        device: where to train.
        workers: processes that read images beside the main one.
        checkpoint_every_steps: how often the state is written, besides at each epoch's end.
        state_path: where a killed run is picked up; for the caller to remove once the network is saved.
        fingerprint: of recipe and data; a state with another one is not resumed, one of other code is.

    Raises:
        InputError: fewer people than a batch needs, a loss that is no finite number, or a run that learns nothing.
    """
    labels = np.asarray(crops.labels, dtype=np.int64)
    _refuse_too_few(labels, domains, config, method)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        learner = _Learner(network, config, method, device, people=int(labels.max()) + 1)
    state = _State.load(state_path, fingerprint, learner) or _State(last_epoch=config.epochs)
    report = PeriodicLog(log)

    reader = TrainingReader(crops, workers, device)
    while state.epoch < state.last_epoch:
        if state.batches is None:
            rng = np.random.default_rng([seed, state.epoch])
            draw = partial(_draw_batches, network, crops, labels, domains, config, method, rng, device, workers)
            state.batches = distributed.from_first(draw)
        started, first = time.monotonic(), state.step
        left = [distributed.share(batch) for batch in state.batches[state.step :]]
        batches = track(
            reader.read(left),
            f"epoch {state.epoch + 1}",
            len(left),
            transient=True,
            disable=not distributed.is_first(),
        )
        for images, targets in batches:
            state.add(learner.step(as_input(images, device), targets, state.epoch))
            if report.due:
                state.read()
                report(
                    "epoch %d of %d, step %d of %d: loss %.3g, %.0f images/s",
                    *(state.epoch + 1, state.last_epoch, state.step, len(state.batches), state.loss_sum / state.step),
                    (state.step - first) * sum(map(len, state.batches[:1])) / max(time.monotonic() - started, 1e-9),
                )
            if state.step % checkpoint_every_steps == 0:
                state.save(state_path, fingerprint, learner)
        seconds = time.monotonic() - started
        rate = (state.step - first) * config.identities_per_batch * config.images_per_identity / max(seconds, 1e-9)
        row = state.close_epoch(learner.lr)
        if holdout and config.lr_drop_by == "holdout":
            measure = partial(holdout.mean_average_precision, network, device=device, workers=workers)
            row["holdout_map"] = distributed.from_first(measure)
        log.info(
            "epoch %d of %d: %s, %.0f images/s",
            row["epoch"],
            state.last_epoch,
            ", ".join(f"{name} {value:.3g}" for name, value in row.items() if name != "epoch"),
            rate,
        )
        refuse_hopeless(state.history, config, method)
        _schedule(state, learner, config, method)
        state.save(state_path, fingerprint, learner)
    return pd.DataFrame(state.history)


class _Learner:
    """One step of gradient descent on the network and its loss."""

    def __init__(
        self, network: Network, config: TrainConfig, method: MethodConfig, device: torch.device, *, people: int
    ) -> None:
        self.encoder = network.encoder.to(device).to(memory_format=torch.channels_last)  # quicker convolutions
        self.encode = distributed.spread(self.encoder)
        self.loss = build_loss(method.loss, network.head, margin=config.margin, people=people).to(device)
        self.first_loss = PairwiseMatchingLoss(network.head).to(device)
        self.first_epochs = warm_up(config, method)
        self.config, self.device = config, device
        self.half = torch.float16 if device.type == "cuda" else torch.bfloat16
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.amp and device.type == "cuda")
        new = [*self.encoder.neck.parameters(), *self.encoder.pool.parameters(), *self.loss.parameters()]
        groups = [
            {"params": list(self.encoder.trunk.parameters()), "lr": config.backbone_lr},
            {"params": new, "lr": config.lr},
        ]
        self.fused = device.type == "cuda"  # one kernel a step, which need not wait to learn whether half overflowed
        self.optimiser = torch.optim.SGD(
            groups, momentum=0.9, nesterov=True, weight_decay=config.weight_decay, fused=self.fused
        )
        if self.fused:  # PyTorch leaves the momentum unset where the first step overflows and is passed over
            for weight in (weight for group in self.optimiser.param_groups for weight in group["params"]):
                self.optimiser.state[weight]["momentum_buffer"] = torch.zeros_like(weight)

    @property
    def lr(self) -> float:
        return float(self.optimiser.param_groups[1]["lr"])

    def drop_lr(self) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] /= 10

    def step(self, images: Tensor, targets: Tensor, epoch: int) -> Outcome:
        self.encoder.train()
        if self.config.freeze_batchnorm:
            self.encoder.trunk.eval()
        loss = self.first_loss if epoch < self.first_epochs else self.loss
        loss.train()
        with torch.autocast(self.device.type, self.half, enabled=self.config.amp):
            maps = distributed.gather(self.encode(images))
            outcome: Outcome = loss(maps, distributed.gather(targets))
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(outcome.loss).backward()
        distributed.average_gradients(loss)
        self.scaler.unscale_(self.optimiser)
        if self.config.clip_norm:
            for part in (self.encoder, self.loss):  # apart, as theirs: a steep head must not shrink the encoder's step
                nn.utils.clip_grad_norm_(part.parameters(), self.config.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return outcome

    def parts(self) -> dict[str, Any]:
        return {"encoder": self.encoder, "loss": self.loss, "optimiser": self.optimiser, "scaler": self.scaler}


@dataclass
class _State:
    """Where training stands between two steps."""

    last_epoch: int
    epoch: int = 0
    step: int = 0
    batches: list[list[Draw]] | None = None  # of the epoch that is under way
    loss_sum: float = 0.0
    accuracy_sum: float = 0.0
    lr_dropped: bool = False
    history: list[dict[str, float]] = field(default_factory=list)
    unread: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # losses and accuracies of the latest steps

    def add(self, outcome: Outcome) -> None:
        self.step += 1
        self.unread.append((outcome.loss.detach(), outcome.accuracy))

    def read(self) -> None:
        """Sum what the latest steps came to; they are read together, since a GPU stops when it is asked for a number.

        Raises:
            InputError: a loss that is no finite number.
        """
        for loss, accuracy in self.unread:
            self.loss_sum += loss.item()
            self.accuracy_sum += accuracy.item()
        self.unread = []
        if not math.isfinite(self.loss_sum):
            raise InputError(f"training: the loss is {self.loss_sum}; lower train.lr in params.yaml")

    def close_epoch(self, lr: float) -> dict[str, float]:
        self.read()
        loss, accuracy = distributed.from_first(lambda: (self.loss_sum, self.accuracy_sum))
        row = {"epoch": self.epoch + 1, "loss": loss / self.step, "accuracy": accuracy / self.step, "lr": lr}
        self.history.append(row)
        self.epoch, self.step, self.batches, self.loss_sum, self.accuracy_sum = self.epoch + 1, 0, None, 0.0, 0.0
        return row

    def save(self, path: Path, fingerprint: str, learner: _Learner) -> None:
        self.read()
        if not distributed.is_first():
            return
        values = {
            **vars(self),
            "batches": None if self.batches is None else [[tuple(draw) for draw in batch] for batch in self.batches],
        }
        parts = {name: part.state_dict() for name, part in learner.parts().items()}
        with replacing_file(path) as beside:
            torch.save({"fingerprint": fingerprint, "state": values, "parts": parts}, beside)

    @classmethod
    def load(cls, path: Path, fingerprint: str, learner: _Learner) -> "_State | None":
        content = distributed.from_first(lambda: path.read_bytes() if path.is_file() else None)
        if content is None:
            return None
        saved = torch.load(BytesIO(content), map_location=learner.device, weights_only=True)
        if saved["fingerprint"] != fingerprint:
            log.warning("%s: is of a run with other parameters or data; training starts anew", path)
            return None
        for name, part in learner.parts().items():
            if saved["parts"][name]:  # a scaler has nothing to save where it is not used, as on a CPU
                part.load_state_dict(saved["parts"][name])
        for group in learner.optimiser.param_groups:
            group["fused"] = learner.fused  # of this device, whichever wrote the state
        state = cls(**saved["state"])
        if state.batches is not None:
            state.batches = [[Draw(*draw) for draw in batch] for batch in state.batches]
        log.info("%s: resumes at epoch %d of %d, step %d", path, state.epoch + 1, state.last_epoch, state.step)
        return state


def _refuse_too_few(labels: NDArray[np.int64], domains: NDArray, config: TrainConfig, method: MethodConfig) -> None:
    """A batch shows each person once."""
    places = domains if method.sampler == "domain_balanced" else np.full(len(labels), "all sources")
    names = np.unique(places)
    needed = -(-config.identities_per_batch // len(names))
    for name in names:
        people = len(np.unique(labels[places == name]))
        if people < needed:
            raise InputError(
                f"params.yaml: train.identities_per_batch is {config.identities_per_batch}, {needed} of them from "
                f"{name}, and the training images show {people} people there; legal is 2 to {people * len(names)}"
            )


def _draw_batches(
    network: Network,
    crops: TrainingCrops,
    labels: NDArray[np.int64],
    domains: NDArray,
    config: TrainConfig,
    method: MethodConfig,
    rng: np.random.Generator,
    device: torch.device,
    workers: int,
) -> list[list[Draw]]:
    size = {"identities": config.identities_per_batch, "images": config.images_per_identity}
    match method.sampler:
        case "random":
            return random_batches(labels, size=config.identities_per_batch * config.images_per_identity, rng=rng)
        case "pk":
            return pk_batches(labels, **size, rng=rng)
        case "domain_balanced":
            return domain_batches(labels, domains, **size, rng=rng)
        case "graph":
            scores = _graph(network, crops, one_image_each(labels, rng), device, workers)
            return graph_batches(labels, scores, **size, rng=rng)


def _graph(
    network: Network, crops: TrainingCrops, chosen: list[int], device: torch.device, workers: int
) -> NDArray[np.float32]:
    """Logits [I, I] among one image of each identity."""
    started = time.monotonic()
    paths = [crops.crops.paths[index] for index in chosen]
    encode = in_torch(network.encoder, device)
    maps = encode_all(encode, paths, crops.crops.size, batch_size=256, workers=workers)
    encoded = time.monotonic()
    scores = score_matrix(maps, maps, network.head, device=device)
    seconds = time.monotonic() - encoded
    log.info(
        "graph of %d identities: encoded in %.1f s, matched in %.1f s (%.0f pairs/s)",
        len(chosen),
        encoded - started,
        seconds,
        scores.size / max(seconds, 1e-9),
    )
    return scores


def _schedule(state: _State, learner: _Learner, config: TrainConfig, method: MethodConfig) -> None:
    """lr / 10 at a fixed epoch; or as the authors' v2.1, once the loss has fallen far, and then half as many epochs."""
    if state.lr_dropped:
        return
    learnt = has_fallen(state.history, config, method)
    if learnt or state.epoch == config.lr_drop_epoch:
        learner.drop_lr()
        state.lr_dropped = True
        if learnt:
            state.last_epoch = min(config.epochs, state.epoch + state.epoch // 2)
        log.info("learning rate dropped to %g; training ends after epoch %d", learner.lr, state.last_epoch)
