"""Adapt a network to a target in rounds: identities by times and looks become labels, which the network learns.

N sightings. What a round has trained is kept, and found again after a kill by a digest of what it was trained with.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from qaconv.adaptation.camera_norms import FEWEST, has_norms, norm_cameras
from qaconv.adaptation.core import choose_core, draw_held_out
from qaconv.adaptation.evidence import HeldOutMatches, judge_by_times, share_difference
from qaconv.adaptation.outcome import Change
from qaconv.adaptation.view import View, view_target
from qaconv.config import Params
from qaconv.data.loading import Crops
from qaconv.data.manifest import Manifest
from qaconv.data.samplers.across_cameras import AcrossCamerasSampler
from qaconv.data.training_reader import TrainingCrops
from qaconv.data.transforms import build_augmentation
from qaconv.identities.quality import estimate_purity
from qaconv.models.checkpoint import Network, load_network
from qaconv.models.description import weights_digest
from qaconv.release.graphs import save_with_graph
from qaconv.training.methods.trained import TrainedMethod
from qaconv.training.trainer import train

log = logging.getLogger(__name__)

FINGERPRINT = "fingerprint"  # key of a round's model.json

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Round:
    """What was trained, and what times say of it.

    Attributes:
        number: from 1; 0 is the network that the adaptation begins with.
        network: folder of the network.
        view: of the target.
        matches: of people held out, judged by times alone; None where times are not used.
        sightings: that were trained on.
        identities: that they were taken for.
        purity: share of the sightings that show the most frequent person of their identity, estimated without labels.
        by_camera: whether each camera has batch norms of its own.
    """

    number: int
    network: Path
    view: View
    matches: HeldOutMatches | None = None
    sightings: int = 0
    identities: int = 0
    purity: float | None = None
    by_camera: bool = False

    @property
    def is_changed(self) -> bool:
        """Whether the network is another one than the adaptation begins with."""
        return self.number > 0 or self.by_camera

    def row(self) -> dict[str, object]:
        """Return the row of rounds.csv."""
        return {
            "round": self.number,
            "batch_norms": "of each camera" if self.by_camera else "of all cameras",
            "sightings": self.sightings,
            "identities": self.identities,
            "purity": self.purity,
            "right": self.matches.share if self.matches else None,
        }

    def __str__(self) -> str:
        right = f"{100 * self.matches.share:.1f} % of matches right by times" if self.matches else "times are off"
        norms = "batch norms of each camera, " if self.by_camera else ""
        purity = "" if self.purity is None else f" of purity {100 * self.purity:.1f} %"
        trained = f"{self.sightings:,} sightings of {self.identities:,} identities{purity}; " if self.number else ""
        return f"round {self.number}, {norms}{trained}{right}"


@dataclass(frozen=True)
class Rounds:
    """All rounds of an adaptation.

    Attributes:
        first: the network that it begins with, which is not trained.
        later: the same network with batch norms of each camera, if these are better, and the rounds from 1.
        held_out: number of each sighting's identity among those held out, from 0, and -1 of the others, [N].
        reason: why no further round was trained, for people.
        norms: by how much batch norms of each camera raise the share of right matches of all people, before anything is
            trained. None: they were not tried.
        seed: of the bootstrap of a difference.
    """

    first: Round
    later: Sequence[Round]
    held_out: Ints
    reason: str
    norms: Change | None = None
    seed: int = 0

    @property
    def trained(self) -> Sequence[Round]:
        """The rounds from 1."""
        return [each for each in self.later if each.number]

    @property
    def best(self) -> Round:
        """The round with the most right ones among the matches of people held out; of equal ones the first.

        Norms of each camera are known to be better by the matches of all people. A round is kept after them if it is
        better than the first network with confidence, too, and not worse with confidence than norms alone.
        """
        untrained = [each for each in (self.first, *self.later) if not each.number][-1]
        if not self.trained:
            return untrained
        trained = max(self.trained, key=_share)
        if not untrained.by_camera:
            return max((untrained, trained), key=_share)
        assert trained.matches and untrained.matches and self.first.matches
        matches = self.first.matches, untrained.matches
        than_first, than_norms = (share_difference(trained.matches, each, seed=self.seed) for each in matches)
        return trained if than_first.low > 0 and than_norms.high >= 0 else untrained


def _share(each: Round) -> float:
    """Return the share of right ones among the matches of people held out; 0 where times are not used."""
    return each.matches.share if each.matches else 0.0


@dataclass(frozen=True)
class Adaptation:
    """The adaptation of a network to a target.

    Attributes:
        params: of the project.
        method: that is served.
        target: name.
        manifest: of the target; no pid is read.
        network: folder of the network to begin with.
        unfinished: folder of what is kept until the end.
        device: where to train and match.
    """

    params: Params
    method: TrainedMethod
    target: str
    manifest: Manifest
    network: Path
    unfinished: Path
    device: torch.device

    def run(self, view: View) -> Rounds:
        """Train rounds until one is no better.

        Without odds that count times nothing is trained: looks alone do not say when they are wrong.

        Args:
            view: the target, as the network sees it that the adaptation begins with.
        """
        if view.profile.match_odds is None:
            nobody = np.full(len(view.sightings), -1, dtype=np.int64)
            return Rounds(Round(0, self.network, view), (), nobody, f"times are not used: {view.profile.reason}")
        held_out = draw_held_out(view.identities.identity, self.params.seed)
        rounds = [Round(0, self.network, view, judge_by_times(view, view, held_out))]
        norms = self._add_norms(rounds, held_out) if self.params.adapt.camera_norms else None
        reason = None
        while reason is None:
            reason = self._add_round(rounds, held_out)
        return Rounds(rounds[0], rounds[1:], held_out, reason, norms, self.params.seed)

    def _add_norms(self, rounds: list[Round], held_out: Ints) -> Change | None:
        """Add the network with batch norms of each camera if times say, with confidence, that it is better.

        The matches of all people say so, as none of them has been trained on.

        Returns:
            By how much; None if it has no batch norms, or all cameras too few crops.
        """
        (first,) = rounds
        folder = self.unfinished / "norms"
        network, _ = load_network(first.network)
        if not has_norms(network):
            log.info("%s: the network has no batch norms, so cameras get none of their own", self.target)
            return None
        network = self._norm(network)
        if not network.knows_cameras:
            log.info("%s: no camera has %d sightings, so none gets batch norms of its own", self.target, FEWEST)
            return None
        save_with_graph(network, folder, {}, {})
        view = self._view(folder, "view-norms")
        everybody = np.unique(first.view.identities.identity, return_inverse=True)[1]
        after, before = (judge_by_times(each, first.view, everybody) for each in (view, first.view))
        gain = share_difference(after, before, seed=self.params.seed)
        change = (100 * value for value in (before.share, after.share, gain.value, gain.low, gain.high))
        log.info(
            "%s: batch norms of each camera: matches right by times %.1f > %.1f %%, %+.1f (%.1f to %.1f)",
            self.target,
            *change,
        )
        if gain.low > 0:
            matches = judge_by_times(view, first.view, held_out)
            rounds.append(Round(0, folder, view, matches, by_camera=True))
        return Change.of(before.share, gain)

    def _norm(self, network: Network) -> Network:
        return norm_cameras(network, self.manifest, seed=self.params.seed, device=self.device)

    def _view(self, network: Path, name: str) -> View:
        """See the target through a network; `name` is the folder of maps and matches."""
        workers = self.params.machine.workers
        folder = self.unfinished / name
        return view_target(network, self.manifest, self.params.evaluate, folder, device=self.device, workers=workers)

    def _add_round(self, rounds: list[Round], held_out: Ints) -> str | None:
        """Train a further round, or return the reason to stop."""
        before = rounds[-1]
        number, last, by_camera = before.number + 1, before.view, before.by_camera
        shares = [_share(each) for each in rounds if each.number or not by_camera]
        if len(shares) > 1 and shares[-1] <= shares[-2]:
            return f"matches of people held out got no better in round {number - 1}"
        if number > self.params.adapt.rounds:
            return f"adapt.rounds is {self.params.adapt.rounds}"
        if last.profile.match_odds is None:
            return f"times are not used after round {number - 1}: {last.profile.reason}"
        camid = last.sightings["camid"].to_numpy()
        labels = choose_core(camid, last.identities.identity, held_out)
        identities = int(labels.max(initial=-1)) + 1
        if identities < (needed := self.method.train.identities_per_batch):
            return f"{identities} identities are on two cameras; at least {needed} are needed"
        core = labels >= 0
        purity = estimate_purity(labels[core], last.people[:, core]).value
        network = self.train_round(number, labels, by_camera=by_camera)
        view = self._view(network, f"view-{number}")
        matches = judge_by_times(view, rounds[0].view, held_out)
        rounds.append(Round(number, network, view, matches, int(core.sum()), identities, purity, by_camera))
        log.info("%s: %s", self.target, rounds[-1])
        return None

    def train_round(self, number: int, labels: Ints, *, by_camera: bool = False) -> Path:
        """Train a round, or find it trained, and return the folder of its network.

        Args:
            number: of the round.
            labels: of the target's sightings, [N]; those below 0 are not trained on.
            by_camera: whether each camera then gets batch norms of its own. Default: no.
        """
        folder = self.unfinished / f"round-{number}"
        table = self._table(labels)
        recipe = self.recipe | {"round": number, "sightings": len(labels), "by_camera": by_camera}
        described = json.dumps(recipe, sort_keys=True) + table.to_csv(index=False)
        fingerprint = sha256(described.encode()).hexdigest()
        if (folder / "model.json").is_file() and load_network(folder)[1][FINGERPRINT] == fingerprint:
            log.info("%s, round %d: was trained before", self.target, number)
            return folder
        network, _ = load_network(self.network)
        size = network.architecture.image
        crops = Crops(table["path"].tolist(), size)
        augmentation = build_augmentation(self.trained_by.augment, size)
        settings = self.params.adapt
        epochs = max(1, round(settings.epochs * len(labels) / len(table)))  # as many steps as if all were trained on
        state = self.unfinished / "training.pt"
        history = train(
            network,
            TrainingCrops(crops, table["label"].tolist(), augmentation),
            np.full(len(table), self.target),
            table["camid"].to_numpy(),
            self.trained_by.train.model_copy(
                update={
                    "epochs": epochs,
                    "lr": settings.lr,
                    "backbone_lr": settings.lr,
                    "lr_schedule": "step",
                    "lr_drop_epoch": max(1, epochs - 1),
                    "lr_drop_when_loss_below": 0.0,
                    "lr_drop_by": "training_loss",
                }
            ),
            self.trained_by,
            holdout=None,
            seed=self.params.seed + number,
            device=self.device,
            workers=self.params.machine.workers,
            checkpoint_every_steps=self.params.machine.checkpoint_every_steps,
            state_path=state,
            fingerprint=fingerprint,
        )
        files = {"history.csv": history.to_csv(index=False, lineterminator="\n")}
        save_with_graph(self._norm(network) if by_camera else network, folder, {FINGERPRINT: fingerprint}, files)
        state.unlink()
        return folder

    @cached_property
    def recipe(self) -> dict[str, object]:
        """What is trained with, except for the images."""
        return {
            "target": self.target,
            "network": weights_digest(self.network),
            "seed": self.params.seed,
            "adapt": self.params.adapt.model_dump(exclude={"targets", "rounds", "camera_norms"}),
            "method": self.trained_by.model_dump(),
            "torch": torch.__version__,
        }

    @cached_property
    def trained_by(self) -> TrainedMethod:
        """The method, with batches across cameras."""
        return self.method.model_copy(update={"sampler": AcrossCamerasSampler()})

    def _table(self, labels: Ints) -> pd.DataFrame:
        """Return path, camera and label of each image to train on."""
        core = labels >= 0
        sightings = self.manifest.sightings()[core]
        paths = [self.manifest.root / image for image in sightings["image"]]
        return pd.DataFrame({"path": paths, "camid": sightings["camid"].to_numpy(), "label": labels[core]})
