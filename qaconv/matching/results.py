"""Read and write the maps, logits and neighbours that the stages features, match and rerank make of a target.

N sightings: Q queries, then a gallery of G. M of them are measured (`is_measured` of qaconv/data/manifest.py), of which
P are queries. Tables [Q, G] stay on disk, and are read some rows at a time.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file
from scipy.special import expit, logit

from qaconv.config.kinds import RerankSettings
from qaconv.errors import InputError
from qaconv.files import write_json
from qaconv.matching import MapStore
from qaconv.matching.rerank import Neighbourhoods
from qaconv.models.description import weights_digest
from qaconv.paths import FEATURES, MATCHES, MODELS, PREPARED, RERANKED
from qaconv.tables import ComputedTable, Rows, Table, best_columns, open_table, row_blocks, save_table, take

NEIGHBOURS = 100  # of each sighting: more than any person's sightings on the other cameras
LOGIT_SCALE = 10.0  # of the probabilities that distances are made of, as the authors' first release shows them
DRAWN = 2_000_000  # pairs of a query and a gallery image, at most
BLOCK_NEIGHBOURS = 1 << 20  # that are read at a time
RERANKED_PAIRS = 2_000_000  # of queries and their best gallery images, at most
SEED = 0  # of the draws, so that the same matches give the same profile
NEAR = [field.name for field in fields(Neighbourhoods)]
MEASURED = "without_junk."  # before the names of arrays among the measured; not written where all are measured
FACTS = "facts"  # key of the metadata of NEAREST
NEAREST = "nearest.safetensors"  # in the folder of a method's matches, next to tiles of logits
SCORES, MODEL, CHOICE = "scores.npy", "model.txt", "choice.json"  # in the folder of a method's re-ranked scores


class Grid(NamedTuple):
    """Blocks of the sightings, and with them tiles of the logits of queries and gallery.

    Attributes:
        queries: number of queries, Q.
        sightings: number of sightings, N.
        size: number of sightings of a block; the last one may be smaller.
    """

    queries: int
    sightings: int
    size: int

    @property
    def blocks(self) -> list[slice]:
        """Return the sightings of each block."""
        starts = range(0, self.sightings, self.size)
        return [slice(start, min(start + self.size, self.sightings)) for start in starts]

    def pair(self, rows: slice, columns: slice) -> tuple[int, int]:
        """Return the numbers of two blocks."""
        return rows.start // self.size, columns.start // self.size

    def tile(self, folder: Path, pair: tuple[int, int]) -> Path:
        """Return the path of the logits of one block's queries with another block's gallery images."""
        return folder / f"{pair[0]}-{pair[1]}.npy"

    def open(self, folder: Path) -> Table:
        """Return the logits [Q, G] that a folder's tiles hold."""
        shape = (self.queries, self.sightings - self.queries)

        def read(rows: Rows) -> NDArray[np.float32]:
            numbers = np.arange(self.queries)[rows]
            logits = np.empty((len(numbers), shape[1]), dtype=np.float32)
            for row in np.unique(numbers // self.size).tolist():
                positions = np.flatnonzero(numbers // self.size == row)
                for column in range(self.queries // self.size, len(self.blocks) if shape[1] else 0):
                    first = max(0, column * self.size - self.queries)
                    tile = np.load(self.tile(folder, (row, column)), mmap_mode="r")
                    logits[positions, first : first + tile.shape[1]] = tile[numbers[positions] - row * self.size]
            return logits

        return ComputedTable(shape, np.dtype(np.float32), read)


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
class Matched:
    """Logits and neighbours of all sightings, as the stage match writes them.

    Attributes:
        logits: logits of queries and gallery, float32 [Q, G].
        everything: neighbourhoods among all sightings.
        measured: neighbourhoods among the measured sightings, numbered without the others.
        model: digest of the weights that made the maps.
    """

    logits: Table
    everything: Neighbourhoods
    measured: Neighbourhoods
    model: str

    @classmethod
    def load(cls, target: str, method: str) -> "Matched":
        """Load what the stage match has written.

        Raises:
            InputError: it has not run.
        """
        return cls.open(MATCHES / target / method, f"match@{target}")

    @classmethod
    def open(cls, folder: Path, stage: str = "match") -> "Matched":
        """Open a folder of `save_matches`.

        Args:
            folder: of one method.
            stage: that writes it, for the message.

        Raises:
            InputError: it holds no matches.
        """
        path, facts, names = _read_facts(folder, stage)
        with safe_open(path, "numpy") as file:
            everything = measured = Neighbourhoods(*(file.get_tensor(name) for name in NEAR))
            if MEASURED + NEAR[0] in names:
                measured = Neighbourhoods(*(file.get_tensor(MEASURED + name) for name in NEAR))
        return cls(_grid(facts).open(folder), everything, measured, facts["model"])


@dataclass(frozen=True)
class Matches:
    """Appearance scores of the sightings.

    Attributes:
        logits: float32 [Q, G].
        reranked: 1 - the re-ranked distance, float32 [Q, G]; no pid has a part in it.
        reranked_measured: the same as if only the measured sightings existed, float32 [P, M - P].
        neighbours: each sighting's nearest others, best first, int64 [N, k]; `[:]` reads all rows.
        neighbour_logits: logits with them, float64 [N, k].
        model: digest of the weights that made the maps.
        choice: how the gallery is re-ranked: `reranker` has the settings, None where the direct ranking is kept, and
            the other entries say what they were chosen by.
    """

    logits: Table
    reranked: Table
    reranked_measured: Table
    neighbours: Table
    neighbour_logits: Table
    model: str
    choice: dict[str, Any]

    @classmethod
    def load(cls, target: str, method: str) -> "Matches":
        """Load what the stages have written.

        Raises:
            InputError: a stage has not run, or ran for another network.
        """
        return cls.open(MATCHES / target / method, RERANKED / target / method, target)

    @classmethod
    def open(cls, matched_folder: Path, reranked_folder: Path, target: str) -> "Matches":
        """Open the folders of one method that `save_matches` and `save_reranked` have written.

        Raises:
            InputError: one of them is missing, or they are of two networks.
        """
        for name in (MODEL, CHOICE):
            if not (reranked_folder / name).is_file():
                raise InputError(f"{reranked_folder / name} does not exist; `dvc repro rerank@{target}` writes it")
        path, facts, _ = _read_facts(matched_folder, f"match@{target}")
        if (reranked_folder / MODEL).read_text(encoding="utf-8") != facts["model"]:
            raise InputError(f"{reranked_folder}: is of another network than {matched_folder}; run `dvc repro rerank`")
        scores = open_table(reranked_folder / SCORES)
        measured = reranked_folder / (MEASURED + SCORES)
        scores_of_measured = open_table(measured) if measured.is_file() else scores
        choice = json.loads((reranked_folder / CHOICE).read_text(encoding="utf-8"))
        logits = _grid(facts).open(matched_folder)
        return cls(logits, scores, scores_of_measured, *_open_others(path), facts["model"], choice)

    def draw_pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Draw pairs of a query and a gallery image: numbers of both sightings, and their scores in [0, 1], [S] each.

        All pairs are returned where there are at most DRAWN.
        """
        queries, gallery = self.logits.shape
        if queries * gallery > DRAWN:
            drawn = np.random.default_rng(SEED).integers(queries * gallery, size=DRAWN)
        else:
            drawn = np.arange(queries * gallery)
        row, column = np.divmod(drawn, max(1, gallery))
        return row, queries + column, expit(take(self.logits, row, column).astype(np.float64))

    def nearest_reranked(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return pairs of a query and its best gallery images: numbers of both, and the re-ranked scores, [S] each.

        They are of all queries, or where these have more than RERANKED_PAIRS pairs, of as many drawn ones.
        """
        queries, gallery = self.reranked.shape
        width = min(NEIGHBOURS, gallery)
        drawn = np.arange(queries)
        if queries * width > RERANKED_PAIRS:
            drawn = np.sort(np.random.default_rng(SEED).permutation(queries)[: RERANKED_PAIRS // width])
        best = np.zeros((len(drawn), width), np.int64)
        scores = np.zeros((len(drawn), width))
        for part in row_blocks((len(drawn), gallery)):
            for row, its_scores in zip(range(part.start, part.stop), self.reranked[drawn[part]], strict=True):
                best[row] = best_columns(its_scores, width)
                scores[row] = its_scores[best[row]]
        return np.repeat(drawn, width), queries + best.ravel(), scores.ravel()


def save_matches(folder: Path, nearest: dict[str, NDArray[Any]], grid: Grid, model: str) -> None:
    """Write the neighbourhoods into a new folder that has the tiles of logits already.

    Args:
        folder: of one method.
        nearest: arrays of `Neighbourhoods` by name; those among the measured have MEASURED before their name.
        grid: of the tiles.
        model: digest of the network's weights.
    """
    facts = json.dumps({"model": model, **grid._asdict()})
    save_file(nearest, folder / NEAREST, metadata={FACTS: facts})  # of several keys the order would be random


def save_reranked(
    folder: Path,
    scores: Table,
    measured: Table | None,
    model: str,
    reranker: RerankSettings | None,
    facts: Mapping[str, Any],
) -> None:
    """Write a new folder; `measured` is None where all sightings are measured.

    Args:
        folder: of one method.
        scores: re-ranked, [Q, G].
        measured: the same among the measured sightings.
        model: digest of the network's weights.
        reranker: as `RerankSettings.choose` returns it.
        facts: that it was chosen by.
    """
    save_table(folder / SCORES, scores)
    if measured is not None:
        save_table(folder / (MEASURED + SCORES), measured)
    (folder / MODEL).write_text(model, encoding="utf-8")
    write_json(folder / CHOICE, {"reranker": reranker and reranker.model_dump(), **facts})


def as_distances(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1 - sigmoid(logit / LOGIT_SCALE), to full precision where it is small.

    SciPy's gives a value the same bits at each position; torch's differ between a row's end and its middle.
    """
    distances: NDArray[np.float32] = expit(logits / -LOGIT_SCALE)
    return distances


def _read_facts(folder: Path, stage: str) -> tuple[Path, dict[str, Any], set[str]]:
    """Return the file of neighbourhoods in a folder of `save_matches`, its facts, and the names of its arrays.

    Raises:
        InputError: there is none.
    """
    path = folder / NEAREST
    if not path.is_file():
        raise InputError(f"{path} does not exist; `dvc repro {stage}` writes it")
    with safe_open(path, "numpy") as file:
        return path, json.loads(file.metadata()[FACTS]), set(file.keys())


def _grid(facts: Mapping[str, Any]) -> Grid:
    return Grid(*(facts[name] for name in Grid._fields))


def nearest_others(
    indices: NDArray[np.integer], distances: NDArray[np.floating], images: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return images' nearest except themselves, best first, and their logits, both [n, K - 1].

    Args:
        indices: nearest of each image, itself among them, [n, K].
        distances: to them, of `as_distances`, [n, K].
        images: numbers of the images, [n].
    """
    others = indices != images[:, None]
    others[others.all(axis=1), -1] = False
    shape = (len(others), others.shape[1] - 1)
    logits = -LOGIT_SCALE * logit(distances[others].reshape(shape).astype(np.float64))
    return indices[others].reshape(shape).astype(np.int64), logits


def _open_others(path: Path) -> tuple[Table, Table]:
    """Return tables [N, k] of what `nearest_others` returns of all images of a file of neighbourhoods."""
    with safe_open(path, "numpy") as file:
        count, width = file.get_slice(NEAR[0]).get_shape()
    shape = (count, width - 1)

    def read(rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        numbers = np.arange(count)[rows]
        neighbours, logits = np.empty((len(numbers), width - 1), np.int64), np.empty((len(numbers), width - 1))
        with safe_open(path, "numpy") as file:
            indices, distances = (file.get_slice(name) for name in NEAR[:2])
            for block in row_blocks((count, width), BLOCK_NEIGHBOURS):
                chosen = np.flatnonzero((numbers >= block.start) & (numbers < block.stop))
                if len(chosen):
                    inside = numbers[chosen] - block.start
                    near = indices[block.start : block.stop][inside], distances[block.start : block.stop][inside]
                    neighbours[chosen], logits[chosen] = nearest_others(*near, numbers[chosen])
        return neighbours, logits

    return (
        ComputedTable(shape, np.dtype(np.int64), lambda rows: read(rows)[0]),
        ComputedTable(shape, np.dtype(np.float64), lambda rows: read(rows)[1]),
    )
