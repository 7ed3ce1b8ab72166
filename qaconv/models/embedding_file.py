"""Read an embedding that somebody has as an ONNX file, and give its graph the project's input and output.

N crops, H x W crop size in pixels, C channels, h x w map size. The file maps images float32 [N, 3, H, W] or
[N, H, W, 3] to vectors [N, C], [N, C, 1, 1] or maps [N, C, h, w]. The wrapped graph maps crops uint8 RGB [N, H, W, 3]
to maps float32 [N, C, h, w] of unit length over C, as that of a trained encoder does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper
from onnx.external_data_helper import uses_external_data

from qaconv.config import ImageConfig
from qaconv.errors import InputError
from qaconv.runtime.encoder import IMAGES, EncoderGraph
from qaconv.runtime.sessions import open_graph

Floats = NDArray[np.float32]
DOMAINS = ("", "ai.onnx")  # of the standard's operators
EARLIEST_OPSET = 7  # before it, operators broadcast otherwise
PREFIX = "file/"  # of the names of the file's values in the wrapped graph
CROPS = 3  # of the check that the wrapped graph does what the file does
BLOCK = 8  # pixels of a random colour: the mean of single pixels would be the same for all crops
TOLERANCE = 1e-4  # of components of a unit vector


@dataclass(frozen=True)
class Preprocessing:
    """What the file expects of its images.

    Attributes:
        image: their size in pixels.
        channels: order of the colours.
        scale: greatest value of a pixel.
        mean: subtracted from each channel, in the file's order and scale.
        std: then divides each channel.
    """

    image: ImageConfig
    channels: Literal["rgb", "bgr"]
    scale: float
    mean: Sequence[float]
    std: Sequence[float]

    def factors(self) -> tuple[Floats, Floats]:
        """Return factor and offset [3] by which a value in 0..255 becomes the file's, in the file's order."""
        std = np.asarray(self.std, dtype=np.float32)
        return np.float32(self.scale / 255) / std, -np.asarray(self.mean, dtype=np.float32) / std

    def apply(self, crops: NDArray[np.uint8]) -> Floats:
        """Return crops [N, H, W, 3] as the file takes them, with the channels last."""
        factor, offset = self.factors()
        values = crops[..., ::-1] if self.channels == "bgr" else crops
        prepared: Floats = values.astype(np.float32) * factor + offset
        return prepared


def wrap_embedding(path: Path, expected: Preprocessing) -> tuple[bytes, tuple[int, int, int]]:
    """Read a file and return the wrapped graph and the shape (C, h, w) of its maps.

    Raises:
        InputError: the file is not such an embedding, or does not take images of this size.
    """
    model = _read(path)
    channels_first, batch = _check_input(path, model, expected.image)
    if len(model.graph.output) != 1:
        names = ", ".join(value.name for value in model.graph.output)
        raise InputError(f"{path}: must have one output, the embedding, got {len(model.graph.output)}: {names}")
    crops = _random_crops(expected.image)
    values = _run_alone(path, model, expected, crops, channels_first=channels_first)
    shape = _map_shape(path, values)
    wanted = values.reshape(len(values), *shape)
    wanted /= np.maximum(np.linalg.norm(wanted, axis=1, keepdims=True), 1e-12)
    graph = _wrap(model, expected, shape, channels_first=channels_first, each=bool(batch))
    maps = EncoderGraph(graph, threads=1).encode(crops)
    if maps.shape != wanted.shape or not np.abs(maps - wanted).max() <= TOLERANCE:
        raise InputError(f"{path}: must encode {len(crops)} images at once as it encodes each alone")
    return graph, shape


def _read(path: Path) -> onnx.ModelProto:
    """Read a file of standard operators with its weights in it, at a batch size that is free."""
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError) as error:
        raise InputError(f"{path}: must be an ONNX file: {error}") from error
    if not model.graph.node:
        raise InputError(f"{path}: must be an ONNX file with a graph, got none")
    if any(uses_external_data(tensor) for tensor in model.graph.initializer):
        raise InputError(f"{path}: must hold its weights; save it as one file, without external data")
    custom = {f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain not in DOMAINS}
    if custom:
        raise InputError(f"{path}: must use operators of ONNX alone, got {', '.join(sorted(custom))}")
    opset = next((entry.version for entry in model.opset_import if entry.domain in DOMAINS), 0)
    if opset < EARLIEST_OPSET:
        raise InputError(f"{path}: must have an opset of {EARLIEST_OPSET} or later, got {opset}")
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise InputError(f"{path}: must be a valid ONNX file: {str(error).splitlines()[0]}") from error
    _drop_unused_weights(model.graph)
    return model


def _drop_unused_weights(graph: onnx.GraphProto) -> None:
    """Remove weights that no operator reads, such as a classifier's, of which ONNX Runtime would warn."""
    used = {value.name for value in graph.output} | set(_read_names(graph))
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _read_names(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield the names that the operators of a graph read, and those of the graphs in them."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _read_names(attribute.g)


def _check_input(path: Path, model: onnx.ModelProto, image: ImageConfig) -> tuple[bool, int]:
    """Return whether the channels are the second dimension, and the batch size, 0 if it is free."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise InputError(f"{path}: must have one input, the images, got {len(inputs)}: {names}")
    tensor = inputs[0].type.tensor_type
    sizes = [size.dim_value for size in tensor.shape.dim]  # 0 where it is free
    if tensor.elem_type != TensorProto.FLOAT or len(sizes) != 4 or 3 not in (sizes[1], sizes[3]):
        kind = helper.tensor_dtype_to_string(tensor.elem_type).removeprefix("TensorProto.").lower()
        shown = ", ".join(size.dim_param or str(size.dim_value) for size in tensor.shape.dim)
        raise InputError(f"{path}: must take images float [N, 3, H, W] or [N, H, W, 3], got {kind} [{shown}]")
    channels_first = sizes[1] == 3
    height, width = sizes[2:] if channels_first else sizes[1:3]
    if (height or image.height, width or image.width) != (image.height, image.width):
        raise InputError(
            f"{path}: takes images of {height} x {width} pixels, and image is {image.height} x {image.width}"
        )
    if sizes[0] > 1:
        raise InputError(f"{path}: must take any number of images or one, got {sizes[0]}; export it with a free size")
    return channels_first, sizes[0]


def _run_alone(
    path: Path, model: onnx.ModelProto, expected: Preprocessing, crops: NDArray[np.uint8], *, channels_first: bool
) -> Floats:
    """Run the file as it is on each crop, and check that it gives numbers that depend on the crop."""
    try:
        session = open_graph(model.SerializeToString(), threads=1)
        name = session.get_inputs()[0].name
        images = expected.apply(crops)
        images = images.transpose(0, 3, 1, 2) if channels_first else images
        values = np.concatenate([session.run(None, {name: image[None]})[0] for image in np.ascontiguousarray(images)])
    except Exception as error:  # ONNX Runtime's classes have no common base
        size = f"{expected.image.height} x {expected.image.width}"
        raise InputError(f"{path}: does not take an image of {size} pixels: {str(error).splitlines()[0]}") from error
    if values.dtype != np.float32 or values.ndim not in (2, 4) or len(values) != len(crops):
        raise InputError(
            f"{path}: must give vectors float32 [N, C] or maps [N, C, h, w], got {values.dtype} "
            f"{list(values.shape)} for {len(crops)} images"
        )
    if not np.isfinite(values).all():
        raise InputError(f"{path}: must give finite numbers; correct scale, mean and std of backbone")
    if np.allclose(values, values[:1], rtol=1e-5, atol=0):
        raise InputError(f"{path}: must give different numbers for different images, got the same for {len(crops)}")
    return values


def _map_shape(path: Path, values: Floats) -> tuple[int, int, int]:
    channels, height, width = values.shape[1:] if values.ndim == 4 else (values.shape[1], 1, 1)
    if channels < 2:
        raise InputError(f"{path}: must give two channels or more, got {list(values.shape[1:])}")
    return channels, height, width


def _wrap(
    model: onnx.ModelProto,
    expected: Preprocessing,
    shape: tuple[int, int, int],
    *,
    channels_first: bool,
    each: bool,
) -> bytes:
    """Put the conversion of crops before the file's graph, and the unit length behind it.

    Args:
        model: content of the file.
        expected: what it expects of its images.
        shape: of its maps.
        channels_first: whether its images are [N, 3, H, W].
        each: whether to run the graph for each image by itself, as it takes one.
    """
    inner = compose.add_prefix(model, PREFIX)
    weights = {tensor.name for tensor in inner.graph.initializer}
    (source,) = (value for value in inner.graph.input if value.name not in weights)
    (result,) = inner.graph.output
    image, (factor, offset) = expected.image, expected.factors()
    constants = {"factor": factor, "offset": offset}
    steps = [helper.make_node("Cast", [IMAGES], ["pixels"], to=TensorProto.FLOAT)]
    last = "pixels"
    if expected.channels == "bgr":
        constants["order"] = np.array([2, 1, 0])
        steps.append(helper.make_node("Gather", [last, "order"], ["ordered"], axis=3))
        last = "ordered"
    steps.append(helper.make_node("Mul", [last, "factor"], ["scaled"]))
    prepared = "channels_last" if channels_first else "prepared"
    steps.append(helper.make_node("Add", ["scaled", "offset"], [prepared]))
    if channels_first:
        steps.append(helper.make_node("Transpose", [prepared], ["prepared"], perm=[0, 3, 1, 2]))
    if each:
        size = (3, image.height, image.width) if channels_first else (image.height, image.width, 3)
        steps.append(_for_each(inner, source.name, size, result.name, shape))
    else:
        steps.append(helper.make_node("Identity", ["prepared"], [source.name]))
        steps += inner.graph.node
        constants["shape"] = np.array([-1, *shape])
        steps.append(helper.make_node("Reshape", [result.name, "shape"], ["values"]))
    steps.append(helper.make_node("LpNormalization", ["values"], ["maps"], axis=1, p=2))
    graph = helper.make_graph(
        steps,
        "embedding",
        [helper.make_tensor_value_info(IMAGES, TensorProto.UINT8, ["N", image.height, image.width, 3])],
        [helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["N", *shape])],
        [*(numpy_helper.from_array(value, name) for name, value in constants.items()), *inner.graph.initializer],
    )
    wrapped = helper.make_model(graph, opset_imports=list(inner.opset_import), ir_version=max(inner.ir_version, 4))
    content: bytes = wrapped.SerializeToString(deterministic=True)
    return content


def _for_each(
    inner: onnx.ModelProto, source: str, size: tuple[int, int, int], result: str, shape: tuple[int, int, int]
) -> onnx.NodeProto:
    """Return a loop that runs the graph on one image after another.

    Args:
        inner: the graph.
        source: name of its input.
        size: of an image.
        result: name of its output.
        shape: of a map.
    """
    body = helper.make_graph(
        [
            helper.make_node("Constant", [], ["one_image"], value=numpy_helper.from_array(np.array([1, *size]))),
            helper.make_node("Reshape", ["image", "one_image"], [source]),
            *inner.graph.node,
            helper.make_node("Constant", [], ["one_map"], value=numpy_helper.from_array(np.array(shape))),
            helper.make_node("Reshape", [result, "one_map"], ["value"]),
        ],
        "each",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, list(shape))],
    )
    return helper.make_node("Scan", ["prepared"], ["values"], body=body, num_scan_inputs=1)


def _random_crops(image: ImageConfig) -> NDArray[np.uint8]:
    rows, columns = -(-image.height // BLOCK), -(-image.width // BLOCK)
    blocks = np.random.default_rng(0).integers(0, 256, size=(CROPS, rows, columns, 3), dtype=np.uint8)
    return blocks.repeat(BLOCK, axis=1).repeat(BLOCK, axis=2)[:, : image.height, : image.width]
