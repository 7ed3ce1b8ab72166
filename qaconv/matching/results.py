"""Read and write the maps, logits and neighbours that the stages features, match and rerank make of a target.

N sightings: Q queries, then a gallery of G. M of them are measured (`is_measured` of qaconv/data/manifest.py), of which
P are queries. A part is a share of the sightings, one part after another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file
from scipy.special import expit, logit

from qaconv.errors import InputError
from qaconv.matching import MapStore
from qaconv.matching.rerank import Neighbourhoods
from qaconv.models.checkpoint import weights_digest
from qaconv.paths import FEATURES, MATCHES, MODELS, PREPARED, RERANKED

NEIGHBOURS = 100  # of each sighting: more than any person's sightings on the other cameras
LOGIT_SCALE = 10.0  # of the probabilities that distances are made of, as the authors' first release shows them
DRAWN = 2_000_000  # pairs of a query and a gallery image, at most
SEED = 0  # of the draw, so that the same matches give the same profile
NEAR = [field.name for field in fields(Neighbourhoods)]
MEASURED = "without_junk."  # before the names of arrays among the measured; not written where all are measured


def open_maps(target: str, method: str, images: pd.Series) -> MapStore:
    """Open the maps that the stage features has written.

    Raises:
        InputError: they are of other images or of another network.
    """
    folder = FEATURES / target / method
    store = MapStore(folder, model=weights_digest(MODELS / method))
    if store.ids.tolist() != images.tolist():
        raise InputError(f"{folder}: holds maps of other images than {PREPARED / target}; run `dvc repro`")
    return store


@dataclass(frozen=True)
class Part:
    """Logits and neighbours of some sightings, matched with all.

    Attributes:
        logits: logits of the queries among them, float32 [q, G].
        everything: neighbourhoods among all sightings.
        measured: neighbourhoods among the measured sightings, numbered without the others.
        model: digest of the weights that made the maps.
    """

    logits: NDArray[np.float32]
    everything: Neighbourhoods
    measured: Neighbourhoods
    model: str

    def save(self, path: Path) -> None:
        """Write a new file."""
        arrays = {"logits": self.logits, **vars(self.everything)}
        if self.measured is not self.everything:
            arrays |= {MEASURED + name: array for name, array in vars(self.measured).items()}
        _save(path, arrays, self.model)


def share(sightings: int, part: int, parts: int) -> slice:
    """Return the rows of a part, 1..parts; the parts differ by one sighting at most."""
    return slice(sightings * (part - 1) // parts, sightings * part // parts)


def load_parts(target: str, method: str, parts: Sequence[int]) -> Part:
    """Load the parts of all sightings and join them.

    Raises:
        InputError: a part is missing, was made with another network, or is not one of `parts`.
    """
    folder = MATCHES / target
    paths = [folder / str(part) / f"{method}.safetensors" for part in parts]
    if missing := [path for path in paths if not path.is_file()]:
        raise InputError(f"{missing[0]} does not exist; `dvc repro match` writes it")
    if strays := sorted({path.name for path in folder.iterdir()} - {str(part) for part in parts}):
        raise InputError(
            f"{folder / strays[0]}: is of another split than evaluate.parts in params.yaml, {list(parts)}; remove it"
        )
    arrays, models = zip(*map(_load, paths), strict=True)
    if len(set(models)) > 1:
        raise InputError(f"{folder}: its parts were made with different networks; run `dvc repro match`")
    joined = {name: np.concatenate([part[name] for part in arrays]) for name in arrays[0]}
    everything = measured = Neighbourhoods(*(joined[name] for name in NEAR))
    if MEASURED + NEAR[0] in joined:
        measured = Neighbourhoods(*(joined[MEASURED + name] for name in NEAR))
    return Part(joined["logits"], everything, measured, models[0])


@dataclass(frozen=True)
class Matches:
    """Appearance scores of the sightings.

    Attributes:
        logits: float32 [Q, G].
        reranked: 1 - the re-ranked distance, float32 [Q, G]; no pid has a part in it.
        reranked_measured: the same as if only the measured sightings existed, float32 [P, M - P].
        neighbours: each sighting's nearest others, best first, int64 [N, k].
        neighbour_logits: logits with them, float64 [N, k].
        model: digest of the weights that made the maps.
    """

    logits: NDArray[np.float32]
    reranked: NDArray[np.float32]
    reranked_measured: NDArray[np.float32]
    neighbours: NDArray[np.int64]
    neighbour_logits: NDArray[np.float64]
    model: str

    @classmethod
    def load(cls, target: str, method: str, parts: Sequence[int]) -> "Matches":
        """Load what the stages have written.

        Raises:
            InputError: a stage has not run, or ran for another network.
        """
        path = RERANKED / target / f"{method}.safetensors"
        if not path.is_file():
            raise InputError(f"{path} does not exist; `dvc repro rerank@{target}` writes it")
        matched, (reranked, model) = load_parts(target, method, parts), _load(path)
        if model != matched.model:
            raise InputError(f"{path}: is of another network than {MATCHES / target}; run `dvc repro rerank`")
        return cls.join(matched, reranked["scores"], reranked.get(MEASURED + "scores"))

    @classmethod
    def join(
        cls, matched: Part, reranked: NDArray[np.float32], reranked_measured: NDArray[np.float32] | None
    ) -> "Matches":
        """Join the matches of all sightings with what `rerank_target` returns for them."""
        measured = reranked if reranked_measured is None else reranked_measured
        return cls(matched.logits, reranked, measured, *_others(matched.everything), matched.model)

    def draw_pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Draw pairs of a query and a gallery image: numbers of both sightings, and their scores in [0, 1], [S] each.

        All pairs are returned where there are at most DRAWN.
        """
        if self.logits.size > DRAWN:
            drawn = np.random.default_rng(SEED).integers(self.logits.size, size=DRAWN)
        else:
            drawn = np.arange(self.logits.size)
        query, gallery = np.divmod(drawn, max(1, self.logits.shape[1]))
        return query, len(self.logits) + gallery, expit(self.logits.ravel()[drawn].astype(np.float64))

    def nearest_reranked(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return each query's best gallery images and their re-ranked scores, both [N, k]; NaN for the gallery."""
        queries, width = len(self.reranked), min(NEIGHBOURS, self.reranked.shape[1])
        indices = np.zeros((len(self.neighbours), width), np.int64)
        scores = np.full((len(self.neighbours), width), np.nan)
        best = np.argsort(-self.reranked, axis=1, kind="stable")[:, :width]
        indices[:queries] = queries + best
        scores[:queries] = np.take_along_axis(self.reranked, best, axis=1)
        return indices, scores


def save_reranked(path: Path, scores: NDArray[np.float32], measured: NDArray[np.float32] | None, model: str) -> None:
    """Write a new file; `measured` is None where all sightings are measured."""
    arrays = {"scores": scores} if measured is None else {"scores": scores, MEASURED + "scores": measured}
    _save(path, arrays, model)


def as_distances(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1 - sigmoid(logit / LOGIT_SCALE), to full precision where it is small.

    SciPy's gives a value the same bits at each position; torch's differ between a row's end and its middle.
    """
    distances: NDArray[np.float32] = expit(logits / -LOGIT_SCALE)
    return distances


def _save(path: Path, arrays: dict[str, NDArray[Any]], model: str) -> None:
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path, metadata={"model": model})


def _load(path: Path) -> tuple[dict[str, NDArray[Any]], str]:
    with safe_open(path, "numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()["model"]  # noqa: SIM118


def _others(near: Neighbourhoods) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return each image's nearest except itself, and their logits, both [N, k]."""
    others = near.indices != np.arange(len(near.indices))[:, None]
    others[others.all(axis=1), -1] = False
    shape = (len(others), others.shape[1] - 1)
    return near.indices[others].reshape(shape), -LOGIT_SCALE * logit(near.distances[others].reshape(shape))
