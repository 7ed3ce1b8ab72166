"""From an adaptation to a registered version that a service can load, without made-up files."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from mlflow import MlflowClient

from qaconv.adaptation import rounds
from qaconv.matching.results import Matches
from qaconv.models.checkpoint import load_network, save_network
from qaconv.models.description import weights_digest
from qaconv.paths import ADAPTED, MODELS
from qaconv.registry.promotion import promote
from qaconv.registry.releases import load_served
from qaconv.registry.runs import retraining_run
from qaconv.registry.sites import log_adaptation, register_adapted
from qaconv.runtime.model import ServedModel
from qaconv.stages.adapt import adapt
from qaconv.stages.export_adapted import export_adapted
from tests.adaptation.small_target import encode_by_torch, target_params, write_target
from tests.tracked_projects import copy_store


def test_an_adapted_network_is_exported_and_registered_with_what_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    encode_by_torch(monkeypatch)
    monkeypatch.setattr(rounds.Rounds, "best", property(lambda made: (made.first, *made.later)[-1]))
    params = target_params(tmp_path)
    view = write_target(params)
    network, trained = load_network(MODELS / "qaconv")
    save_network(network, MODELS / "qaconv", trained | {"data": {"digests": {"other": "1"}}}, {})
    monkeypatch.setattr(Matches, "load", lambda *_: replace(view.matches, model=weights_digest(MODELS / "qaconv")))
    adapt(params, "shop")
    export_adapted(params, "shop")

    copy_store(tmp_path)
    Path("params.yaml").write_text("made up", encoding="utf-8")
    lock = {"stages": {"prepare@shop": {"outs": [{"path": "data/prepared/shop", "md5": "2"}]}}}
    Path("dvc.lock").write_text(yaml.safe_dump(lock), encoding="utf-8")
    with retraining_run(params, {}):
        log_adaptation("shop")
        release = register_adapted(params, "shop")
        outcome = promote(release, params.gate)
    tags = MlflowClient().get_model_version("qaconv", release.version).tags
    assert tags["weights"] == weights_digest(ADAPTED / "shop") != tags["began_with"]
    assert tags["began_with"] == weights_digest(MODELS / "qaconv")
    assert "there is no champion for all targets, with which an adaptation must begin" in outcome.reason

    served, profiles = load_served(release)
    assert isinstance(served, ServedModel) and list(profiles) == served.targets == ["shop"]
    adapted, _ = load_network(ADAPTED / "shop")
    crops = torch.randint(0, 256, (2, 3, *served.crop_size), dtype=torch.uint8)
    with torch.inference_mode():
        expected = adapted.encoder(crops / 255)
    assert torch.allclose(torch.from_numpy(served.encode(crops.permute(0, 2, 3, 1).numpy())), expected, atol=1e-4)
