"""Take an embedding that somebody has already, as an ONNX file. Only its scores are put on a scale here."""

import logging
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat

from qaconv.config.kinds import MethodSettings
from qaconv.config.licences import Licence
from qaconv.config.values import Settings
from qaconv.errors import InputError
from qaconv.training.methods import Sources, find_weights

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

Three = Field(min_length=3, max_length=3)
SCALED_BY = 256  # images of the sources whose scores define the scale


class OnnxBackbone(Settings):
    """A file in data/weights, and what it expects of its images."""

    weights: str  # name of the ONNX file
    weights_licence: Licence | None = None  # of the file
    channels: Literal["rgb", "bgr"]  # order of the colours
    scale: Literal[1, 255]  # greatest value of a pixel
    mean: list[float] = Three  # subtracted from each channel, in the file's order and scale
    std: list[PositiveFloat] = Three  # then divides each channel


class OnnxMethod(MethodSettings):
    """Settings of a method whose encoder is an ONNX file."""

    about: ClassVar[str] = "It compares what an ONNX file says about each image; the file was not trained here."
    trains: ClassVar[bool] = False
    kind: Literal["onnx"] = "onnx"
    backbone: OnnxBackbone

    def build(self, seed: int) -> Any:
        """Wrap the file's graph, and make a head whose logits are twice the mean best cosine."""
        import torch

        from qaconv.models.checkpoint import GraphArchitecture, build_network
        from qaconv.models.embedding_file import Preprocessing, wrap_embedding
        from qaconv.models.licences import UNKNOWN

        path = find_weights(self.backbone.weights)
        settings = self.backbone
        expected = Preprocessing(self.image, settings.channels, settings.scale, settings.mean, settings.std)
        graph, maps = wrap_embedding(path, expected)
        digest = sha256(path.read_bytes()).hexdigest()
        licence = settings.weights_licence or UNKNOWN
        architecture = GraphArchitecture(
            file=path.name, sha256=digest, weights_licence=licence, image=self.image, maps=maps
        )
        network = build_network(architecture, seed)
        network.encoder.set_extra_state(torch.from_numpy(np.frombuffer(graph, dtype=np.uint8).copy()))
        torch.nn.init.zeros_(network.head.weight.bias)
        return network

    def fit(self, network: Any, sources: Sources) -> "pd.DataFrame":
        """Let the head's norms see scores of different images, so that logits have a mean of 0 and a deviation of 1."""
        import pandas as pd

        from qaconv.data.loading import encode_all, in_torch
        from qaconv.training.scale import standardise

        rows = np.random.default_rng(sources.seed).permutation(len(sources.table))[:SCALED_BY]
        if len(rows) < 2:
            raise InputError(f"data/sources/train.parquet: must have two images to compare, got {len(rows)}")
        paths = [Path(path) for path in sources.table["path"].iloc[np.sort(rows)]]
        encode = in_torch(network.encoder, sources.device)
        maps = encode_all(encode, paths, self.image, batch_size=16, workers=sources.machine.workers)
        standardise(network.head, maps)
        if sources.holdout is None:
            log.warning("sources.holdout_share is 0: nobody is held out, so its probabilities are not calibrated")
        return pd.DataFrame(columns=["epoch", "loss", "accuracy", "lr"])
