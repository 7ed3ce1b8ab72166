"""Export a trained network as `encoder.onnx`, `matcher.onnx` and their contract, after a proof that they agree.

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
import torch
from numpy.typing import NDArray
from torch import Tensor

from qaconv.config import ImageConfig
from qaconv.data.loading import as_input
from qaconv.errors import InputError
from qaconv.files import replacing_folder
from qaconv.metrics import Calibration, VerificationMetrics
from qaconv.models.checkpoint import Network
from qaconv.models.encoder import Encoder
from qaconv.models.head import QAConv
from qaconv.release.graphs import encoder_graph, matcher_graph
from qaconv.runtime.contract import (
    ENCODER,
    MATCHER,
    Contract,
    CropResize,
    Decision,
    Graph,
    HeadNumbers,
    HeldOut,
    LogitThreshold,
    Probability,
    Score,
    TensorSpec,
)
from qaconv.runtime.encoder import NO_CAMERA, EncoderGraph
from qaconv.runtime.sessions import open_graph

log = logging.getLogger(__name__)

LEAST_MISTAKES = 10  # distinct pairs above a threshold, so that its false match rate is known to about a third
TOLERANCE = 1e-4  # largest difference from PyTorch, as a share of the largest value where that is above 1
BATCH_SIZES = (1, 2, 7)  # of the proof: a single crop, the size that was traced, and another
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
    """Write `encoder.onnx`, `matcher.onnx` and `contract.json`. The same network gives the same bytes.

    Args:
        network: on the CPU. It is put in eval mode.
        data: what it was trained on, with digests, for the contract.
        folder: replaced as a whole.
        calibration: fitted on people who were held out, for the contract. Default: none were.
        verification: measured on all pairs of images of those people, for the contract's thresholds.
        seed: of the random crops on which ONNX Runtime and PyTorch are compared.

    Raises:
        InputError: a graph differs from PyTorch by more than TOLERANCE. Nothing is written.
    """
    network.encoder.eval()
    network.head.eval()
    graphs = {ENCODER: encoder_graph(network), MATCHER: matcher_graph(network)}
    differences = prove(graphs, network, seed=seed)
    contract = _contract(graphs, differences, network, data, calibration, verification)
    with replacing_folder(folder) as unfinished:
        for name, graph in graphs.items():
            (unfinished / name).write_bytes(graph)
            log.info("%s: %s bytes, within %.1e of PyTorch", name, f"{len(graph):,}", differences[name])
        contract.save(unfinished)


@torch.inference_mode()
def prove(graphs: Mapping[str, bytes], network: Network, *, seed: int) -> dict[str, float]:
    """Measure the largest difference of each graph in ONNX Runtime from the network in PyTorch, over BATCH_SIZES.

    Where a value is above 1, differences are shares of the largest value, as sums in another order are no more exact.
    The matcher gets the maps that encoder.onnx made, as in service, and is compared with PyTorch from the crops on.

    Raises:
        InputError: a difference is above TOLERANCE, or is not a number.
    """
    encoder, matcher = EncoderGraph(graphs[ENCODER]), open_graph(graphs[MATCHER])
    rng = np.random.default_rng(seed)
    differences = {ENCODER: 0.0, MATCHER: 0.0}
    batches = []
    for count in BATCH_SIZES:
        crops = _random_crops(count, network.architecture.image, rng)
        images = as_input(torch.from_numpy(crops).permute(0, 3, 1, 2), torch.device("cpu"))
        camids = _cycle_cameras(network, count)
        expected = network.encoder(images) if camids is None else network.encoder(images, camids)
        maps = encoder.encode(crops, None if camids is None else camids.numpy())
        difference = _difference(ENCODER, f"{count} crops", maps, expected)
        differences[ENCODER] = max(differences[ENCODER], difference)
        batches.append((maps, expected))
    for (queries, expected_queries), (galleries, expected_galleries) in product(batches, repeat=2):
        (logits,) = matcher.run(None, {"query_maps": queries, "gallery_maps": galleries})
        expected = network.head(expected_queries, expected_galleries)
        difference = _difference(MATCHER, f"{len(queries)} x {len(galleries)} pairs", logits, expected)
        differences[MATCHER] = max(differences[MATCHER], difference)
    return differences


def _cycle_cameras(network: Network, count: int) -> Tensor | None:
    """Return a camera for each crop, [N], each that has batch norms of its own and one that has not, in turn."""
    if not isinstance(network.encoder, Encoder) or network.encoder.camera_norms is None:
        return None
    known = network.encoder.camera_norms.camids
    return torch.cat([known, torch.tensor([NO_CAMERA])])[torch.arange(count) % (len(known) + 1)]


def _random_crops(count: int, image: ImageConfig, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw crops [N, H, W, 3] of blocks of random colour."""
    rows, columns = -(-image.height // BLOCK), -(-image.width // BLOCK)
    blocks = rng.integers(0, 256, size=(count, rows, columns, 3), dtype=np.uint8)
    return blocks.repeat(BLOCK, axis=1).repeat(BLOCK, axis=2)[:, : image.height, : image.width]


def _difference(name: str, batch: str, values: NDArray[np.float32], expected: Tensor) -> float:
    if values.shape != tuple(expected.shape):
        raise InputError(
            f"{name}: not exported: the shape for {batch} must be PyTorch's {tuple(expected.shape)}, got {values.shape}"
        )
    difference = float(np.abs(values - expected.numpy()).max()) / max(1.0, float(expected.abs().max()))
    if not difference <= TOLERANCE:  # written so that NaN fails too
        raise InputError(
            f"{name}: not exported: must be within {TOLERANCE:g} of PyTorch, differs by {difference:.3g} for {batch}"
        )
    return difference


MEANINGS: dict[str, dict[str, Any]] = {
    "images": {"layout": "NHWC", "colour_order": "RGB", "minimum": 0, "maximum": 255},
    "camids": {
        "layout": "N",
        "source": "the target's numbers of cameras; any other number has the batch norms of all cameras",
    },
    "maps": {"layout": "NCHW", "norm": "unit length over C at each location", "minimum": -1, "maximum": 1},
    "query_maps": {"source": f"{ENCODER} maps"},
    "gallery_maps": {"source": f"{ENCODER} maps"},
    "logits": {"layout": "QG", "minimum": None, "maximum": None},
}


def _contract(
    graphs: Mapping[str, bytes],
    differences: Mapping[str, float],
    network: Network,
    data: Mapping[str, Any],
    calibration: Calibration | None,
    verification: VerificationMetrics | None,
) -> Contract:
    """Collect what a user of the graphs must know, and cannot find without this package."""
    image, architecture = network.architecture.image, network.architecture.model_dump(mode="json")
    if backbone := architecture.get("backbone"):
        backbone["weights"] = Path(backbone["weights"]).name  # a local file's folder stays private
    return Contract(
        graphs={name: _graph(graph, differences[name]) for name, graph in graphs.items()},
        crop_resize=CropResize(
            height=image.height,
            width=image.width,
            aspect_ratio="not kept",
            filter="bicubic, antialiased, as Pillow's Image.resize with Resampling.BICUBIC on the whole crop",
        ),
        score=Score(
            kind="logit", better="higher", probability=_probability(calibration), decision=_decision(verification)
        ),
        head=_head(network.head),
        architecture=architecture,
        training_data=dict(data),
    )


def _graph(graph: bytes, difference: float) -> Graph:
    model = onnx.load_from_string(graph)
    return Graph(
        sha256=sha256(graph).hexdigest(),
        opset=model.opset_import[0].version,
        inputs=[_tensor(value) for value in model.graph.input],
        outputs=[_tensor(value) for value in model.graph.output],
        largest_difference_from_pytorch=difference,
    )


def _tensor(value: onnx.ValueInfoProto) -> TensorSpec:
    """Describe a graph's input or output."""
    tensor = value.type.tensor_type
    return TensorSpec(
        name=value.name,
        dtype=onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name,
        shape=[size.dim_param or size.dim_value for size in tensor.shape.dim],
        **MEANINGS[value.name],
    )


def _probability(calibration: Calibration | None) -> Probability | str:
    if calibration is None:
        return "sigmoid(logit) is training's probability of the same person; it is not calibrated"
    return Probability(
        formula="sigmoid(scale * logit + offset + log(prior / (1 - prior)))",
        prior="the share of pairs of one person among the pairs that are compared, in (0, 1); yours to say",
        scale=calibration.scale,
        offset=calibration.offset,
        fitted_on=_held_out(calibration),
    )


def _decision(verification: VerificationMetrics | None) -> Decision | str:
    """Return thresholds at the false match rates that the pairs can tell; each pair of images counts both ways."""
    if verification is None:
        return "nobody was held out to choose a threshold on"
    rows = zip(verification.false_match_rates, verification.thresholds, verification.true_match_rates, strict=True)
    return Decision(
        formula="one person if logit > threshold",
        false_match_rate="the share of pairs of two people that are then taken for one, on people as in training; "
        "another camera network's differs",
        thresholds=[
            LogitThreshold(false_match_rate=rate, threshold=threshold, true_match_rate=true_rate)
            for rate, threshold, true_rate in rows
            if rate * verification.others / 2 >= LEAST_MISTAKES
        ],
        measured_on=_held_out(verification),
    )


def _held_out(pairs: Calibration | VerificationMetrics) -> HeldOut:
    return HeldOut(
        data="people of the training datasets whom training did not see",
        pairs_of_one_person=pairs.matches,
        pairs_of_two_people=pairs.others,
    )


def _head(head: QAConv) -> HeadNumbers:
    """Return the matcher as numbers, which explain a score: how much each location adds to the logit."""
    folded = head.folded()
    return HeadNumbers(
        formula="logit = bias + query . best cosine of each query location + gallery . the same of the gallery's",
        query=folded.query.tolist(),
        gallery=folded.gallery.tolist(),
        bias=folded.bias,
        average=folded.average,  # the cosine that the norm maps to 0
    )
