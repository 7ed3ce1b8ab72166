"""An embedding in an ONNX file is checked, and its graph takes crops and gives maps as a trained encoder does."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from onnx import helper

from qaconv.config import ImageConfig
from qaconv.errors import InputError
from qaconv.models.embedding_file import Preprocessing, wrap_embedding
from qaconv.runtime.sessions import open_graph
from tests.onnx_files import CHANNELS, HEIGHT, WIDTH, write_embedding

SIZE = ImageConfig(height=HEIGHT, width=WIDTH)
MEAN, STD = (0.5, 0.25, 0.125), (0.5, 2.0, 1.0)


def expected(channels: Literal["rgb", "bgr"] = "rgb", scale: float = 1, size: ImageConfig = SIZE) -> Preprocessing:
    return Preprocessing(size, channels, scale, MEAN, STD)


def by_hand(path: Path, crops: Any, channels: str, scale: float, *, channels_first: bool) -> Any:
    """Run the file image by image on images that are prepared step by step."""
    session = open_graph(path)
    values = []
    for crop in crops:
        image = crop[..., ::-1] if channels == "bgr" else crop
        image = (image.astype(np.float64) / 255 * scale - MEAN) / STD
        image = (image.transpose(2, 0, 1) if channels_first else image)[None].astype(np.float32)
        values.append(session.run(None, {"images": image})[0][0])
    table = np.stack(values).reshape(len(crops), CHANNELS, *((2, 2) if np.size(values[0]) > CHANNELS else (1, 1)))
    return table / np.linalg.norm(table, axis=1, keepdims=True)


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
@pytest.mark.parametrize(
    ("scale", "settings"),
    [
        (1, {}),
        (255, {"result": "map"}),
        (1, {"channels_first": False, "result": "column"}),
        (1, {"size": ("H", "W")}),
        (255, {"batch": 1}),
        (1, {"batch": 1, "channels_first": False, "result": "map"}),
    ],
)
def test_wrapped_graph_gives_the_files_embedding_of_each_crop_at_unit_length(
    tmp_path: Path, channels: Literal["rgb", "bgr"], scale: float, settings: dict[str, Any]
) -> None:
    path = write_embedding(tmp_path / "reid.onnx", **settings)
    graph, shape = wrap_embedding(path, expected(channels, scale))
    crops = np.random.default_rng(1).integers(0, 256, (5, HEIGHT, WIDTH, 3), dtype=np.uint8)
    (maps,) = open_graph(graph).run(None, {"images": crops})
    first = settings.get("channels_first", True)
    np.testing.assert_allclose(maps, by_hand(path, crops, channels, scale, channels_first=first), atol=1e-5)
    assert maps.shape == (5, *shape)
    assert "unused" not in str([tensor.name for tensor in onnx.load_from_string(graph).graph.initializer])


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    path = write_embedding(tmp_path / "reid.onnx")
    assert wrap_embedding(path, expected()) == wrap_embedding(path, expected())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inputs": 2}, r"must have one input, the images, got 2: images, more"),
        ({"outputs": 2}, r"must have one output, the embedding, got 2: embedding, pooled"),
        ({"result": "flat"}, r"must give vectors float32 \[N, C\] or maps .* got float32 \[\d+\] for 3 images"),
        ({"spread": 0}, "must give different numbers for different images"),
        ({"spread": 1e38}, "must give finite numbers; correct scale, mean and std"),
        ({"batch": 8}, "must take any number of images or one, got 8"),
        ({"size": (64, 16)}, "takes images of 64 x 16 pixels, and image is 32 x 16"),
        (
            {"extra_nodes": [helper.make_node("Mine", ["embedding"], ["x"], domain="mine")]},
            "must use operators .* got mine.Mine",
        ),
    ],
)
def test_file_that_is_no_embedding_of_such_images_is_refused(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=rf"reid\.onnx: {message}"):
        wrap_embedding(write_embedding(tmp_path / "reid.onnx", **settings), expected())


def test_size_that_the_operators_do_not_take_is_refused(tmp_path: Path) -> None:
    path = write_embedding(tmp_path / "reid.onnx", size=("H", "W"), result="map")
    with pytest.raises(InputError, match=r"reid\.onnx: does not take an image of 64 x 16 pixels"):
        wrap_embedding(path, expected(size=ImageConfig(height=64, width=16)))


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x08\x08"])
def test_file_that_is_not_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "reid.onnx").write_bytes(content)
    with pytest.raises(InputError, match=r"reid\.onnx: must be an ONNX file"):
        wrap_embedding(tmp_path / "reid.onnx", expected())


def test_weights_outside_the_file_are_refused(tmp_path: Path) -> None:
    model = onnx.load(write_embedding(tmp_path / "whole.onnx"))
    onnx.save(model, tmp_path / "reid.onnx", save_as_external_data=True, size_threshold=0)
    with pytest.raises(InputError, match=r"reid\.onnx: must hold its weights; save it as one file"):
        wrap_embedding(tmp_path / "reid.onnx", expected())
