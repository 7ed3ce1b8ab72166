"""Train a network, and resume a killed training with the same weights.

The saved state holds everything that the next step depends on, and each draw of an image carries the seed of its
augmentation. So a resumed run ends with the weights of a run that was never stopped, bit for bit on the CPU with the
same number of threads. Several processes may train together (qaconv/training/distributed.py); the first one writes.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
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

from qaconv.config import TrainConfig
from qaconv.data.loading import as_input, encode_all, in_torch
from qaconv.data.samplers import Draw, TrainingImages
from qaconv.data.training_reader import TrainingCrops, TrainingReader
from qaconv.errors import InputError
from qaconv.files import replacing_file
from qaconv.matching import score_matrix
from qaconv.models.checkpoint import Network
from qaconv.models.encoder import Encoder
from qaconv.models.losses import Outcome, build_loss
from qaconv.models.losses.pairwise_matching import PairwiseMatching
from qaconv.progress import PeriodicLog
from qaconv.training import distributed
from qaconv.training.averaging import WeightAverage
from qaconv.training.holdout import Holdout
from qaconv.training.methods.trained import TrainedMethod
from qaconv.training.schedule import has_fallen, lr_at, stop_if_hopeless

log = logging.getLogger(__name__)

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def train(
    network: Network,
    crops: TrainingCrops,
    domains: NDArray[np.str_],
    camids: NDArray[np.int64],
    config: TrainConfig,
    method: TrainedMethod,
    *,
    holdout: Holdout | None,
    seed: int,
    device: torch.device,
    workers: int,
    checkpoint_every_steps: int,
    state_path: Path,
    fingerprint: str,
) -> pd.DataFrame:
    """Train a network in place. With `ema_decay` it ends with the average of its weights.

    Args:
        network: the network to train. It is moved to `device`.
        crops: the training images and their labels.
        domains: camera network of each image, [N].
        camids: camera of each image in its network, [N].
        config: the recipe.
        method: the loss and the sampler.
        holdout: people who are not among the crops; required if the recipe's schedule watches them.
        seed: seed of batches and augmentation.
        device: where to train.
        workers: processes that read images, in addition to the main one.
        checkpoint_every_steps: steps between two saved states. The state is also saved after each epoch.
        state_path: file of the saved state. The caller removes it after saving the network.
        fingerprint: digest of recipe and data. A state with another fingerprint is not resumed.

    Returns:
        A row for each epoch: epoch, loss, accuracy, lr, and holdout_map if the schedule watches it.

    Raises:
        InputError: there are fewer people than a batch needs, the loss is not finite, or nothing is learnt.
    """
    labels = np.asarray(crops.labels, dtype=np.int64)
    score = partial(_score_images, network, crops, device=device, workers=workers)
    images = TrainingImages(labels, domains, camids, config.identities_per_batch, config.images_per_identity, score)
    method.sampler.check(images)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        learner = _Learner(network, config, method, device, people=int(labels.max()) + 1)
    state = _State.load(state_path, fingerprint, learner) or _State(last_epoch=config.epochs)
    reader = TrainingReader(crops, workers, device)
    report = PeriodicLog(log)
    while state.epoch < state.last_epoch:
        if state.batches is None:
            rng = np.random.default_rng([seed, state.epoch])
            state.batches = distributed.from_first(partial(method.sampler.batches, images, rng))
            if not any(state.batches):
                raise InputError(f"sampler {method.sampler.kind}: draws no batch of {len(labels)} training images")
        started, image_count = time.monotonic(), 0
        for batch, targets in _read_batches(reader, state):
            image_count += len(state.batches[state.step])
            epoch = state.epoch + (state.step + 1) / len(state.batches)
            learner.set_lr(epoch, dropped=state.lr_dropped)
            state.add(learner.step(as_input(batch, device), targets, state.epoch))
            if report.due:
                state.read()
                report(
                    "epoch %d of %d, step %d of %d: loss %.3g, %.0f images/s",
                    *(state.epoch + 1, state.last_epoch, state.step, len(state.batches), state.loss_sum / state.step),
                    image_count / max(time.monotonic() - started, 1e-9),
                )
            if state.step % checkpoint_every_steps == 0:
                state.save(state_path, fingerprint, learner)
        seconds = time.monotonic() - started
        row = state.close_epoch(learner.lr)
        if holdout and config.lr_drop_by == "holdout":
            measure = partial(holdout.mean_average_precision, learner.result(), device=device, workers=workers)
            row["holdout_map"] = distributed.from_first(measure)
        log.info(
            "epoch %d of %d: %s, %.0f images/s",
            row["epoch"],
            state.last_epoch,
            ", ".join(f"{name} {value:.3g}" for name, value in row.items() if name != "epoch"),
            image_count / max(seconds, 1e-9),
        )
        stop_if_hopeless(state.history, config, method)
        _schedule(state, learner, config, method)
        state.save(state_path, fingerprint, learner)
    if learner.average:
        learner.average.copy_to(network)
    return pd.DataFrame(state.history)


def _read_batches(reader: TrainingReader, state: "_State") -> Iterable[tuple[Tensor, Tensor]]:
    """Read this process's share of the batches that are left in the epoch, behind a progress bar."""
    assert state.batches is not None
    shares = [distributed.share(batch) for batch in state.batches[state.step :]]
    return track(
        reader.read(shares),
        f"epoch {state.epoch + 1}",
        len(shares),
        transient=True,
        disable=not distributed.is_first(),
    )


class _Learner:
    """One step of gradient descent on the network and its loss."""

    def __init__(
        self, network: Network, config: TrainConfig, method: TrainedMethod, device: torch.device, *, people: int
    ) -> None:
        assert isinstance(network.encoder, Encoder)  # a graph is not trained
        self.network = network
        self.encoder = network.encoder.to(device).to(memory_format=torch.channels_last)  # makes convolutions faster
        self.encode = distributed.spread(self.encoder)
        self.loss = build_loss(method.loss, network.head, people).to(device)
        in_head = {id(weight) for weight in network.head.parameters()}
        self.clipped = [  # each by its norm: see docs/design.md
            list(self.encoder.parameters()),
            list(network.head.parameters()),
            [weight for weight in self.loss.parameters() if id(weight) not in in_head],
        ]
        self.average = WeightAverage(network, config.ema_decay) if config.ema_decay else None
        self.reads_vectors = method.loss.needs_vectors
        self.first_loss = PairwiseMatching().build(network.head, people).to(device)
        self.first_epochs = method.loss.warm_up_epochs()
        self.config, self.device = config, device
        self.half = torch.float16 if device.type == "cuda" else torch.bfloat16
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.amp and device.type == "cuda")
        new = [*self.encoder.neck.parameters(), *self.encoder.pool.parameters(), *self.loss.parameters()]
        groups = [
            {"params": list(self.encoder.trunk.parameters()), "lr": config.backbone_lr},
            {"params": new, "lr": config.lr},
        ]
        self.fused = device.type == "cuda"  # one kernel a step, which does not wait to learn of an overflow
        self.optimiser = OPTIMISERS[config.optimiser](groups, weight_decay=config.weight_decay, fused=self.fused)
        if self.fused and config.optimiser == "sgd":  # unset by PyTorch if the first step overflows and is skipped
            for weight in (weight for group in self.optimiser.param_groups for weight in group["params"]):
                self.optimiser.state[weight]["momentum_buffer"] = torch.zeros_like(weight)

    @property
    def lr(self) -> float:
        return float(self.optimiser.param_groups[1]["lr"])

    def set_lr(self, epoch: float, *, dropped: bool) -> None:
        """Set the learning rates of the step that ends at `epoch`, such as 1.5 in the middle of the second epoch."""
        for group, lr in zip(self.optimiser.param_groups, (self.config.backbone_lr, self.config.lr), strict=True):
            group["lr"] = lr_at(epoch, self.config, lr, dropped=dropped)

    def step(self, images: Tensor, targets: Tensor, epoch: int) -> Outcome:
        self.encoder.train()
        if self.config.freeze_batchnorm:
            self.encoder.trunk.eval()
        is_first = epoch < self.first_epochs
        loss = self.first_loss if is_first else self.loss
        loss.train()
        with torch.autocast(self.device.type, self.half, enabled=self.config.amp):
            encoded = distributed.gather(self.encode(images, vectors=self.reads_vectors and not is_first))
            outcome: Outcome = loss(encoded, distributed.gather(targets))
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(outcome.loss).backward()
        distributed.average_gradients(loss)
        self.scaler.unscale_(self.optimiser)
        if self.config.clip_norm:
            for weights in self.clipped:
                nn.utils.clip_grad_norm_(weights, self.config.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.average:
            self.average.update(self.network)
        return outcome

    def result(self) -> Network:
        """Return the network that a training which ended now would leave."""
        return self.average.network if self.average else self.network

    def parts(self) -> dict[str, Any]:
        parts = {"encoder": self.encoder, "loss": self.loss, "optimiser": self.optimiser, "scaler": self.scaler}
        return parts | ({"average": self.average} if self.average else {})


@dataclass
class _State:
    """The state of a training between two steps."""

    last_epoch: int
    epoch: int = 0
    step: int = 0
    batches: list[list[Draw]] | None = None  # of the current epoch
    loss_sum: float = 0.0
    accuracy_sum: float = 0.0
    lr_dropped: bool = False
    history: list[dict[str, float]] = field(default_factory=list)
    unread: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # losses and accuracies of the latest steps

    def add(self, outcome: Outcome) -> None:
        self.step += 1
        self.unread.append((outcome.loss.detach(), outcome.accuracy))

    def read(self) -> None:
        """Add the losses of the latest steps to the sums. They are read together, as reading makes a GPU wait.

        Raises:
            InputError: the loss is not finite.
        """
        for loss, accuracy in self.unread:
            self.loss_sum += loss.item()
            self.accuracy_sum += accuracy.item()
        self.unread = []
        if not math.isfinite(self.loss_sum):
            raise InputError(f"training: the loss must be finite, got {self.loss_sum}; lower train.lr in params.yaml")

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
        with replacing_file(path) as new_file:
            torch.save({"fingerprint": fingerprint, "state": values, "parts": parts}, new_file)

    @classmethod
    def load(cls, path: Path, fingerprint: str, learner: _Learner) -> "_State | None":
        content = distributed.from_first(lambda: path.read_bytes() if path.is_file() else None)
        if content is None:
            return None
        saved = torch.load(BytesIO(content), map_location=learner.device, weights_only=True)
        if saved["fingerprint"] != fingerprint:
            log.warning("%s: belongs to a run with other parameters or data; training starts from the beginning", path)
            return None
        for name, part in learner.parts().items():
            if saved["parts"][name]:  # a scaler that is not used, as on a CPU, has no state
                part.load_state_dict(saved["parts"][name])
        for group in learner.optimiser.param_groups:
            group["fused"] = learner.fused  # for this device, not for the one that saved the state
        state = cls(**saved["state"])
        if state.batches is not None:
            state.batches = [[Draw(*draw) for draw in batch] for batch in state.batches]
        log.info("%s: resumes at epoch %d of %d, step %d", path, state.epoch + 1, state.last_epoch, state.step)
        return state


def _score_images(
    network: Network, crops: TrainingCrops, rows: Sequence[int], *, device: torch.device, workers: int
) -> NDArray[np.float32]:
    """Match one image of each of I people with the images of all, and return the logits [I, I]."""
    started = time.monotonic()
    paths = [crops.crops.paths[row] for row in rows]
    encode = in_torch(network.encoder, device)
    maps = encode_all(encode, paths, crops.crops.size, batch_size=256, workers=workers)
    encoded = time.monotonic()
    scores = score_matrix(maps, maps, network.head, device=device)
    seconds = time.monotonic() - encoded
    log.info(
        "graph of %d identities: encoded in %.1f s, matched in %.1f s (%.0f pairs/s)",
        len(rows),
        encoded - started,
        seconds,
        scores.size / max(seconds, 1e-9),
    )
    return scores


def _schedule(state: _State, learner: _Learner, config: TrainConfig, method: TrainedMethod) -> None:
    """Divide the learning rate by 10 at `lr_drop_epoch`, or before if the watched error has fallen far enough.

    In the second case training goes on for half as many epochs again, as in the authors' v2.1.
    """
    if state.lr_dropped or config.lr_schedule == "cosine":
        return
    learnt = has_fallen(state.history, config, method)
    if learnt or state.epoch == config.lr_drop_epoch:
        state.lr_dropped = True
        if learnt:
            state.last_epoch = min(config.epochs, state.epoch + state.epoch // 2)
        log.info("learning rate drops tenfold to %g; training ends after epoch %d", learner.lr / 10, state.last_epoch)
