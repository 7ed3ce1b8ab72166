"""Run `encoder.onnx`: crops, and their cameras where these have batch norms of their own, to maps.

N crops, H x W crop size in pixels, C channels, h x w map size.
"""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qaconv.runtime.sessions import open_graph

IMAGES, CAMIDS = "images", "camids"  # inputs
NO_CAMERA = -1  # a camid that no camera has: the batch norms of all


class EncoderGraph:
    """An encoder's graph in ONNX Runtime, on the CPU.

    Args:
        graph: a file, or its content.
        threads: of one run. Default: 0, one for each core.

    Attributes:
        crop_size: (H, W).
        map_shape: (C, h, w).
        knows_cameras: whether some cameras have batch norms of their own.

    Raises:
        InputError: the file is missing.
    """

    def __init__(self, graph: Path | bytes, threads: int = 0) -> None:
        self._session = open_graph(graph, threads)
        self.crop_size: tuple[int, int] = tuple(self._session.get_inputs()[0].shape[1:3])
        channels, height, width = self._session.get_outputs()[0].shape[1:]
        self.map_shape: tuple[int, int, int] = (channels, height, width)
        self.knows_cameras = CAMIDS in {each.name for each in self._session.get_inputs()}

    def encode(self, crops: NDArray[np.uint8], camids: ArrayLike | None = None) -> NDArray[np.float32]:
        """Encode RGB crops [N, H, W, 3] as maps [N, C, h, w] of unit length over C.

        Args:
            crops: the crops.
            camids: camera of each crop, [N]; one without batch norms of its own has those of all cameras. They change
                nothing where no camera has. Default: unknown.

        Raises:
            ValueError: there is not one camera for each crop.
        """
        inputs: dict[str, NDArray[np.uint8 | np.int64]] = {IMAGES: crops}
        cameras = np.full(len(crops), NO_CAMERA) if camids is None else np.asarray(camids)
        if cameras.shape != (len(crops),):  # ONNX Runtime would take one camera for all crops
            raise ValueError(f"camids must have one camera for each of {len(crops)} crops, got {cameras.shape}")
        if self.knows_cameras:
            inputs[CAMIDS] = cameras.astype(np.int64)
        maps: NDArray[np.float32] = self._session.run(None, inputs)[0]
        return maps
