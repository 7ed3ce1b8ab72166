from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qaconv.adaptation.rounds import Adaptation
from qaconv.config import Params
from qaconv.data.manifest import Manifest
from qaconv.data.samplers import Draw
from qaconv.paths import MODELS, PREPARED
from qaconv.training import trainer
from tests.adaptation.small_target import COUNT, encode_by_torch, target_params, write_target


@pytest.fixture
def adaptation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Adaptation:
    monkeypatch.chdir(tmp_path)
    encode_by_torch(monkeypatch)
    params: Params = target_params(tmp_path)
    write_target(params)
    method: Any = params.method("qaconv")
    manifest = Manifest.load(PREPARED / "shop")
    return Adaptation(params, method, "shop", manifest, MODELS / "qaconv", tmp_path / "kept", torch.device("cpu"))


def test_a_round_takes_as_many_steps_as_if_all_were_trained_on_and_matches_people_across_cameras(
    adaptation: Adaptation, monkeypatch: pytest.MonkeyPatch
) -> None:
    sightings = adaptation.manifest.sightings()
    person, camid = sightings["pid"].to_numpy(), sightings["camid"].to_numpy()
    read: list[list[Draw]] = []
    read_batches = trainer._read_batches

    def record(reader: Any, state: Any) -> Any:
        read.extend(state.batches)
        return read_batches(reader, state)

    monkeypatch.setattr(trainer, "_read_batches", record)
    steps = []
    for number, people in ((1, 20), (2, 10)):
        read.clear()
        adaptation.train_round(number, np.where(person < people, person, -1))
        steps.append(len(read))
        chosen = np.flatnonzero(person < people)
        for batch in read:
            shown = Counter((person[chosen[draw.row]], camid[chosen[draw.row]]) for draw in batch)
            assert set(shown.values()) == {1}
    in_a_batch = 8 * 2
    assert steps == [adaptation.params.adapt.epochs * round(COUNT / in_a_batch)] * 2
