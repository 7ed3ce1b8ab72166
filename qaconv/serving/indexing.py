"""Choose landmarks, and compute the vectors of sightings, of one target at a time.

A gallery has landmarks once it has FEWEST sightings. They are chosen again when it has grown GROWTH times, or an eighth
of them was deleted. All vectors of the new set are computed from disk, a batch in a transaction, while searches rank by
the old set; a killed process goes on with the next batch.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from qaconv.runtime.model import ServedModel
from qaconv.runtime.quantise import Codes
from qaconv.runtime.shortlist import LANDMARKS, Landmarks
from qaconv.serving.gallery import Gallery
from qaconv.serving.storage import Records
from qaconv.serving.vector_store import LandmarkSet, VectorStore

log = logging.getLogger(__name__)

FEWEST = 2048  # sightings of a gallery with landmarks; fewer are all matched in full
GROWTH = 4
MOST_DELETED = LANDMARKS // 8
BATCH = 64  # sightings, in a transaction
MOST_READ = 4096  # vectors of other workers that are read at a time
MOST_NEW = 2048  # sightings without a vector, which each search matches in full; more have to wait for vectors


class Indexing:
    """Landmarks and vectors of all galleries.

    Args:
        records: the sightings.
        pause: called between two batches with the seconds that the last one took; waits while others need the CPU.
    """

    def __init__(self, records: Records, pause: Callable[[float], None]) -> None:
        self._records = records
        self._store = VectorStore(records)
        self._pause = pause
        self._adding = threading.Lock()  # of a batch, so that no two threads compute the same one

    def load(self, model: ServedModel, target: str, gallery: Gallery) -> None:
        """Give a gallery the vectors on disk of the last complete set, if there is one."""
        if complete := [one for one in self._store.sets(digest_matching(model), target) if one.complete]:
            self._use(model, complete[-1], gallery)

    def read(self, model: ServedModel, target: str, gallery: Gallery) -> None:
        """Give a gallery the landmarks and vectors that other workers have stored."""
        complete = [one for one in self._store.sets(digest_matching(model), target) if one.complete]
        if complete and complete[-1].number != gallery.landmark_set:
            self._use(model, complete[-1], gallery)
        elif gallery.landmarks is not None and (ids := gallery.without_vector(MOST_READ)):
            number = gallery.landmark_set
            gallery.add_vectors(number, *self._store.find(number, ids))

    def prepare(self, model: ServedModel, target: str) -> None:
        """Compute on disk the vectors of a version that does not answer yet."""
        ids = self._store.ids(model.encoder_digest, target)
        if len(ids) >= FEWEST and not any(one.complete for one in self._store.sets(digest_matching(model), target)):
            self._complete(model, target, ids)

    def update(self, model: ServedModel, target: str, gallery: Gallery) -> None:
        """Choose landmarks if it is time to, and compute the vectors that the gallery lacks."""
        complete = [one for one in self._store.sets(digest_matching(model), target) if one.complete]
        if len(gallery) >= FEWEST and (not complete or _is_outdated(complete[-1], gallery)):
            number = self._complete(model, target, gallery.ids(), gallery)
            if number is None:
                return
            self._store.mark_older(number, digest_matching(model), target)
            self._store.forget_marked()
        while self.add_some(model, gallery):
            pass

    def add_some(self, model: ServedModel, gallery: Gallery) -> int:
        """Compute up to BATCH vectors that a gallery lacks, and return their number."""
        began = time.perf_counter()
        with self._adding:
            number, landmarks = gallery.landmark_set, gallery.landmarks
            ids = gallery.without_vector(BATCH) if landmarks is not None else []
            if landmarks is not None and ids:
                positions, maps = gallery.maps.take(ids)
                ids = [ids[position] for position in positions]
                vectors = landmarks.weigh(maps)
                self._store.add(number, ids, vectors)
                gallery.add_vectors(number, ids, vectors)
        if ids and gallery.count_without_vector() < MOST_NEW:
            self._pause(time.perf_counter() - began)
        return len(ids)

    def keep_up(self, model: ServedModel, gallery: Gallery, enrolled: int) -> None:
        """Compute as many vectors as were enrolled, in the caller's thread, if MOST_NEW sightings have none."""
        while enrolled > 0 and gallery.landmarks is not None and gallery.count_without_vector() >= MOST_NEW:
            enrolled -= self.add_some(model, gallery) or enrolled

    def keep_only(self, model: ServedModel) -> None:
        """Delete the sets of other versions."""
        self._store.mark_unused(digest_matching(model))
        self._store.forget_marked()

    def forget_marked(self) -> None:
        """Delete sets whose deletion was interrupted."""
        self._store.forget_marked()

    def _complete(
        self, model: ServedModel, target: str, ids: NDArray[np.int64], gallery: Gallery | None = None
    ) -> int | None:
        """Compute a set of landmarks and the vectors of sightings, let a gallery use them, and return the number.

        Give up if the set is deleted meanwhile, as after another version began to answer.
        """
        one = self._unfinished(model, target) or self._choose(model, target, ids)
        chosen, landmarks = self._landmarks(model, one)
        missing = np.setdiff1d(ids, self._store.load(one.number)[0])
        log.info("%s: computes %d vectors of %d landmarks", target, len(missing), len(landmarks))
        for start in range(0, len(missing), BATCH):
            began = time.perf_counter()
            batch, maps = self._read(model, missing[start : start + BATCH].tolist())
            self._store.add(one.number, batch, landmarks.weigh(maps))
            if (left := self._store.landmarks(one.number)) != chosen:  # one was deleted
                if not left:
                    return None
                chosen, landmarks = self._landmarks(model, one)
            if gallery is None or gallery.landmarks is not None:  # else each search matches all in full
                self._pause(time.perf_counter() - began)
            if gallery is not None:
                self.add_some(model, gallery)
        self._store.complete(one.number)
        if gallery is not None:
            self._use(model, one, gallery)
        return one.number

    def _unfinished(self, model: ServedModel, target: str) -> LandmarkSet | None:
        """Return a set that a killed process began, if most of its landmarks are left."""
        for one in self._store.sets(digest_matching(model), target):
            if not one.complete and len(self._store.landmarks(one.number)) >= LANDMARKS - MOST_DELETED:
                return one
        return None

    def _choose(self, model: ServedModel, target: str, ids: NDArray[np.int64]) -> LandmarkSet:
        chosen = np.sort(np.random.default_rng(len(ids)).choice(ids, LANDMARKS, replace=False))
        landmarks, maps = self._read(model, chosen.tolist())
        mean = Landmarks(model.matcher, maps).mean
        return self._store.begin(digest_matching(model), target, landmarks, mean, len(ids))

    def _use(self, model: ServedModel, one: LandmarkSet, gallery: Gallery) -> None:
        chosen, landmarks = self._landmarks(model, one)
        by_position = [chosen.get(position, 0) for position in range(LANDMARKS)]
        gallery.use_landmarks(one.number, landmarks, by_position, *self._store.load(one.number))
        if deleted := set(chosen.values()) - set(self._store.landmarks(one.number).values()):  # meanwhile
            gallery.remove(sorted(deleted))

    def _landmarks(self, model: ServedModel, one: LandmarkSet) -> tuple[dict[int, int], Landmarks]:
        """Return the landmarks' sightings by position, and what they make of maps."""
        chosen = self._store.landmarks(one.number)
        position_of = {sighting: position for position, sighting in chosen.items()}
        ids, maps = self._read(model, list(position_of))
        positions = np.array([position_of[sighting] for sighting in ids], dtype=np.int64)
        return chosen, Landmarks(model.matcher, maps, positions, one.mean)

    def _read(self, model: ServedModel, ids: Sequence[int]) -> tuple[list[int], Codes]:
        return self._records.maps_of(ids, model.encoder_digest, model.map_shape)


def digest_matching(model: ServedModel) -> str:
    """Return what vectors depend on: the digest of the encoder and the head."""
    return sha256((model.encoder_digest + model.contract.head.model_dump_json()).encode()).hexdigest()


def _is_outdated(chosen: LandmarkSet, gallery: Gallery) -> bool:
    left = len(gallery.landmarks) if gallery.landmarks is not None else 0
    return len(gallery) >= GROWTH * chosen.chosen_from or left < LANDMARKS - MOST_DELETED
