"""The files of a registered version go in; maps of crops, scores of pairs and what they mean come out.

N crops, Q queries, G gallery images, H x W crop size in pixels, C channels, h x w map size, S = h*w locations.
"""

import json
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qaconv.errors import InputError
from qaconv.runtime.head import Head
from qaconv.runtime.sessions import open_graph
from qaconv.tlift import TLiftProfile

EVEN = 0.5  # as likely one person as two
GALLERY_TILE = 16  # images matched at a time: S x S cosines of each stay in a core's cache


class Threshold(NamedTuple):
    """Above what a pair is taken for one person.

    Attributes:
        false_match_rate: share of pairs of two people that it lets through, on people held out of training.
        probability: of its logit, at even odds.
        true_match_rate: share of pairs of one person that it finds there.
    """

    false_match_rate: float
    probability: float
    true_match_rate: float


class ServedModel:
    """A registered version: encoder, matcher, contract and temporal profiles.

    Attributes:
        contract: contract.json.
        encoder_digest: sha256 of encoder.onnx; maps of another encoder cannot be compared with this one's.
        crop_size: (H, W).
        map_shape: (C, h, w).
        head: what the matcher computes, as numbers.
        targets: those that have a temporal profile.

    Raises:
        InputError: a file is missing, or is not what the contract says.
    """

    def __init__(self, folder: Path, *, threads: int = 0) -> None:
        try:
            self.contract = json.loads((folder / "contract.json").read_text(encoding="utf-8"))
            self._encoder, self._matcher = (open_graph(folder / f"{name}.onnx", threads) for name in GRAPHS)
            size, head = self.contract["crop_resize"], self.contract["head"]
            self.crop_size = (int(size["height"]), int(size["width"]))
            self.encoder_digest: str = self.contract["graphs"]["encoder.onnx"]["sha256"]
            query, gallery = (np.array(head[side], dtype=np.float32) for side in ("query", "gallery"))
            self.head = Head(query, gallery, float(head["bias"]), float(head["average"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{folder}: holds no model that can be served: {error!r}") from error
        channels, height, width = self._encoder.get_outputs()[0].shape[1:]
        self.map_shape = (channels, height, width)
        self._profiles = {path.stem: path for path in sorted((folder / "tlift").glob("*.json"))}

    @property
    def targets(self) -> list[str]:
        return list(self._profiles)

    @cached_property
    def profiles(self) -> dict[str, TLiftProfile]:
        """Temporal profiles by target."""
        return {name: TLiftProfile.load(path) for name, path in self._profiles.items()}

    def encode(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """RGB crops [N, H, W, 3] to maps [N, C, h, w] of unit length over C."""
        return self._encoder.run(None, {"images": crops})[0]

    def score(self, query_maps: NDArray[np.float32], gallery_maps: NDArray[np.floating]) -> NDArray[np.float32]:
        """Maps [Q, C, h, w] and [G, C, h, w], of any float, to logits [Q, G]; higher is a better match."""
        logits = np.empty((len(query_maps), len(gallery_maps)), dtype=np.float32)
        for row in range(len(query_maps)):
            query = query_maps[row : row + 1]
            for start in range(0, len(gallery_maps), GALLERY_TILE):
                tile = gallery_maps[start : start + GALLERY_TILE].astype(np.float32, copy=False)
                found = self._matcher.run(None, {"query_maps": query, "gallery_maps": tile})
                logits[row, start : start + len(tile)] = found[0][0]
        return logits

    @property
    def calibrated(self) -> bool:
        """Whether a probability means what it says; without people held out, it is training's."""
        return isinstance(self.contract["score"].get("probability"), dict)

    def probability(self, logits: ArrayLike) -> NDArray[np.float64]:
        """Logits to the probability of one person, at even odds."""
        values = np.asarray(logits, dtype=np.float64)
        if self.calibrated:
            line = self.contract["score"]["probability"]
            values = line["scale"] * values + line["offset"]
        return _sigmoid(values)

    @cached_property
    def thresholds(self) -> list[Threshold]:
        """Those that the held out people could tell, the strictest last; none without such people."""
        decision = self.contract["score"].get("decision")
        found = decision["thresholds"] if isinstance(decision, dict) else []
        return [
            Threshold(one["false_match_rate"], float(self.probability(one["threshold"])), one["true_match_rate"])
            for one in found
        ]

    @property
    def threshold(self) -> float:
        """The probability above which a pair is a match unless the caller says otherwise: the strictest, or 0.5."""
        return self.thresholds[-1].probability if self.thresholds else EVEN

    def lift(
        self,
        target: str,
        logits: NDArray[np.float32],
        query_camids: ArrayLike,
        query_times: ArrayLike,
        gallery_camids: ArrayLike,
        gallery_times: ArrayLike,
    ) -> NDArray[np.float64] | None:
        """Logits [Q, G] to scores lifted by when people came by, [Q, G]; None where times say nothing.

        Raises:
            InputError: a camera that the target's profile does not know.
        """
        if target not in self.targets or not (profile := self.profiles[target]).active:
            return None
        scores = _sigmoid(np.asarray(logits, dtype=np.float64))
        return profile.lift(scores, query_camids, query_times, gallery_camids, gallery_times)


GRAPHS = ("encoder", "matcher")


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(-np.logaddexp(0, -values))
