"""Tell without labels how many images people have on a camera, on which the worth of k-reciprocal re-ranking depends.

Re-ranking trusts neighbours of neighbours. Where each person has one image on a camera, nearly all of them are other
people, and it harms. The nearest images show which it is:

- the nearest on an image's own camera is of the same person only if people have two images on a camera;
- the second nearest on another camera is, too. So it is the control: it is another person if people have one.

Both are compared with what the nearest of as many normal numbers would be. In the same way the second nearest is
compared with the third on another camera, for people with three images. N sightings, A anchors.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit, ndtri

from qaconv.matching.rerank import Distances

ANCHORS = 1000  # sightings whose nearest are compared, at most
LEAST_ANCHORS = 30
LEAST_ON_CAMERA = 20  # sightings of a camera; the largest of fewer scores says little
MOST_ON_CAMERA = 20_000  # sightings of a camera that an anchor is matched with, so that large targets stay cheap
DEVIATIONS = 1.96  # of a mean, for its 95 per cent confidence interval
SEED = 0  # of the anchors, so that the same matches give the same choice


@dataclass(frozen=True)
class CameraEvidence:
    """What the nearest sightings say of the number of images that people have on a camera.

    Attributes:
        images_on_camera: 1, 2, or 3 for three and more; None where too few sightings were compared.
        excess: of the nearest on the own camera over the second nearest on another one, in deviations of the scores of
            a camera: how much further it stands out than normal numbers would, mean over the anchors.
        excess_low: lower end of its 95 per cent confidence interval. It is above 0 where people have two images.
        excess_high: upper end.
        second_excess: the same of the second nearest over the third nearest on another camera.
        second_excess_low: lower end of its interval. It is above 0 where people have three images.
        second_excess_high: upper end.
        anchors: A.
    """

    images_on_camera: int | None = None
    excess: float | None = None
    excess_low: float | None = None
    excess_high: float | None = None
    second_excess: float | None = None
    second_excess_low: float | None = None
    second_excess_high: float | None = None
    anchors: int = 0


def compare_cameras(camids: NDArray[np.integer], distances_of: Distances) -> CameraEvidence:
    """Compare the nearest sightings of drawn anchors on their own camera with those on another one.

    Args:
        camids: camera of each sighting, [N].
        distances_of: function of the indices [n] of both sides of n pairs that returns their distances, as
            `qaconv.matching.target_reranking.make_pair_distances` makes it.
    """
    rng = np.random.default_rng(SEED)
    on_camera = {camid: np.flatnonzero(camids == camid) for camid in np.unique(camids).tolist()}
    large = [camid for camid, sightings in on_camera.items() if len(sightings) > LEAST_ON_CAMERA]
    anchors = rng.permutation(np.flatnonzero(np.isin(camids, large)))[:ANCHORS]
    if len(large) < 2 or len(anchors) < LEAST_ANCHORS:
        return CameraEvidence()
    differences = np.empty((len(anchors), 2))
    for row, anchor in enumerate(anchors.tolist()):
        other = rng.choice([camid for camid in large if camid != camids[anchor]])
        own = on_camera[int(camids[anchor])]
        nearest = _stand_out(anchor, own[own != anchor], [1, 2], distances_of)
        differences[row] = nearest - _stand_out(anchor, on_camera[int(other)], [2, 3], distances_of)
    means = differences.mean(axis=0)
    margins = DEVIATIONS * differences.std(axis=0) / np.sqrt(len(anchors))
    are_two, are_three = means > margins
    images = 1 if not are_two else 3 if are_three else 2
    first, second = zip(means.tolist(), (means - margins).tolist(), (means + margins).tolist(), strict=True)
    return CameraEvidence(images, *first, *second, anchors=len(anchors))


def _stand_out(
    anchor: int, sightings: NDArray[np.integer], ranks: list[int], distances_of: Distances
) -> NDArray[np.float64]:
    """Return by how much the scores of these ranks among an anchor's sightings exceed those of normal numbers.

    Scores are logits less their median, in root mean squares of those above it.
    """
    sightings = sightings[:MOST_ON_CAMERA]
    distances = distances_of(np.full(len(sightings), anchor), sightings).astype(np.float64)
    scores = -logit(np.clip(distances, 1e-7, 1 - 1e-7))
    above = np.sort(scores - np.median(scores))[::-1]
    deviation = np.sqrt(np.mean(np.square(above[above > 0]))) if above[0] > 0 else 1.0
    count, rank = len(scores), np.array(ranks)
    expected = ndtri((count - rank + 1 - 0.375) / (count + 0.25))  # of the rank-th largest (Blom, 1958)
    result: NDArray[np.float64] = above[rank - 1] / deviation - expected
    return result
