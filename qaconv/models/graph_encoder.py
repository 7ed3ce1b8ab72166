"""Encode images by an ONNX graph that was not trained here, where a trained network has modules of PyTorch."""

import numpy as np
import torch
from torch import Tensor, nn

from qaconv.runtime.encoder import EncoderGraph


class GraphEncoder(nn.Module):
    """Encode images by a graph from crops uint8 [N, H, W, 3] to maps [N, C, h, w] of unit length over C.

    The graph is the module's state, so that it is saved, loaded and digested as weights are. It runs on the CPU.
    """

    graph: bytes
    _runtime: EncoderGraph

    def forward(self, images: Tensor) -> Tensor:
        """Encode RGB images [B, 3, H, W] in [0, 1] as maps [B, C, h, w] of unit length over C."""
        crops = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return torch.from_numpy(self._runtime.encode(crops)).to(images.device)

    def get_extra_state(self) -> Tensor:
        """Return the graph's bytes."""
        return torch.from_numpy(np.frombuffer(self.graph, dtype=np.uint8).copy())

    def set_extra_state(self, state: Tensor) -> None:
        """Take a graph's bytes."""
        self.graph = state.cpu().numpy().tobytes()
        self._runtime = EncoderGraph(self.graph, threads=1)
