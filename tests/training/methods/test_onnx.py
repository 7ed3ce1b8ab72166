"""A method whose encoder is an ONNX file goes from the file to maps, scores and graphs as a trained one does."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from qaconv.config import Params
from qaconv.data.loading import encode_all
from qaconv.errors import InputError
from qaconv.models.checkpoint import Network, load_network
from qaconv.models.description import weights_digest
from qaconv.paths import FEATURES, METRICS, MODELS, ONNX, PREPARED, WEIGHTS
from qaconv.release.encoding import fastest
from qaconv.release.graphs import encoder_graph
from qaconv.runtime.contract import Contract
from qaconv.runtime.model import ServedModel
from qaconv.stages.evaluate import evaluate
from qaconv.stages.export import export
from qaconv.stages.features import features
from qaconv.stages.fit_tlift import fit_tlift
from qaconv.stages.identify import identify
from qaconv.stages.match import match
from qaconv.stages.prepare import prepare
from qaconv.stages.rerank import rerank
from qaconv.stages.sources import sources
from qaconv.stages.train import train
from tests.imports import PROJECT
from tests.onnx_files import CHANNELS, HEIGHT, WIDTH, write_embedding

INTEL = {
    "kind": "onnx",
    "image": {"height": HEIGHT, "width": WIDTH},
    "backbone": {"weights": "reid.onnx", "channels": "bgr", "scale": 255, "mean": [0, 0, 0], "std": [1, 1, 1]},
}


def settings(site: Path, **changes: object) -> Params:
    values = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    values["datasets"] = {"shop": {"layout": "market1501", "path": str(site)}}
    values |= {"targets": ["shop"], "adapt": {"targets": []}, "methods": {"intel": {**INTEL, **changes}}}
    values["sources"] = {"datasets": ["shop"], "holdout_share": 0.25}
    values["registry"]["method"] = "intel"
    return Params.model_validate(values)


def add_file(folder: Path, write: Callable[[Path], object] = write_embedding) -> None:
    (folder / WEIGHTS).mkdir(parents=True, exist_ok=True)
    write(folder / WEIGHTS / "reid.onnx")
    (folder / WEIGHTS / "reid.onnx.dvc").touch()


@pytest.fixture(scope="module")
def params(site_folder: Path) -> Params:
    return settings(site_folder)


@pytest.fixture(scope="module")
def project(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run every stage but the report in a folder, with an ONNX file as the only method."""
    folder = tmp_path_factory.mktemp("project")
    add_file(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        prepare(params, "shop")
        sources(params)
        train(params, "intel")
        features(params, "shop")
        match(params, "shop")
        rerank(params, "shop")
        fit_tlift(params, "shop")
        identify(params, "shop")
        evaluate(params, "shop")
        export(params)
    return folder


@pytest.fixture
def network(project: Path) -> Network:
    return load_network(project / MODELS / "intel")[0]


def test_every_stage_runs_with_a_file_as_the_only_method(project: Path) -> None:
    figures = json.loads((project / METRICS / "shop.json").read_text())
    assert 0 < figures["intel"]["direct"]["mAP"] < 1
    assert not [key for key in figures if "_minus_" in key]  # there is no method to compare with
    assert (project / FEATURES / "shop" / "intel").is_dir() and (project / PREPARED / "shop").is_dir()


def test_logits_of_different_images_are_standardised_and_people_held_out_calibrate_them(
    project: Path, network: Network
) -> None:
    description = json.loads((project / MODELS / "intel" / "model.json").read_text())
    assert description["architecture"]["file"] == "reid.onnx"
    assert "images" not in description["trained"]["data"] and description["trained"]["data"]["digests"]
    assert description["trained"]["calibration"]["scale"] > 0
    cosines = torch.linspace(-1, 1, 5)
    maps = torch.stack([cosines, (1 - cosines**2).sqrt(), *[torch.zeros(5)] * (CHANNELS - 2)], dim=1)[..., None, None]
    logits = network.head(torch.eye(CHANNELS)[:1, :, None, None], maps)
    assert (logits[0].diff() > 0).all() and logits[0, 4] > 0


def test_a_saved_graph_is_loaded_with_the_same_maps_and_is_part_of_the_digest(
    project: Path, network: Network, site_folder: Path, tmp_path: Path
) -> None:
    paths = sorted(site_folder.rglob("*.jpg"))[:3]
    cpu = torch.device("cpu")
    maps = encode_all(fastest(network, encoder_graph(network), cpu), paths, network.architecture.image, batch_size=2)
    served = ServedModel(project / ONNX)
    assert maps.shape == (3, CHANNELS, 1, 1) and served.crop_size == (HEIGHT, WIDTH)
    contract = Contract.load(project / ONNX)
    assert contract.architecture["file"] == "reid.onnx"
    assert contract.graphs["encoder.onnx"].largest_difference_from_pytorch < 1e-5
    changed = tmp_path / "model"
    changed.mkdir()
    for file in (project / MODELS / "intel").iterdir():
        content = file.read_bytes()
        (changed / file.name).write_bytes(content.replace(b"images", b"pixels") if file.suffix != ".json" else content)
    assert weights_digest(changed) != weights_digest(project / MODELS / "intel")


def test_without_people_held_out_probabilities_are_said_to_be_uncalibrated(
    site_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, project: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    add_file(tmp_path)
    (tmp_path / "data" / "fingerprints").symlink_to(project / "data" / "fingerprints")
    (tmp_path / PREPARED).symlink_to(project / PREPARED)
    params = settings(site_folder)
    params = params.model_copy(update={"sources": params.sources.model_copy(update={"holdout_share": 0.0})})
    sources(params)
    train(params, "intel")
    assert "nobody is held out, so its probabilities are not calibrated" in caplog.text
    assert load_network(MODELS / "intel")[1]["calibration"] is None


def test_a_file_that_dvc_does_not_have_is_refused(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"data/weights/reid\.onnx must be added to DVC"):
        params.method("intel").build(0)


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ({"channels": "gray"}, "methods.intel.backbone.channels"),
        ({"scale": 2}, "methods.intel.backbone.scale"),
        ({"mean": [0, 0]}, "methods.intel.backbone.mean"),
        ({"std": [1, 0, 1]}, "methods.intel.backbone.std.1"),
        ({"weights": "/tmp/reid.onnx"}, "methods.intel.*backbone.weights must be"),
    ],
)
def test_wrong_preprocessing_is_refused_by_its_key(
    site_folder: Path, backbone: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=f"(?s){message}"):
        settings(site_folder, backbone={**INTEL["backbone"], **backbone})  # type: ignore[dict-item]
