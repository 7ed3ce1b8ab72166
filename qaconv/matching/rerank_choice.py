"""Tell without labels how many images people have on a camera, on which the worth of k-reciprocal re-ranking depends.

Re-ranking trusts neighbours of neighbours. Where each person has one image on a camera, nearly all of them are other
people, and it harms. The nearest images show which it is:

- the nearest on an image's own camera is of the same person only if people have two images on a camera;
- the second nearest on another camera is, too. So it is the control: it is another person if people have one.

Both are compared with what the nearest of as many normal numbers would be. Where people have three images, the second
nearest on the own camera stands out almost as far as the nearest. N sightings, A anchors.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit, ndtri

from qaconv.matching.rerank import Distances

ANCHORS = 1000  # sightings whose nearest are compared, at most
LEAST_ANCHORS = 30
LEAST_ON_CAMERA = 20  # sightings of a camera; the largest of fewer scores says little
MOST_ON_CAMERA = 20_000  # sightings of a camera that an anchor is matched with, so that large targets stay cheap
ANCHORS_AT_ONCE = 16  # on one camera: a map of the camera is read once for all of them
DEVIATIONS = 1.96  # of a mean, for its 95 per cent confidence interval
# Both were chosen on drawn networks of the seeds 510 to 515. With one image the lower end was below 0 in 20 of 21 and
# above it in one, whose mean was 0.04; with more images it was 0.024 and above in 50 of 51. With two images the second
# excess was at most 0.27 of the first, with three or more at least 0.38.
LEAST_EXCESS = 0.02
THIRD = 1 / 3
# A network that sees little difference between cameras needs another sign of one image on a camera, as matches on
# another camera stand out as far as those on the own one. Either the second nearest on the own camera does not stand
# out at all, or hardly (it reached 0.08) and the nearest on another camera is alone there.
LEAST_SECOND_EXCESS = 0.1
SEED = 0  # of the anchors, so that the same matches give the same choice


@dataclass(frozen=True)
class CameraEvidence:
    """What the nearest sightings say of the number of images that people have on a camera.

    Attributes:
        images_on_camera: 1, 2, or 3 for three and more; None where too few sightings were compared.
        excess: of the nearest on the own camera over the second nearest on another one, in deviations of the scores of
            a camera: how much further it stands out than normal numbers would, mean over the anchors.
        excess_low: lower end of its 95 per cent confidence interval.
        excess_high: upper end.
        second_excess: mean of the same of the second nearest over the third nearest on another camera.
        match_excess: mean of the same of the nearest over the second nearest, both on another camera. With one image
            the nearest is the only match there, and it is above 0.
        anchors: A.
    """

    images_on_camera: int | None = None
    excess: float | None = None
    excess_low: float | None = None
    excess_high: float | None = None
    second_excess: float | None = None
    match_excess: float | None = None
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
    own = camids[anchors]
    other = np.array([rng.choice([camid for camid in large if camid != camera]) for camera in own])
    nearest = _stand_out(anchors, own, on_camera, [1, 2], distances_of)
    on_other = _stand_out(anchors, other, on_camera, [1, 2, 3], distances_of)
    differences = np.column_stack([nearest - on_other[:, 1:], on_other[:, 0] - on_other[:, 1]])
    excess, second_excess, match_excess = differences.mean(axis=0).tolist()
    margin = DEVIATIONS * float(differences[:, 0].std()) / float(np.sqrt(len(anchors)))
    stands_alone = match_excess > 0 and second_excess <= LEAST_SECOND_EXCESS
    if excess - margin <= LEAST_EXCESS and (stands_alone or second_excess <= 0):
        images = 1
    else:
        images = 2 if second_excess <= THIRD * excess else 3
    return CameraEvidence(images, excess, excess - margin, excess + margin, second_excess, match_excess, len(anchors))


def _stand_out(
    anchors: NDArray[np.integer],
    cameras: NDArray[np.integer],
    on_camera: Mapping[int, NDArray[np.integer]],
    ranks: list[int],
    distances_of: Distances,
) -> NDArray[np.float64]:
    """Return by how much the scores of these ranks on a camera exceed those of normal numbers, [A, ranks].

    Args:
        anchors: whose scores they are, [A].
        cameras: the camera for each anchor, [A].
        on_camera: sightings of each camera. An anchor itself does not count.
        ranks: from 1, the highest.
        distances_of: as of `compare_cameras`.
    """
    excess = np.empty((len(anchors), len(ranks)))
    for camera in np.unique(cameras).tolist():
        sightings = on_camera[camera][: MOST_ON_CAMERA + 1]
        chosen = np.flatnonzero(cameras == camera)
        for start in range(0, len(chosen), ANCHORS_AT_ONCE):
            rows = chosen[start : start + ANCHORS_AT_ONCE]
            pairs = np.tile(anchors[rows], len(sightings)), np.repeat(sightings, len(rows))
            distances = distances_of(*pairs).reshape(len(sightings), len(rows)).T
            for row, of_anchor in zip(rows, distances, strict=True):
                excess[row] = _exceed_normal(of_anchor[sightings != anchors[row]][:MOST_ON_CAMERA], ranks)
    return excess


def _exceed_normal(distances: NDArray[np.float32], ranks: list[int]) -> NDArray[np.float64]:
    """Return by how much the scores of these ranks exceed those of normal numbers.

    Scores are logits less their median, in root mean squares of those above it.
    """
    scores = -logit(np.clip(distances.astype(np.float64), 1e-7, 1 - 1e-7))
    above = np.sort(scores - np.median(scores))[::-1]
    deviation = np.sqrt(np.mean(np.square(above[above > 0]))) if above[0] > 0 else 1.0
    count, rank = len(scores), np.array(ranks)
    expected = ndtri((count - rank + 1 - 0.375) / (count + 0.25))  # of the rank-th largest (Blom, 1958)
    result: NDArray[np.float64] = above[rank - 1] / deviation - expected
    return result
