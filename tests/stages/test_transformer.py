"""A transformer of timm trains from a file of weights, resumes, is exported, and serves."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from qaconv.config import Params
from qaconv.models.checkpoint import load_network
from qaconv.paths import MODELS, ONNX, WEIGHTS
from qaconv.runtime.contract import Contract
from qaconv.runtime.model import ServedModel
from qaconv.stages.export import export
from qaconv.stages.prepare import prepare
from qaconv.stages.sources import sources
from qaconv.stages.train import train
from qaconv.training import trainer
from tests.stages.site_params import site_params

timm = pytest.importorskip("timm")
FILE = "vit.safetensors"
HEIGHT, WIDTH = 48, 32  # 3 x 2 patches of 16 pixels; the file's are 10 x 10


@pytest.fixture(scope="module")
def params(site_folder: Path) -> Params:
    values = site_params(site_folder, "twin")
    values["sources"].update(datasets=["shop"], holdout_share=0.25)
    method = values["methods"]["qaconv"]
    method["image"] = {"height": HEIGHT, "width": WIDTH}
    method["backbone"].update(
        name="timm:test_vit", last_layer="layer3", weights=FILE, weights_licence="CC BY-NC 4.0", normalise="inception"
    )
    method["train"].update(
        identities_per_batch=2, images_per_identity=2, epochs=1, lr_drop_epoch=1, lr=0.01, backbone_lr=0.001
    )
    return Params.model_validate(values)


@pytest.fixture(scope="module")
def project(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train twice, once killed after two steps, and export."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        WEIGHTS.mkdir(parents=True)
        torch.manual_seed(2)
        save_file(timm.create_model("test_vit").state_dict(), WEIGHTS / FILE)
        (WEIGHTS / f"{FILE}.dvc").touch()
        prepare(params, "shop")
        sources(params)
        train(params, "qaconv")
        (MODELS / "qaconv").rename("undisturbed")
        with patch.context() as killed:
            kill_after_two_steps(killed)
            with pytest.raises(KeyboardInterrupt):
                train(params, "qaconv")
        train(params, "qaconv")
        export(params)
    return folder


def kill_after_two_steps(patch: pytest.MonkeyPatch) -> None:
    original = trainer._Learner.step
    taken: list[None] = []

    def step(self: trainer._Learner, *batch: object) -> object:
        taken.append(None)
        if len(taken) > 2:
            raise KeyboardInterrupt
        return original(self, *batch)  # type: ignore[arg-type]

    patch.setattr(trainer._Learner, "step", step)


def test_a_resumed_training_ends_with_the_weights_of_one_that_was_not_killed(project: Path) -> None:
    network, _ = load_network(project / MODELS / "qaconv")
    undisturbed, _ = load_network(project / "undisturbed")
    expected = undisturbed.encoder.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in network.encoder.state_dict().items())
    start = timm.create_model("test_vit").state_dict()["blocks.0.attn.qkv.weight"]
    assert not torch.equal(expected["trunk.features.blocks.0.attn.qkv.weight"], start)


def test_the_exported_transformer_serves_the_maps_and_scores_of_the_trained_one(project: Path) -> None:
    network, _ = load_network(project / MODELS / "qaconv")
    model = ServedModel(project / ONNX, threads=1)
    assert (model.crop_size, model.map_shape) == ((HEIGHT, WIDTH), (8, 3, 2))
    crops = np.random.default_rng(1).integers(0, 256, (3, HEIGHT, WIDTH, 3), dtype=np.uint8)
    maps = model.encode(crops)
    with torch.no_grad():
        expected = network.encoder(torch.from_numpy(crops).permute(0, 3, 1, 2) / 255)
        logits = network.head(expected, expected)
    np.testing.assert_allclose(maps, expected, atol=1e-5)
    np.testing.assert_allclose(model.score(maps, maps), logits, atol=1e-3)


def test_the_licence_of_the_weights_goes_with_the_network_and_its_contract(project: Path) -> None:
    described = json.loads((project / MODELS / "qaconv" / "model.json").read_text())
    assert described["architecture"]["backbone"]["weights_licence"] == "CC BY-NC 4.0"
    contract = Contract.load(project / ONNX)
    assert contract.weights_licence == "CC BY-NC 4.0"
    assert contract.graphs["encoder.onnx"].outputs[0].shape == ["N", 8, 3, 2]
