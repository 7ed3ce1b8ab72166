"""Exported graphs agree with the trained network, or are not written."""

import copy
import json
import math
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from qaconv.config import BackboneConfig, ImageConfig, Params, RegistryConfig
from qaconv.errors import InputError
from qaconv.metrics import Calibration, VerificationMetrics
from qaconv.models.camera_norms import estimate_norms
from qaconv.models.checkpoint import Architecture, Network, build_network, save_network
from qaconv.models.encoder import Encoder
from qaconv.paths import MODELS, ONNX
from qaconv.release import export
from qaconv.release.export import TOLERANCE, export_network
from qaconv.runtime.contract import Contract, Decision, Probability
from qaconv.runtime.model import ServedModel
from qaconv.stages.export import export as export_stage

HEIGHT, WIDTH, CHANNELS = 32, 24, 8
REGISTRY = RegistryConfig(model="qaconv", experiment="qaconv", method="qaconv")
DATA = {"images": 12, "people": 3, "digests": {"shop": "abc"}}


def make_network(*, pooled: bool, head: Literal["v1", "v2"] = "v2", flip: bool = False) -> Network:
    """Build a network with running statistics of two batches, and weights that came from a local file."""
    backbone = BackboneConfig(name="resnet18", last_layer="layer2", neck_channels=CHANNELS, weights="none")
    image = ImageConfig(height=HEIGHT, width=WIDTH)
    architecture = Architecture(backbone=backbone, image=image, pooled=pooled, head=head, flip=flip)
    network = build_network(architecture, seed=1)
    generator = torch.Generator().manual_seed(2)
    for _ in range(2):
        maps = network.encoder.train()(torch.rand(4, 3, HEIGHT, WIDTH, generator=generator))
        network.head.train()(maps, maps)
    described = network.architecture.model_copy(
        update={"backbone": backbone.model_copy(update={"weights": "/home/somebody/resnet18.pth"})}
    )
    return Network(network.encoder, network.head, described)


@pytest.fixture(scope="module")
def network() -> Network:
    return make_network(pooled=False)


@pytest.fixture(scope="module")
def exported(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the network. Tracing it takes seconds, so tests of other things hand these graphs out."""
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    export_network(network, DATA, folder, seed=7)
    return folder


@pytest.fixture(scope="module")
def exported_v1(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the same encoder with a head of v1."""
    folder = tmp_path_factory.mktemp("exported_v1") / "onnx"
    with pytest.MonkeyPatch.context() as monkeypatch:
        hand_out(read_graphs(exported, "encoder"), monkeypatch)
        export_network(make_network(pooled=False, head="v1"), DATA, folder, seed=7)
    return folder


@pytest.fixture(scope="module")
def encoder(exported: Path) -> InferenceSession:
    return InferenceSession(exported / "encoder.onnx", providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def matcher(exported: Path) -> InferenceSession:
    return InferenceSession(exported / "matcher.onnx", providers=["CPUExecutionProvider"])


def make_crops(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, size=(count, HEIGHT, WIDTH, 3), dtype=np.uint8)


@torch.inference_mode()
def torch_maps(network: Network, crops: NDArray[np.uint8]) -> torch.Tensor:
    maps: torch.Tensor = network.encoder.eval()(torch.from_numpy(crops).permute(0, 3, 1, 2) / 255)
    return maps


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_encoder_equals_pytorch_at_any_batch_size(network: Network, encoder: InferenceSession, count: int) -> None:
    crops = make_crops(count)
    (maps,) = encoder.run(None, {"images": crops})
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps, torch_maps(network, crops), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("value", [0, 255])
def test_encoder_equals_pytorch_on_black_and_on_white(network: Network, encoder: InferenceSession, value: int) -> None:
    crops = np.full((2, HEIGHT, WIDTH, 3), value, dtype=np.uint8)
    (maps,) = encoder.run(None, {"images": crops})
    np.testing.assert_allclose(maps, torch_maps(network, crops), rtol=0, atol=TOLERANCE)


def test_exported_maps_have_unit_length_over_channels(encoder: InferenceSession) -> None:
    (maps,) = encoder.run(None, {"images": make_crops(5)})
    np.testing.assert_allclose(np.linalg.norm(maps, axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize(("queries", "galleries"), [(1, 1), (1, 5), (4, 1), (4, 4), (3, 8)])
def test_matcher_equals_the_head_in_eval_mode(
    network: Network, matcher: InferenceSession, queries: int, galleries: int
) -> None:
    generator, head = torch.Generator().manual_seed(queries), network.head.eval()
    query_maps, gallery_maps = (
        torch.nn.functional.normalize(torch.randn(count, CHANNELS, head.height, head.width, generator=generator), dim=1)
        for count in (queries, galleries)
    )
    (logits,) = matcher.run(None, {"query_maps": query_maps.numpy(), "gallery_maps": gallery_maps.numpy()})
    assert logits.shape == (queries, galleries)
    with torch.inference_mode():
        np.testing.assert_allclose(logits, head(query_maps, gallery_maps), rtol=0, atol=TOLERANCE)


def test_pooled_network_is_exported_with_maps_of_one_location(tmp_path: Path) -> None:
    export_network(make_network(pooled=True), DATA, tmp_path / "onnx", seed=7)
    maps = InferenceSession(tmp_path / "onnx" / "encoder.onnx", providers=["CPUExecutionProvider"]).get_outputs()[0]
    assert maps.shape == ["N", CHANNELS, 1, 1]


def test_each_camera_is_encoded_with_its_norms_and_named_in_the_contract(exported: Path, tmp_path: Path) -> None:
    network = make_network(pooled=False)
    assert isinstance(network.encoder, Encoder)
    generator = torch.Generator().manual_seed(3)
    images = {camid: [torch.rand(8, 3, HEIGHT, WIDTH, generator=generator) / camid] for camid in (2, 3)}
    network.encoder.normalise_cameras(estimate_norms(network.encoder.eval(), images))
    described = network.architecture.model_copy(update={"cameras": 2})
    network = Network(network.encoder, network.head, described)
    export_network(network, DATA, tmp_path / "onnx", seed=7)
    model = ServedModel(tmp_path / "onnx", threads=1)
    crops, camids = make_crops(4), np.array([3, 2, 9, 3])
    with torch.inference_mode():
        expected = network.encoder(torch.from_numpy(crops).permute(0, 3, 1, 2) / 255, torch.from_numpy(camids))
    np.testing.assert_allclose(model.encode(crops, camids), expected, rtol=0, atol=TOLERANCE)
    plain = ServedModel(exported, threads=1).encode(crops)
    np.testing.assert_allclose(model.encode(crops), plain, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(model.encode_batches(crops, camids), expected, rtol=0, atol=TOLERANCE)
    assert np.abs(model.encode(crops, camids)[[0, 1, 3]] - plain[[0, 1, 3]]).max(axis=(1, 2, 3)).min() > 0.01
    inputs = Contract.load(tmp_path / "onnx").graphs["encoder.onnx"].inputs
    assert [(each.name, each.dtype, each.shape) for each in inputs] == [
        ("images", "uint8", ["N", HEIGHT, WIDTH, 3]),
        ("camids", "int64", ["N"]),
    ]


@pytest.mark.parametrize("pooled", [False, True])
def test_flip_is_part_of_the_graph_and_named_in_its_contract(exported: Path, tmp_path: Path, pooled: bool) -> None:
    network = make_network(pooled=pooled, flip=True)
    export_network(network, DATA, tmp_path / "onnx", seed=7)
    model = ServedModel(tmp_path / "onnx", threads=1)
    crops = make_crops(3)
    np.testing.assert_allclose(model.encode(crops), torch_maps(network, crops), rtol=0, atol=TOLERANCE)
    straight = torch_maps(make_network(pooled=pooled), crops)
    assert np.abs(model.encode(crops) - straight.numpy()).max() > 0.01
    assert Contract.load(tmp_path / "onnx").architecture["flip"] is True
    sizes = [(folder / "encoder.onnx").stat().st_size for folder in (tmp_path / "onnx", exported)]
    assert sizes[0] < 1.1 * sizes[1]  # its weights are there once


def test_contract_has_the_calibration_where_one_was_fitted(
    network: Network, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = Calibration(scale=0.5, offset=-1.25, matches=40, others=900)
    hand_out(read_graphs(exported), monkeypatch)
    export_network(network, DATA, tmp_path / "onnx", calibration=fitted, seed=7)
    line = Contract.load(tmp_path / "onnx").score.probability
    assert isinstance(line, Probability) and line.fitted_on is not None
    logit, prior = 3.0, 0.01
    odds = line.scale * logit + line.offset + math.log(prior / (1 - prior))
    assert 1 / (1 + math.exp(-odds)) == pytest.approx(fitted.probability(logit, prior=prior))
    assert line.fitted_on.pairs_of_one_person == 40


def test_contract_has_the_thresholds_that_the_pairs_can_tell_and_no_stricter_ones(
    network: Network, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = VerificationMetrics(
        (0.01, 0.001, 0.0001), (1.5, 2.5, 3.5), (0.9, 0.8, 0.7), 40, 20_000, np.empty((2, 0))
    )
    hand_out(read_graphs(exported), monkeypatch)
    export_network(network, DATA, tmp_path / "onnx", verification=measured, seed=7)
    decision = Contract.load(tmp_path / "onnx").score.decision
    assert isinstance(decision, Decision) and decision.measured_on is not None
    assert [(row.false_match_rate, row.threshold) for row in decision.thresholds] == [(0.01, 1.5), (0.001, 2.5)]
    assert decision.measured_on.pairs_of_two_people == 20_000


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("head", ["v1", "v2"])
def test_a_served_version_matches_as_its_onnx_matcher_does(
    exported: Path, exported_v1: Path, monkeypatch: pytest.MonkeyPatch, head: str, compiled: bool
) -> None:
    folder = {"v1": exported_v1, "v2": exported}[head]
    if not compiled:
        monkeypatch.setattr("qaconv.runtime.matcher.load_kernel", lambda: None)
    model = ServedModel(folder, threads=1)
    maps = model.encode(make_crops(6))
    (expected,) = InferenceSession(folder / "matcher.onnx", providers=["CPUExecutionProvider"]).run(
        None, {"query_maps": maps[:2], "gallery_maps": maps}
    )
    largest = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(model.score(maps[:2], maps), expected, rtol=0, atol=TOLERANCE * largest)


def test_head_of_v1_is_exported_with_proof(exported: Path, exported_v1: Path) -> None:
    matchers = [read_graphs(folder, "matcher") for folder in (exported, exported_v1)]
    assert matchers[0] != matchers[1]


def test_logits_in_the_thousands_are_compared_relative_to_the_largest(
    network: Network, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = copy.deepcopy(network)
    with torch.no_grad():
        large.head.logit_norm.weight.mul_(1e4)
    hand_out(read_graphs(exported, "encoder"), monkeypatch)
    export_network(large, DATA, tmp_path / "large", seed=7)
    graphs = read_graphs(tmp_path / "large")
    graphs["matcher"] = damaged(tmp_path / "large" / "matcher.onnx", _a_thousandth_more)
    hand_out(graphs, monkeypatch)
    with pytest.raises(InputError, match=r"matcher\.onnx: not exported: must be within 0\.0001 of PyTorch"):
        export_network(large, DATA, tmp_path / "damaged", seed=7)


def test_each_graph_is_one_file_that_names_no_path_of_this_machine(exported: Path) -> None:
    assert sorted(path.name for path in exported.iterdir()) == ["contract.json", "encoder.onnx", "matcher.onnx"]
    for path in exported.iterdir():
        for named in (str(Path(export.__file__).parent), str(Path.cwd()), "/home/somebody", ".py", "qaconv."):
            assert named.encode() not in path.read_bytes(), f"{path.name} names {named}"


def test_contract_describes_the_graphs_inputs_and_outputs(network: Network, exported: Path) -> None:
    contract = Contract.load(exported)
    head = network.head
    shapes = {
        f"{name}.{tensor.name}": (tensor.dtype, tensor.shape)
        for name, graph in contract.graphs.items()
        for tensor in graph.inputs + graph.outputs
    }
    assert shapes == {
        "encoder.onnx.images": ("uint8", ["N", HEIGHT, WIDTH, 3]),
        "encoder.onnx.maps": ("float32", ["N", CHANNELS, head.height, head.width]),
        "matcher.onnx.query_maps": ("float32", ["Q", CHANNELS, head.height, head.width]),
        "matcher.onnx.gallery_maps": ("float32", ["G", CHANNELS, head.height, head.width]),
        "matcher.onnx.logits": ("float32", ["Q", "G"]),
    }
    for name, graph in contract.graphs.items():
        assert graph.sha256 == sha256((exported / name).read_bytes()).hexdigest()
        assert 0 <= graph.largest_difference_from_pytorch <= TOLERANCE
    assert contract.training_data == DATA
    assert contract.architecture["backbone"]["weights"] == "resnet18.pth"
    assert (contract.crop_resize.height, contract.crop_resize.width) == (HEIGHT, WIDTH)
    assert json.loads((exported / "contract.json").read_text())["version"] == 1


def _weight_off_by_one(values: NDArray[np.float32]) -> None:
    values.flat[0] += 1.0


def _weights_not_numbers(values: NDArray[np.float32]) -> None:
    values[:] = np.nan


def _a_thousandth_more(values: NDArray[np.float32]) -> None:
    values *= 1.001


def _crops_scaled_twice(values: NDArray[np.float32]) -> None:
    values[values == 255.0] *= 255.0


def damaged(path: Path, change: Callable[[NDArray[np.float32]], None]) -> bytes:
    """Return the graph with `change` made to each of its float constants: still valid, but of another network."""
    model = onnx.load(path)
    for value in model.graph.initializer:
        if value.data_type == onnx.TensorProto.FLOAT:
            values = np.atleast_1d(onnx.numpy_helper.to_array(value)).copy()
            change(values)
            value.CopyFrom(onnx.numpy_helper.from_array(values.reshape(tuple(value.dims)), value.name))
    graph: bytes = model.SerializeToString()
    return graph


def read_graphs(folder: Path, *names: str) -> dict[str, bytes]:
    """Return the named graphs of an export. Default: both."""
    return {name: (folder / f"{name}.onnx").read_bytes() for name in names or ("encoder", "matcher")}


def hand_out(graphs: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Export these graphs instead of the network's."""
    for name, graph in graphs.items():
        monkeypatch.setattr(export, f"{name}_graph", lambda network, graph=graph: graph)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("encoder", _weight_off_by_one),
        ("encoder", _weights_not_numbers),
        ("encoder", _crops_scaled_twice),
        ("matcher", _weight_off_by_one),
        ("matcher", _weights_not_numbers),
    ],
)
def test_graph_that_differs_is_refused_and_the_folder_stays_as_it_was(
    network: Network,
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    change: Callable[[NDArray[np.float32]], None],
) -> None:
    graphs = read_graphs(exported)
    graphs[name] = damaged(exported / f"{name}.onnx", change)
    hand_out(graphs, monkeypatch)
    folder = tmp_path / "onnx"
    folder.mkdir()
    (folder / "encoder.onnx").write_bytes(b"the previous one")
    expected = rf"{name}\.onnx: not exported: must be within 0\.0001 of PyTorch, differs by \S+ for 1 (crops|x 1 pairs)"
    with pytest.raises(InputError, match=expected):
        export_network(network, DATA, folder, seed=7)
    assert [(path.name, path.read_bytes()) for path in tmp_path.rglob("*.*")] == [("encoder.onnx", b"the previous one")]


def test_stage_exports_the_saved_network_to_the_same_bytes(
    network: Network, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_network(network, MODELS / "qaconv", {"data": DATA, "calibration": None}, {})
    export_stage(Params.model_construct(seed=7, registry=REGISTRY))
    assert {path.name: path.read_bytes() for path in ONNX.iterdir()} == {
        path.name: path.read_bytes() for path in exported.iterdir()
    }


def test_stage_without_a_trained_network_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="artifacts/model/qaconv: holds no network"):
        export_stage(Params.model_construct(seed=7, registry=REGISTRY))
    assert not ONNX.exists()
