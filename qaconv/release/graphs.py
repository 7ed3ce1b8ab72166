"""Export a network's encoder and matcher as ONNX graphs, and save a network with its encoder's.

N crops, Q queries, G gallery images, H x W crop size in pixels, C channels, h x w map size, S = h*w locations.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from qaconv.models.checkpoint import Network, save_network
from qaconv.models.description import ENCODER_GRAPH
from qaconv.models.encoder import Encoder
from qaconv.models.graph_encoder import GraphEncoder
from qaconv.models.head import QAConv
from qaconv.runtime.encoder import CAMIDS, IMAGES

OPSET = 18  # what torch's exporter writes by itself, and every server in use runs


def save_with_graph(network: Network, folder: Path, trained: dict[str, Any], files: Mapping[str, str | bytes]) -> None:
    """Save a network with its encoder's graph, by which all targets are encoded; an export takes seconds.

    Args:
        network: the network, on any device. Its encoder is moved to the CPU.
        folder, trained, files: as of `save_network`.
    """
    network.encoder.cpu()
    save_network(network, folder, trained, {**files, ENCODER_GRAPH: encoder_graph(network)})


def encoder_graph(network: Network) -> bytes:
    """Export the encoder: RGB crops uint8 [N, H, W, 3] to maps float32 [N, C, h, w] of unit length over C.

    Where cameras have batch norms of their own, the camera of each crop, int64 [N], is the second input.
    """
    if isinstance(network.encoder, GraphEncoder):
        return network.encoder.graph
    image = network.architecture.image
    crops = torch.zeros(2, image.height, image.width, 3, dtype=torch.uint8)
    inputs = {IMAGES: crops} | ({CAMIDS: torch.zeros(2, dtype=torch.int64)} if network.knows_cameras else {})
    return _to_onnx(_CropEncoder(network.encoder), inputs, ["N"] * len(inputs), "maps")


def matcher_graph(network: Network) -> bytes:
    """Export the matcher: query_maps [Q, C, h, w] and gallery_maps [G, C, h, w] to logits [Q, G].

    The graph holds the cosines of all pairs at once, 4*S*S bytes each. Cut a large gallery into batches.
    """
    head = network.head
    queries, galleries = (torch.zeros(count, head.channels, head.height, head.width) for count in (2, 3))
    return _to_onnx(_Matcher(head), {"query_maps": queries, "gallery_maps": galleries}, ["Q", "G"], "logits")


class _CropEncoder(nn.Module):
    """The encoder on crops as a decoder returns them, so that nobody scales them twice or not at all."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor, camids: Tensor | None = None) -> Tensor:
        maps: Tensor = self.encoder(images.permute(0, 3, 1, 2).float() / 255, camids)
        return maps


class _Matcher(nn.Module):
    """The folded head: one product, two maxima, two weighted sums."""

    query: Tensor
    gallery: Tensor
    bias: Tensor

    def __init__(self, head: QAConv) -> None:
        super().__init__()
        self.head = head
        folded = head.folded()
        self.register_buffer("query", torch.from_numpy(folded.query))
        self.register_buffer("gallery", torch.from_numpy(folded.gallery))
        self.register_buffer("bias", torch.tensor(folded.bias))

    def forward(self, query_maps: Tensor, gallery_maps: Tensor) -> Tensor:
        table = self.head.cosines(query_maps, gallery_maps)
        of_query, of_gallery = table.amax(dim=3), table.amax(dim=1)  # [Q, S, G], [Q, G, S]
        # `query` must stay on the left. On the right, as a vector, ONNX Runtime 1.32 fuses it into a FusedMatMul whose
        # numbers are wrong from the second gallery image on.
        return self.query @ of_query + of_gallery @ self.gallery + self.bias


def _to_onnx(module: nn.Module, inputs: Mapping[str, Tensor], counts: list[str], output: str) -> bytes:
    """Trace `module` with a dynamic first dimension of each input, named by `counts`, and check the graph."""
    sizes = {count: torch.export.Dim(count) for count in counts}
    with sdpa_kernel(SDPBackend.MATH):  # of the others, torch 2.14 exports attention with a mask in no dynamic shape
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=tuple({0: sizes[count]} for count in counts),
        )
    assert program is not None  # None only where a file is named
    ClearMetadataAndDocStringPass()(program.model)  # stack traces with this machine's paths
    onnx.checker.check_model(program.model_proto, full_check=True)
    graph: bytes = program.model_proto.SerializeToString(deterministic=True)
    return graph
