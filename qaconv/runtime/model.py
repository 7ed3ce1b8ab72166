"""Run a registered version: encode crops, match maps, and say what a score means.

N crops, Q queries, G gallery images, H x W crop size in pixels, C channels, h x w map size, S = h*w locations.
"""

from collections.abc import Iterable
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qaconv.errors import InputError
from qaconv.runtime.contract import CONTRACT, ENCODER, Contract, Decision, Probability
from qaconv.runtime.encoder import EncoderGraph
from qaconv.runtime.head import Head
from qaconv.runtime.integrity import check_example, check_files
from qaconv.runtime.locations import as_locations
from qaconv.runtime.matcher import cpu_matcher
from qaconv.tlift import TLiftProfile
from qaconv.tlift.probability import GallerySize

BATCH = 32  # crops encoded at a time
EVEN = 0.5  # a probability at which one person is as likely as two


class Threshold(NamedTuple):
    """A probability above which a pair is taken for one person.

    Attributes:
        false_match_rate: share of pairs of two people above it, on people held out of training.
        probability: of its logit, at even odds.
        true_match_rate: share of pairs of one person above it.
    """

    false_match_rate: float
    probability: float
    true_match_rate: float


class Statement(NamedTuple):
    """What a search says about its pairs.

    Attributes:
        probabilities: that a pair shows one person, [Q, G].
        threshold: default probability above which a pair is a match.
        source: "target" where they hold for the target, the size of its gallery and the known times; "source" where
            they hold at even odds for people as in training.
    """

    probabilities: NDArray[np.float64]
    threshold: float
    source: Literal["target", "source"]


class ServedModel:
    """A registered version: encoder, head, contract and temporal profiles.

    The encoder is the ONNX graph. Maps are matched by the runtime's kernel with the contract's numbers of the head. Its
    logits are those of matcher.onnx up to rounding.

    Args:
        folder: folder with the graphs, contract.json and the folder tlift.
        threads: of one call. Default: 0, one for each core.
        target: the one to serve. Default: all that have a temporal profile.

    Attributes:
        contract: sizes, digests and the meaning of a score.
        crop_size: (H, W).
        map_shape: (C, h, w).
        head: the matcher as numbers.
        matcher: matches maps laid out as [N, S, C].
        profiles: temporal profiles by target.

    Raises:
        InputError: a file is missing, damaged, cannot be read or contradicts another, or a crop of the contract's size
            does not run.
    """

    def __init__(self, folder: Path, *, threads: int = 0, target: str | None = None) -> None:
        self.contract = Contract.load(folder)
        check_files(folder, self.contract)
        self._encoder = EncoderGraph(folder / ENCODER, threads)
        self.crop_size = (self.contract.crop_resize.height, self.contract.crop_resize.width)
        self.map_shape = self._encoder.map_shape
        numbers = self.contract.head
        query = np.array(numbers.query, dtype=np.float32)
        gallery = np.array(numbers.gallery, dtype=np.float32)
        locations = self.map_shape[1] * self.map_shape[2]
        if (len(query), len(gallery)) != (locations, locations):
            raise InputError(
                f"{folder / CONTRACT}: head.query and head.gallery must have {locations} weights, one for each place "
                f"in {ENCODER}'s maps, got {len(query)} and {len(gallery)}"
            )
        self.head = Head(query, gallery, numbers.bias, numbers.average, self.map_shape)
        self._threads = threads or None
        self.matcher = cpu_matcher(self.head, self._threads)
        self.profiles = {path.stem: TLiftProfile.load(path) for path in sorted((folder / "tlift").glob("*.json"))}
        if target is not None:
            if target not in self.profiles:
                raise InputError(f"{folder / 'tlift'}: must have a profile of {target}, has {', '.join(self.profiles)}")
            self.profiles = {target: self.profiles[target]}
        check_example(folder, self.crop_size, self.encode, self.score)

    @property
    def encoder_digest(self) -> str:
        """sha256 of encoder.onnx; maps of different encoders cannot be compared."""
        return self.contract.encoder_digest

    @property
    def targets(self) -> list[str]:
        """The targets that are served."""
        return list(self.profiles)

    def encode(self, crops: NDArray[np.uint8], camids: ArrayLike | None = None) -> NDArray[np.float32]:
        """Encode RGB crops [N, H, W, 3] as maps [N, C, h, w] of unit length over C.

        Args:
            crops: the crops.
            camids: camera of each crop, [N]. A version that was adapted to a site may encode each of its cameras in
                its own way, others all alike. Default: unknown; crops of any camera are encoded alike.
        """
        return self._encoder.encode(crops, camids)

    def encode_batches(
        self, crops: Iterable[NDArray[np.uint8]], camids: ArrayLike | None = None
    ) -> NDArray[np.float32]:
        """Encode RGB crops [H, W, 3] as maps [N, C, h, w], BATCH at a time; no more are taken from `crops` at once.

        Args:
            crops: N crops.
            camids: as of `encode`.
        """
        remaining = iter(crops)
        maps = [np.empty((0, *self.map_shape), dtype=np.float32)]
        start = 0
        while batch := list(islice(remaining, BATCH)):
            cameras = None if camids is None else np.asarray(camids)[start : start + len(batch)]
            maps.append(self.encode(np.stack(batch), cameras))
            start += len(batch)
        return np.concatenate(maps)

    def score(self, query_maps: NDArray[np.float32], gallery_maps: NDArray[Any]) -> NDArray[np.float32]:
        """Match maps [Q, C, h, w] with maps [G, C, h, w] of any float; return logits [Q, G], higher is better."""
        queries = self.matcher.prepare(as_locations(query_maps, self._threads))
        return self.matcher.table(queries, as_locations(gallery_maps, self._threads))

    @property
    def calibrated(self) -> bool:
        """Whether probabilities are calibrated; if not, they are the training loss's own."""
        return isinstance(self.contract.score.probability, Probability)

    def probability(self, logits: ArrayLike) -> NDArray[np.float64]:
        """Return the probability of one person for each logit, at even odds."""
        values = np.asarray(logits, dtype=np.float64)
        line = self.contract.score.probability
        if isinstance(line, Probability):
            values = line.scale * values + line.offset
        return _sigmoid(values)

    @cached_property
    def thresholds(self) -> list[Threshold]:
        """Thresholds measured on held-out people, the strictest last; empty where nobody was held out."""
        decision = self.contract.score.decision
        rows = decision.thresholds if isinstance(decision, Decision) else []
        return [
            Threshold(row.false_match_rate, float(self.probability(row.threshold)), row.true_match_rate) for row in rows
        ]

    @property
    def threshold(self) -> float:
        """The default threshold on the probability: the strictest, or 0.5 where there is none."""
        return self.thresholds[-1].probability if self.thresholds else EVEN

    def threshold_of(self, target: str, *, even_odds: bool = False) -> tuple[float, Literal["target", "source"]]:
        """Return a target's default threshold, or the one at even odds, and what it holds for; see `Statement`."""
        odds = self.profiles[target].match_odds if target in self.targets and not even_odds else None
        return (self.threshold, "source") if odds is None else (odds.threshold, "target")

    def state(
        self,
        target: str,
        logits: ArrayLike,
        query_camids: ArrayLike,
        query_times: ArrayLike,
        gallery_camids: ArrayLike,
        gallery_times: ArrayLike,
        *,
        gallery: GallerySize | None = None,
        even_odds: bool = False,
    ) -> Statement:
        """State the probability that each pair shows one person.

        Args:
            target: the camera network; one without a profile has the probabilities of the source.
            logits: [Q, G].
            query_camids: [Q]; those of queries without a time are not used.
            query_times: [Q] seconds, NaN where unknown.
            gallery_camids: [G].
            gallery_times: [G] seconds, NaN where unknown.
            gallery: in which the queries were searched for. Default: the G images.
            even_odds: whether to state them at even odds, for people as in training. Default: no.

        Raises:
            InputError: a camera is not in the target's profile.
        """
        threshold, source = self.threshold_of(target, even_odds=even_odds)
        if source == "source":
            return Statement(self.probability(logits), threshold, source)
        scores = _sigmoid(np.asarray(logits, dtype=np.float64))
        where = query_camids, query_times, gallery_camids, gallery_times
        probabilities = self.profiles[target].probabilities(scores, *where, gallery=gallery)
        assert probabilities is not None
        return Statement(probabilities, threshold, source)

    def lift(
        self,
        target: str,
        logits: ArrayLike,
        query_camids: ArrayLike,
        query_times: ArrayLike,
        gallery_camids: ArrayLike,
        gallery_times: ArrayLike,
    ) -> NDArray[np.float64] | None:
        """Lift logits [Q, G] by the target's temporal profile.

        Returns:
            Lifted scores [Q, G]; None where the target has no profile, or one that does not use times.

        Raises:
            InputError: a camera is not in the target's profile.
        """
        if target not in self.targets or not (profile := self.profiles[target]).active:
            return None
        scores = _sigmoid(np.asarray(logits, dtype=np.float64))
        return profile.lift(scores, query_camids, query_times, gallery_camids, gallery_times)


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(-np.logaddexp(0, -values))
