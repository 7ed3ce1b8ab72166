"""Tiny embeddings as ONNX files, for tests: pixels are averaged over parts of the image and mixed by random weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HEIGHT, WIDTH, CHANNELS = 32, 16, 6


def write_embedding(
    path: Path,
    *,
    batch: int | str = "N",
    channels_first: bool = True,
    size: tuple[int | str, int | str] = (HEIGHT, WIDTH),
    result: str = "vector",
    extra_nodes: Sequence[onnx.NodeProto] = (),
    inputs: int = 1,
    outputs: int = 1,
    spread: float = 1.0,
) -> Path:
    """Write a file.

    Args:
        path: of the file.
        batch: its batch size, or a name where it is free.
        channels_first: whether images are [N, 3, H, W].
        size: height and width of the images.
        result: "vector" [N, C], "column" [N, C, 1, 1], "map" [N, C, 2, 2] or "flat" [N * C].
        extra_nodes: behind the others.
        inputs: number of inputs.
        outputs: number of outputs.
        spread: standard deviation of the weights; 0 makes the embedding constant.
    """
    rng = np.random.default_rng(3)
    cells = (2, 2) if result == "map" else (1, 1)
    kernel = [HEIGHT // cells[0], WIDTH // cells[1]]
    weights = rng.normal(0, spread, (CHANNELS, 3, 1, 1)).astype(np.float32)
    first = [] if channels_first else [helper.make_node("Transpose", ["images"], ["first"], perm=[0, 3, 1, 2])]
    # The operators in the middle do what exporters write for a batch of one: a shape that holds the 1.
    shapes: dict[str, list[Any]] = {"vector": [batch, CHANNELS], "column": [batch, CHANNELS, 1, 1], "flat": [CHANNELS]}
    kept = {"vector": [-1 if batch == "N" else 1, CHANNELS], "column": [0, 0, 1, 1], "flat": [-1]}
    dimensions = shapes.get(result, [batch, CHANNELS, *cells])
    nodes = [
        *first,
        helper.make_node("Conv", ["images" if channels_first else "first", "weights"], ["mixed"], kernel_shape=[1, 1]),
        helper.make_node("AveragePool", ["mixed"], ["pooled"], kernel_shape=kernel, strides=kernel),
        helper.make_node("Reshape", ["pooled", "kept"], ["embedding"]),
        *extra_nodes,
    ]
    images = [batch, 3, *size] if channels_first else [batch, *size, 3]
    taken = [helper.make_tensor_value_info(name, TensorProto.FLOAT, images) for name in ("images", "more")[:inputs]]
    given = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, dimensions)]
    given += [helper.make_tensor_value_info("pooled", TensorProto.FLOAT, [batch, CHANNELS, *cells])] * (outputs - 1)
    constants: dict[str, Any] = {
        "weights": weights,
        "kept": np.array(kept.get(result, [0, 0, *cells]), dtype=np.int64),
        "unused": weights,  # such as a classifier's
    }
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", taken, given, tensors)
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("mine", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path
