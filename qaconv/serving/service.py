"""Crops go in, to be kept or to be asked about; ranked sightings and why come out, by the model in charge.

Each method may be called from any thread. A sighting is on disk before it can be found.
"""

import logging
import os
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qaconv.config import ServeConfig
from qaconv.errors import InputError
from qaconv.runtime.correspondences import Correspondence, correspondences
from qaconv.runtime.crops import read_crop
from qaconv.runtime.model import ServedModel
from qaconv.serving.gallery import Filter, Gallery, sighting_bytes
from qaconv.serving.messages import Answer, Match, NewSighting, Query
from qaconv.serving.storage import Records, Sighting

log = logging.getLogger(__name__)

BATCH = 16  # crops encoded by one thread at a time: the fastest, and a search waits for no more than that
DAY_S = 86_400


class NotFound(LookupError):
    """A target, a camera or a sighting that is not there."""


class Full(RuntimeError):
    """`serve.memory_mb` holds no more sightings."""


@dataclass(frozen=True)
class InCharge:
    """The version that answers, and its galleries by target."""

    version: str
    model: ServedModel
    galleries: dict[str, Gallery]
    capacity: int  # sightings in all


class Service:
    """Galleries per target behind one model.

    Args:
        records: what is on disk.
        settings: memory, shortlist and retention.
        version: the model's.
        model: answers until `take_up` has another ready.
    """

    def __init__(self, records: Records, settings: ServeConfig, version: str, model: ServedModel) -> None:
        self.records, self.settings = records, settings
        self._pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="model")
        self._unpacking = threading.Lock()  # held by the enrolment whose crops are unpacked
        self._change = threading.Lock()  # held while galleries change; searches do not wait for it
        self.reencoding = False  # whether a model encodes what another one had encoded
        self._encode_missing(model)
        self.in_charge = self._galleries(version, model)

    def enrol(self, target: str, sightings: Sequence[NewSighting]) -> list[int]:
        """Stores sightings, all or none, and gives their ids.

        Raises:
            NotFound: no such target or camera.
            InputError: an image is refused.
            Full: there is no room.
        """
        answering, _ = self._of(target)
        self._check_cameras(answering.model, target, [new.camid for new in sightings])
        self._check_room(answering, len(sightings))
        maps = self._encode_to_keep(answering.model, sightings)
        now = time.time()
        rows = [(target, new.camid, new.time_s, new.person, now, new.image) for new in sightings]
        with self._change:
            current, gallery = self._of(target)
            if current.model.encoder_digest != answering.model.encoder_digest:  # it changed hands in the meantime
                maps = self._encode_to_keep(current.model, sightings)
            self._check_room(current, len(sightings))
            ids = self.records.add(rows, current.model.encoder_digest, maps)
            stored = [Sighting(at, *row[:-1]) for at, row in zip(ids, rows, strict=True)]
            gallery.add(stored, maps)
        return ids

    def search(
        self, target: str, queries: Sequence[Query], only: Filter, top_k: int, threshold: float | None = None
    ) -> Answer:
        """Each query's `top_k` best sightings, never the query itself; matches above a probability, or the model's own.

        Raises:
            NotFound: no such target, camera or sighting.
            InputError: an image is refused.
        """
        answering, gallery = self._of(target)
        resolved = [self._resolve(target, query) for query in queries]
        self._check_cameras(answering.model, target, [query.camid for query in resolved if query.camid is not None])
        maps = self._query_maps(answering.model, resolved)
        if threshold is None:
            threshold = answering.model.threshold
        tasks = [
            self._pool.submit(self._rank, answering.model, gallery, target, query, of, only, top_k, threshold)
            for query, of in zip(resolved, maps, strict=True)
        ]
        return Answer(answering.version, threshold, [task.result() for task in tasks])

    def explain(self, target: str, query: Query, sighting: int, limit: int) -> list[Correspondence]:
        """The correspondences of a query and a sighting that move the logit most.

        Raises:
            NotFound: no such target or sighting.
            InputError: the image is refused.
        """
        answering, _ = self._of(target)
        other = self._resolve(target, Query(sighting=sighting))
        query_map, gallery_map = self._query_maps(answering.model, [self._resolve(target, query), other])
        return correspondences(query_map, gallery_map, answering.model.head, limit)

    def sighting(self, target: str, sighting: int) -> Sighting:
        """One sighting.

        Raises:
            NotFound: the target has none of that id.
        """
        found = self.records.find(sighting)
        if found is None or found.target != target:
            raise NotFound(f"{target} has no sighting {sighting}")
        return found

    def crop(self, target: str, sighting: int) -> bytes:
        """The image file of one sighting.

        Raises:
            NotFound: the target has none of that id.
        """
        self.sighting(target, sighting)
        crop = self.records.crop(sighting)
        if crop is None:  # deleted since
            raise NotFound(f"{target} has no sighting {sighting}")
        return crop

    def page(self, target: str, after: int, limit: int) -> list[Sighting]:
        """Up to `limit` sightings with ids above `after`, in the order of enrolment.

        Raises:
            NotFound: no such target.
        """
        self._of(target)
        return self.records.page(target, after, limit)

    def delete_person(self, target: str, person: str) -> int:
        """Overwrites what was enrolled as this person, and gives the number of sightings.

        Raises:
            NotFound: no such target.
        """
        self._of(target)
        return self.delete(target, self.records.of_person(target, person))

    def delete(self, target: str, ids: Sequence[int]) -> int:
        """Overwrites sightings on disk and in memory, and gives their number."""
        with self._change:
            self.records.delete(ids)
            self._of(target)[1].remove(ids)
        return len(ids)

    def delete_expired(self) -> int:
        """Deletes what is older than its target's retention, and gives the number."""
        deleted = 0
        for target, days in self.settings.retention_days.items():
            if target in self.in_charge.galleries and (
                expired := self.records.older_than(target, time.time() - days * DAY_S)
            ):
                deleted += self.delete(target, expired)
                log.info("%s: deleted %d sightings, kept for %g days", target, len(expired), days)
        return deleted

    def take_up(self, version: str, model: ServedModel) -> None:
        """Puts another version in charge once it has encoded every stored crop; until then the present one answers."""
        self._encode_missing(model)
        with self._change:
            self._encode_missing(model)  # what was enrolled meanwhile: a batch or two
            if model.encoder_digest == self.in_charge.model.encoder_digest and model.targets == list(
                self.in_charge.galleries
            ):
                self.in_charge = InCharge(version, model, self.in_charge.galleries, self.in_charge.capacity)
            else:
                self.in_charge = self._galleries(version, model)
        log.info("version %s answers now", version)

    def _of(self, target: str) -> tuple[InCharge, Gallery]:
        answering = self.in_charge
        if target not in answering.galleries:
            raise NotFound(f"there is no target {target!r}; there are {', '.join(answering.galleries)}")
        return answering, answering.galleries[target]

    def _check_cameras(self, model: ServedModel, target: str, camids: Iterable[int]) -> None:
        known = model.profiles[target].camids
        if unknown := sorted(set(camids) - set(known)):
            raise NotFound(f"camid: {target} has no camera {unknown}; it has {list(known)}")

    def _check_room(self, answering: InCharge, count: int) -> None:
        stored = sum(map(len, answering.galleries.values()))
        if stored + count > answering.capacity:
            raise Full(f"{stored:,} sightings are stored; serve.memory_mb has room for {answering.capacity:,}")

    def _resolve(self, target: str, query: Query) -> Query:
        """A stored sighting's own camera and time, where the query names none."""
        if query.sighting is None:
            return query
        stored = self.sighting(target, query.sighting)
        camid = stored.camid if query.camid is None else query.camid
        return Query(None, stored.id, camid, stored.time_s if query.time_s is None else query.time_s)

    def _query_maps(self, model: ServedModel, queries: Sequence[Query]) -> list[NDArray[np.float32]]:
        """Maps [C, h, w]: the stored ones, and those of new crops, encoded together."""
        encoded = iter(self._encode(model, [query.image for query in queries if query.image is not None]))
        return [
            next(encoded) if query.sighting is None else self._stored_map(model, query.sighting) for query in queries
        ]

    def _stored_map(self, model: ServedModel, sighting: int) -> NDArray[np.float32]:
        found = self.records.map_of(sighting, model.encoder_digest, model.map_shape)
        if found is None:
            raise NotFound(f"there is no sighting {sighting} any more")
        return found

    def _encode_to_keep(self, model: ServedModel, sightings: Sequence[NewSighting]) -> NDArray[np.float16]:
        """Maps as they lie on disk and in memory, so that a search finds the same before and after a restart.

        Enrolments unpack one after the other: at once they would wait for each other, and then end at once as well.
        """
        with self._unpacking:
            tasks = self._submit(model, [new.image for new in sightings])
        return _gather(model, tasks).astype(np.float16)

    def _encode(self, model: ServedModel, images: Sequence[bytes]) -> NDArray[np.float32]:
        """Image files to maps [n, C, h, w]."""
        return _gather(model, self._submit(model, images))

    def _submit(self, model: ServedModel, images: Sequence[bytes]) -> list[Future[NDArray[np.float32]]]:
        """Maps to come, of a batch each: the caller's thread reads a batch while the pool encodes those before."""
        batches = [images[at : at + BATCH] for at in range(0, len(images), BATCH)]
        return [self._pool.submit(model.encode, _read(model, batch)) for batch in batches]

    def _rank(
        self,
        model: ServedModel,
        gallery: Gallery,
        target: str,
        query: Query,
        query_map: NDArray[np.float32],
        only: Filter,
        top_k: int,
        threshold: float,
    ) -> list[Match]:
        found = gallery.search(model, query_map, only, max(self.settings.shortlist, top_k) + 1)
        probability = model.probability(found.logits)
        lifted = None
        if query.camid is not None and query.time_s is not None and len(found.ids):
            lifted = model.lift(target, found.logits[None], [query.camid], [query.time_s], found.camids, found.times)
        ranking = found.logits if lifted is None else lifted[0]
        order = [at for at in np.lexsort((found.ids, -ranking)) if found.ids[at] != query.sighting]
        return [
            Match(
                id=int(found.ids[at]),
                camid=int(found.camids[at]),
                time_s=None if np.isnan(found.times[at]) else float(found.times[at]),
                score=float(found.logits[at]),
                probability=float(probability[at]),
                match=bool(probability[at] > threshold),
                lifted=None if lifted is None else float(lifted[0, at]),
            )
            for at in order[:top_k]
        ]

    def _encode_missing(self, model: ServedModel) -> None:
        """Stored crops that this encoder has made no map of, a batch at a time, so that searches come in between."""
        while lacking := self.records.lacking(model.encoder_digest, BATCH):
            self.reencoding = True
            ids, crops = zip(*lacking, strict=True)
            self.records.add_maps(ids, model.encoder_digest, self._encode(model, crops))
        self.reencoding = False

    def _galleries(self, version: str, model: ServedModel) -> InCharge:
        """Every target's sightings, read from disk.

        Raises:
            InputError: they are more than memory is set to hold.
        """
        # Half of it, as a new model's galleries are filled beside the present ones.
        capacity = self.settings.memory_mb * 2**20 // (2 * sighting_bytes(model.map_shape))
        if (stored := self.records.count()) > capacity:
            raise InputError(f"serve.memory_mb: holds {capacity:,} sightings; {stored:,} are stored")
        galleries = {name: Gallery(capacity, model.map_shape) for name in model.targets}
        for sightings, maps in self.records.with_maps(model.encoder_digest, model.map_shape):
            for name, gallery in galleries.items():
                rows = [at for at, sighting in enumerate(sightings) if sighting.target == name]
                gallery.add([sightings[at] for at in rows], maps[rows])
        return InCharge(version, model, galleries, capacity)


def _read(model: ServedModel, images: Sequence[bytes]) -> NDArray[np.uint8]:
    crops = np.empty((len(images), *model.crop_size, 3), dtype=np.uint8)
    for at, image in enumerate(images):
        crops[at] = read_crop(image, *model.crop_size)
    return crops


def _gather(model: ServedModel, tasks: Sequence[Future[NDArray[np.float32]]]) -> NDArray[np.float32]:
    maps = [task.result() for task in tasks]
    return np.concatenate(maps) if maps else np.empty((0, *model.map_shape), dtype=np.float32)
