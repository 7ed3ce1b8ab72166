"""Choose the fastest way to encode crops on a device."""

from pathlib import Path

import torch
from torch import Tensor

from qaconv.data.loading import Batch, Encode, in_torch
from qaconv.models.checkpoint import Network
from qaconv.models.graph_encoder import GraphEncoder
from qaconv.runtime.encoder import EncoderGraph


def fastest(network: Network, graph: Path | bytes, device: torch.device) -> Encode:
    """Encode with ONNX Runtime on a CPU, one batch a core, and with PyTorch elsewhere; docs/matching.md has figures.

    An encoder that is a graph runs on the CPU everywhere.

    Args:
        network: trained network.
        graph: of its encoder, a file or its content.
        device: device to encode on.

    Raises:
        InputError: the file is missing.
    """
    if device.type != "cpu" and not isinstance(network.encoder, GraphEncoder):
        return in_torch(network.encoder, device)
    runtime = EncoderGraph(graph, threads=1)

    def encode(batch: Batch) -> Tensor:
        crops = batch.images.permute(0, 2, 3, 1).contiguous().numpy()
        return torch.from_numpy(runtime.encode(crops, None if batch.camids is None else batch.camids.numpy()))

    return Encode(encode, at_once=torch.get_num_threads())
