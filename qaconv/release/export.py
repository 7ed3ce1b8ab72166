"""A trained network goes in; `encoder.onnx`, `matcher.onnx` and their contract come out, proven to agree with it.

N crops, Q queries, G gallery images, H x W crop size in pixels, C channels, h x w map size, S = h*w locations.
"""

import logging
from collections.abc import Mapping
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from qaconv.config import ImageConfig
from qaconv.data.loading import as_input
from qaconv.errors import InputError
from qaconv.files import replacing_folder, write_json
from qaconv.metrics import Calibration, VerificationMetrics
from qaconv.models.checkpoint import Network
from qaconv.models.head import QAConv
from qaconv.release.graphs import encoder_graph, matcher_graph

log = logging.getLogger(__name__)

LEAST_MISTAKES = 10  # distinct pairs above a threshold: its false match rate is then known to about a third
TOLERANCE = 1e-4  # largest difference from PyTorch, as a share of the largest value where that is above 1
BATCH_SIZES = (1, 2, 7)  # of the proof: one, the size that was traced, and neither
BLOCK = 8  # pixels; single pixels of noise would average out, and all maps look alike


def export_network(
    network: Network,
    data: Mapping[str, Any],
    folder: Path,
    *,
    calibration: Calibration | None = None,
    verification: VerificationMetrics | None = None,
    seed: int,
) -> None:
    """Writes `encoder.onnx`, `matcher.onnx` and `contract.json`; the same network gives the same bytes.

    Args:
        network: on the CPU; put in eval mode.
        data: what it was trained on, with digests; goes into the contract.
        folder: replaced whole.
        calibration: what a logit is worth, where people were held out to find it; goes into the contract.
        verification: of images of those people, each with every other: the contract's thresholds.
        seed: of the random crops on which ONNX Runtime and PyTorch are compared.

    Raises:
        InputError: a graph is further than TOLERANCE from PyTorch; nothing is written then.
    """
    network.encoder.eval()
    network.head.eval()
    graphs = {"encoder": encoder_graph(network), "matcher": matcher_graph(network)}
    differences = prove(graphs, network, seed=seed)
    contract = _contract(graphs, differences, network, data, calibration, verification)
    with replacing_folder(folder) as beside:
        for name, graph in graphs.items():
            (beside / f"{name}.onnx").write_bytes(graph)
            log.info("%s.onnx: %s bytes, within %.1e of PyTorch", name, f"{len(graph):,}", differences[name])
        write_json(beside / "contract.json", contract)


@torch.inference_mode()
def prove(graphs: Mapping[str, bytes], network: Network, *, seed: int) -> dict[str, float]:
    """The largest difference of each graph in ONNX Runtime from the network in PyTorch, over BATCH_SIZES.

    Where a value is above 1, differences are shares of the largest: sums in another order are that exact and no more.
    The matcher is given what encoder.onnx made, as in service, and held against PyTorch from the crops on.

    Raises:
        InputError: one is above TOLERANCE, or is not a number.
    """
    encoder, matcher = (
        onnxruntime.InferenceSession(graphs[name], providers=["CPUExecutionProvider"])
        for name in ("encoder", "matcher")
    )
    rng = np.random.default_rng(seed)
    differences = {"encoder": 0.0, "matcher": 0.0}
    batches = []
    for count in BATCH_SIZES:
        crops = _random_crops(count, network.architecture.image, rng)
        expected = network.encoder(as_input(torch.from_numpy(crops).permute(0, 3, 1, 2), torch.device("cpu")))
        (maps,) = encoder.run(None, {"images": crops})
        difference = _difference("encoder.onnx", f"{count} crops", maps, expected)
        differences["encoder"] = max(differences["encoder"], difference)
        batches.append((maps, expected))
    for (queries, expected_queries), (galleries, expected_galleries) in product(batches, repeat=2):
        (logits,) = matcher.run(None, {"query_maps": queries, "gallery_maps": galleries})
        expected = network.head(expected_queries, expected_galleries)
        difference = _difference("matcher.onnx", f"{len(queries)} x {len(galleries)} pairs", logits, expected)
        differences["matcher"] = max(differences["matcher"], difference)
    return differences


def _random_crops(count: int, image: ImageConfig, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Crops [N, H, W, 3] of blocks of random colour."""
    rows, columns = -(-image.height // BLOCK), -(-image.width // BLOCK)
    blocks = rng.integers(0, 256, size=(count, rows, columns, 3), dtype=np.uint8)
    return blocks.repeat(BLOCK, axis=1).repeat(BLOCK, axis=2)[:, : image.height, : image.width]


def _difference(name: str, batch: str, found: NDArray[np.float32], expected: Tensor) -> float:
    if found.shape != tuple(expected.shape):
        raise InputError(
            f"{name}: not exported: gives shape {found.shape} for {batch}; PyTorch gives {tuple(expected.shape)}"
        )
    difference = float(np.abs(found - expected.numpy()).max()) / max(1.0, float(expected.abs().max()))
    if not difference <= TOLERANCE:  # so put, it also catches what is not a number
        raise InputError(
            f"{name}: not exported: differs from PyTorch by {difference:.3g} for {batch}; legal is up to {TOLERANCE:g}"
        )
    return difference


MEANINGS: dict[str, dict[str, Any]] = {
    "images": {"layout": "NHWC", "colour_order": "RGB", "minimum": 0, "maximum": 255},
    "maps": {"layout": "NCHW", "norm": "unit length over C at each location", "minimum": -1, "maximum": 1},
    "query_maps": {"from": "encoder.onnx maps"},
    "gallery_maps": {"from": "encoder.onnx maps"},
    "logits": {"layout": "QG", "minimum": None, "maximum": None},
}


def _contract(
    graphs: Mapping[str, bytes],
    differences: Mapping[str, float],
    network: Network,
    data: Mapping[str, Any],
    calibration: Calibration | None,
    verification: VerificationMetrics | None,
) -> dict[str, Any]:
    """What someone who serves the graphs must know, without this package."""
    image, backbone = network.architecture.image, network.architecture.backbone
    described = network.architecture.model_dump()
    described["backbone"]["weights"] = Path(backbone.weights).name  # a local file's folder is nobody's business
    models = {name: onnx.load_from_string(graph) for name, graph in graphs.items()}
    return {
        "graphs": {
            f"{name}.onnx": {
                "sha256": sha256(graphs[name]).hexdigest(),
                "opset": models[name].opset_import[0].version,
                "inputs": [_tensor(value) for value in models[name].graph.input],
                "outputs": [_tensor(value) for value in models[name].graph.output],
                "largest_difference_from_pytorch": differences[name],
            }
            for name in graphs
        },
        "crop_resize": {
            "height": image.height,
            "width": image.width,
            "aspect_ratio": "not kept",
            "filter": "bicubic, antialiased, as Pillow's Image.resize with Resampling.BICUBIC on the whole crop",
        },
        "score": {
            "kind": "logit",
            "better": "higher",
            "probability": _probability(calibration),
            "decision": _decision(verification),
        },
        "head": _head(network.head),
        "architecture": described,
        "training_data": dict(data),
    }


def _probability(calibration: Calibration | None) -> dict[str, Any] | str:
    if calibration is None:
        return "sigmoid(logit) is training's probability of the same person; it is not calibrated"
    return {
        "formula": "sigmoid(scale * logit + offset + log(prior / (1 - prior)))",
        "prior": "the share of pairs of one person among the pairs that are compared, in (0, 1); yours to say",
        "scale": calibration.scale,
        "offset": calibration.offset,
        "fitted_on": _held_out(calibration),
    }


def _decision(verification: VerificationMetrics | None) -> dict[str, Any] | str:
    """Thresholds of the false match rates that the pairs can tell; each pair of images is among them both ways."""
    if verification is None:
        return "nobody was held out to choose a threshold on"
    found = zip(verification.false_match_rates, verification.thresholds, verification.true_match_rates, strict=True)
    return {
        "formula": "one person if logit > threshold",
        "false_match_rate": "the share of pairs of two people that are then taken for one, on people as in training; "
        "another camera network's differs",
        "thresholds": [
            {"false_match_rate": rate, "threshold": threshold, "true_match_rate": right}
            for rate, threshold, right in found
            if rate * verification.others / 2 >= LEAST_MISTAKES
        ],
        "measured_on": _held_out(verification),
    }


def _held_out(pairs: Calibration | VerificationMetrics) -> dict[str, Any]:
    return {
        "data": "people of the training datasets whom training did not see",
        "pairs_of_one_person": pairs.matches,
        "pairs_of_two_people": pairs.others,
    }


def _head(head: QAConv) -> dict[str, Any]:
    """The matcher as numbers, to explain a score: which place of an image adds how much to the logit."""
    folded = head.folded()
    return {
        "formula": "logit = bias + query . best cosine of each query location + gallery . the same of the gallery's",
        "query": folded.query.tolist(),
        "gallery": folded.gallery.tolist(),
        "bias": folded.bias,
        "average": folded.average,  # the cosine that the norm makes 0: it says neither yes nor no
    }


def _tensor(value: onnx.ValueInfoProto) -> dict[str, Any]:
    """A graph's input or output as it is in the graph, and what it means."""
    tensor = value.type.tensor_type
    return {
        "name": value.name,
        "dtype": onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name,
        "shape": [size.dim_param or size.dim_value for size in tensor.shape.dim],
        **MEANINGS[value.name],
    }
