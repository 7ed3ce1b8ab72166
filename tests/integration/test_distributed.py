"""Two processes that train together learn what one process learns from the same draws."""

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessExitedException

from qaconv.config import MachineConfig
from qaconv.data.samplers.domain_balanced import DomainBalancedSampler
from qaconv.data.samplers.graph import GraphSampler
from qaconv.data.samplers.random import RandomSampler
from qaconv.errors import InputError
from qaconv.models.losses import Outcome
from qaconv.models.losses.class_memory import ClassMemory
from qaconv.models.losses.hard_triplet import HardTriplet
from qaconv.models.losses.identity import Identity
from qaconv.training import trainer
from qaconv.training.distributed import joined, launch, share, spread
from qaconv.training.methods.trained import TrainedMethod
from tests.training.small_trainings import RECIPE, draw_people, make_method, run

MACHINE = MachineConfig(device="cpu", processes=2, workers=0, checkpoint_every_steps=2)
# Small steps: where large ones take a network from one best partner to another, rounding grows into another training.
GENTLE = RECIPE.model_copy(update={"epochs": 1, "lr_drop_epoch": 1, "lr": 1e-3, "backbone_lr": 1e-3})
METHODS = {
    "pairwise": make_method(train=GENTLE),
    "triplet": make_method(train=GENTLE, loss=HardTriplet(margin=4), sampler=GraphSampler()),
    "memory": make_method(train=GENTLE, loss=ClassMemory(), sampler=RandomSampler()),
    "pooled": make_method("pooled", train=GENTLE, loss=Identity(), sampler=DomainBalancedSampler()),
    "averaged": make_method(train=GENTLE.model_copy(update={"ema_decay": 0.8})),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train each method in two processes, and one more that is resumed after a process was killed."""
    folder = tmp_path_factory.mktemp("together")
    with pytest.raises(ProcessExitedException, match="process 1 terminated with signal SIGKILL"):
        launch(2, train_all_and_die, folder)
    assert launch(2, go_on, folder) == 0
    return folder


def train_all_and_die(folder: Path) -> None:
    with joined(MACHINE):
        for name, method in METHODS.items():
            train_one(folder, name, method)
        step = trainer._Learner.step
        taken: list[Any] = []

        def die_at_the_fourth(self: trainer._Learner, *batch: Any) -> Outcome:
            taken.append(batch)
            if len(taken) == 4 and os.environ["RANK"] == "1":
                os.kill(os.getpid(), signal.SIGKILL)
            return step(self, *batch)

        trainer._Learner.step = die_at_the_fourth  # type: ignore[method-assign, assignment]
        train_one(folder, "killed", METHODS["averaged"])


def go_on(folder: Path) -> None:
    assert (folder / "killed" / "state.pt").is_file()
    with joined(MACHINE):
        train_one(folder, "killed", METHODS["averaged"])


def train_one(folder: Path, name: str, method: TrainedMethod) -> None:
    weights, history = run(draw_people(folder / f"people{os.environ['RANK']}"), folder / name, method.train, method)
    torch.save(weights, folder / f"{name}.{os.environ['RANK']}.pt")
    history.to_csv(folder / f"{name}.csv", index=False)


def load(folder: Path, name: str, rank: int = 0) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = torch.load(folder / f"{name}.{rank}.pt")
    return weights


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_learn_what_one_does_from_whole_batches(folder: Path, tmp_path: Path, name: str) -> None:
    method = METHODS[name]
    alone, history = run(draw_people(tmp_path / "people"), tmp_path, method.train, method)
    together = load(folder, name)
    assert together.keys() == alone.keys()
    for weight, value in alone.items():
        torch.testing.assert_close(together[weight], value, rtol=1e-5, atol=1e-5, msg=partial("{}: {}".format, weight))
    losses = [float(line.split(",")[1]) for line in (folder / f"{name}.csv").read_text().splitlines()[1:]]
    assert losses == pytest.approx(history["loss"].tolist(), rel=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_both_processes_end_with_the_same_bits(folder: Path, name: str) -> None:
    first, second = load(folder, name), load(folder, name, rank=1)
    assert all(torch.equal(first[weight], second[weight]) for weight in first)


def test_training_with_a_killed_process_is_resumed_to_the_same_bits(folder: Path) -> None:
    undisturbed, resumed = load(folder, "averaged"), load(folder, "killed")
    assert all(torch.equal(undisturbed[weight], resumed[weight]) for weight in undisturbed)


def test_single_process_is_refused_for_several() -> None:
    with pytest.raises(InputError, match="machine.processes must be 1 in a single process, got 2"), joined(MACHINE):
        pass


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process the second of three."""
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 3)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)


@pytest.mark.usefixtures("three")
def test_shares_are_consecutive_parts_of_a_batch() -> None:
    assert share(list(range(9))) == [3, 4, 5]


@pytest.mark.usefixtures("three")
def test_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    with pytest.raises(InputError, match="must be a multiple of the 3 processes, got 8"):
        share(list(range(8)))


@pytest.mark.usefixtures("three")
def test_network_whose_batch_statistics_cannot_be_shared_is_refused() -> None:
    with pytest.raises(InputError, match="a network with BatchNorm1d, whose statistics several processes cannot share"):
        spread(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))


def test_fewer_gpus_than_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    machine = MACHINE.model_copy(update={"device": "cuda"})
    with pytest.raises(InputError, match="'cuda' for 4 processes on a machine with 2 GPUs"), joined(machine):
        pass
