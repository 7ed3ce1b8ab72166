"""Choose the fastest way to encode crops on a device."""

from pathlib import Path

import torch
from torch import Tensor

from qaconv.data.loading import Encode, in_torch
from qaconv.models.checkpoint import Network
from qaconv.models.graph_encoder import GraphEncoder
from qaconv.runtime.sessions import open_graph


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
    session = open_graph(graph, threads=1)

    def encode(images: Tensor) -> Tensor:
        (maps,) = session.run(None, {"images": images.permute(0, 2, 3, 1).contiguous().numpy()})
        return torch.from_numpy(maps)

    return Encode(encode, at_once=torch.get_num_threads())
