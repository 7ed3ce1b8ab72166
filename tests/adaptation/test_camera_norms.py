"""Cameras of a target get batch norms of their own where times say that more matches are right."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from qaconv.adaptation.camera_norms import FEWEST, MOST, draw_rows, norm_cameras
from qaconv.adaptation.rounds import Adaptation, Rounds
from qaconv.config import Params
from qaconv.data.manifest import Manifest
from qaconv.models.checkpoint import load_network
from qaconv.models.encoder import Encoder
from qaconv.paths import MODELS, PREPARED
from tests.adaptation.small_target import CAMERAS, encode_by_torch, target_params, write_target

CPU = torch.device("cpu")
CASTS = np.array([[1.0, 0.675, 0.65], [0.65, 0.95, 0.7], [0.675, 0.65, 1.05]])


def adapt(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Rounds:
    """Adapt to a target whose cameras have colour casts, without training by default."""
    monkeypatch.chdir(folder)
    encode_by_torch(monkeypatch)
    params: Params = target_params(folder)
    settings = {"rounds": 0, "camera_norms": True, **settings}
    params = params.model_copy(update={"adapt": params.adapt.model_copy(update=settings)})
    view = write_target(params, casts=CASTS)
    method: Any = params.method("qaconv")
    manifest = Manifest.load(PREPARED / "shop")
    return Adaptation(params, method, "shop", manifest, MODELS / "qaconv", folder / "kept", CPU).run(view)


def test_norms_of_each_camera_are_kept_where_times_say_that_they_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = adapt(tmp_path, monkeypatch)
    assert rounds.norms and rounds.norms.low > 0 and rounds.norms.after > rounds.norms.before + 0.05
    assert rounds.norms.count > len(np.unique(rounds.held_out))  # all people say so
    assert (rounds.best.number, rounds.best.by_camera, rounds.best.is_changed) == (0, True, True)
    before, after = (load_file(each.network / "weights.safetensors") for each in (rounds.first, rounds.best))
    added = {f"encoder.camera_norms.{name}" for name in ("camids", "scale", "shift")}
    assert after.keys() - before.keys() == added
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert after["encoder.camera_norms.camids"].tolist() == list(range(CAMERAS))


def test_they_are_not_tried_where_the_settings_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = adapt(tmp_path, monkeypatch, camera_norms=False)
    assert rounds.norms is None and not rounds.later and not rounds.best.is_changed


def test_a_round_that_follows_begins_with_their_identities_and_norms_its_own_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = adapt(tmp_path, monkeypatch, rounds=1)
    normed, trained = rounds.later
    assert (normed.number, trained.number, trained.by_camera) == (0, 1, True)
    scales = [load_file(each.network / "weights.safetensors")["encoder.camera_norms.scale"] for each in rounds.later]
    assert not torch.allclose(scales[0], scales[1])
    assert [each.row()["batch_norms"] for each in (rounds.first, *rounds.later)] == [
        "of all cameras",
        "of each camera",
        "of each camera",
    ]


def test_a_camera_with_too_few_crops_keeps_the_norms_of_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    encode_by_torch(monkeypatch)
    write_target(target_params(tmp_path))
    manifest = Manifest.load(PREPARED / "shop")
    on_camera = (manifest.frame["camid"] == 1).cumsum().where(manifest.frame["camid"] == 1, 0)
    fewer = replace(manifest, frame=manifest.frame[on_camera < FEWEST].reset_index(drop=True), images_digest="")
    network = norm_cameras(load_network(MODELS / "qaconv")[0], fewer, seed=1, device=CPU)
    assert isinstance(network.encoder, Encoder) and network.encoder.camera_norms
    assert network.encoder.camera_norms.camids.tolist() == [0, 2]
    none = replace(fewer, frame=fewer.frame[fewer.frame["camid"] == 1].reset_index(drop=True))
    assert not norm_cameras(load_network(MODELS / "qaconv")[0], none, seed=1, device=CPU).knows_cameras


def test_many_crops_of_a_camera_are_drawn_by_the_seed() -> None:
    camid = np.repeat([4, 6, 9], [MOST + 500, FEWEST, FEWEST - 1])
    drawn, again, other = (draw_rows(camid, seed) for seed in (1, 1, 2))
    assert {camera: len(rows) for camera, rows in drawn.items()} == {4: MOST, 6: FEWEST}
    assert sorted(drawn[6]) == list(range(MOST + 500, MOST + 500 + FEWEST))
    assert len(np.unique(drawn[4])) == MOST and drawn[4].max() > MOST
    assert np.array_equal(drawn[4], again[4]) and not np.array_equal(drawn[4], other[4])
