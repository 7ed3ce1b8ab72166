"""Enrol, search, explain and delete sightings with the active version.

Every method may be called from any thread. A sighting is on disk before it can be found.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace

import numpy as np

from qaconv.config.operation import ServeConfig
from qaconv.runtime.correspondences import Correspondence, correspondences
from qaconv.runtime.model import ServedModel
from qaconv.serving.active_version import ActiveVersion, gallery_form
from qaconv.serving.clock import Clock
from qaconv.serving.encoding import LULL_S, CropEncoder
from qaconv.serving.identities.identities import Identities
from qaconv.serving.identities.store import IdentityStore
from qaconv.serving.identities.updates import IdentityUpdates
from qaconv.serving.indexing import Indexing
from qaconv.serving.messages import Answer, Enrolled, Limits, NewSighting, Query
from qaconv.serving.places import NotFound, camids_for, number_camera, place_query, place_sightings
from qaconv.serving.recall import RecallSamples
from qaconv.serving.reencoding import Reencoding
from qaconv.serving.reviews.store import ReviewStore
from qaconv.serving.searching import Search, find_maps, find_stored, search_version
from qaconv.serving.storage import DELETED, Records, Sighting

log = logging.getLogger(__name__)

DAY_S = 86_400
HOUR_S = 3600
PAUSES = 9  # length of a pause of work in the background, in pieces of it


class Service:
    """The galleries of all targets, and one model.

    Args:
        records: the sightings on disk.
        settings: memory, shortlist and retention.
        version: the model's number.
        model: answers until another one is ready.

    Attributes:
        changing: held while a worker changes the galleries or the version; searches do not wait for it.
        take_over: lets another version answer, if the workers have agreed on one.
        fill_maps: fetches maps of a version that another machine has made, so that none is made twice.
        reviews: people's answers about pairs of sightings.
        identities: of people.
        clock: dates sightings, answers and changes.
    """

    def __init__(self, records: Records, settings: ServeConfig, version: str, model: ServedModel) -> None:
        self.records = records
        self.settings = settings
        self.reviews = ReviewStore(records)
        self._encoder = CropEncoder()
        self._reencoding = Reencoding(records, self._encoder)
        self.changing = records.lock("changing")
        self.take_over: Callable[[], None] = lambda: None
        self.fill_maps: Callable[[ServedModel], None] = lambda model: None
        self._kept_time_s = records.last_time()
        self.clock = Clock(self._kept_time_s)
        self._searched_s = -LULL_S  # the last search
        self._stopped = threading.Event()
        self.indexing = Indexing(records, self._yield)
        self.recall = RecallSamples(records, settings.shortlist, self._yield)
        with records.lock("encoding"):
            records.convert_old_maps(model.encoder_digest, model.map_shape)
        self._reencoding.encode_missing(model)
        self._active = ActiveVersion.load(
            version, model, records, self.indexing, settings.memory_mb, self.last_sighting()
        )
        self._identity_store = IdentityStore(records)
        updates = IdentityUpdates(
            records,
            self._identity_store,
            self.reviews,
            lambda: self.active,
            self.clock.now,
            lambda: self._encoder.is_enrolling,
            settings.shortlist,
            lambda: self.does_housekeeping,
        )
        self.identities = Identities(records, self._identity_store, updates, lambda: self.active, self.clock.now)
        self._active.report_cameras(self.records)

    @property
    def active(self) -> ActiveVersion:
        """The version that answers, and its galleries, with all changes that any worker has committed."""
        self.take_over()
        self._active.changes.catch_up()
        return self._active

    @active.setter
    def active(self, active: ActiveVersion) -> None:
        self._active = active

    @property
    def does_housekeeping(self) -> bool:
        """Whether this worker is the one that follows the registry, deletes what expires, and updates what is shared.

        It is the first that asks, until it ends.
        """
        return self.records.lock("housekeeping").try_to_keep()

    @property
    def reencoding(self) -> bool:
        """Whether stored crops are being encoded for another model."""
        return self._reencoding.is_running

    def enrol(self, target: str, sightings: Sequence[NewSighting]) -> Enrolled:
        """Store sightings, all or none; those that are stored already are found again.

        Raises:
            NotFound: unknown target or camera.
            InputError: an image is refused, or a camera or a time has another form than in the target's profile.
            Full: there is no room in memory.
            DiskFull: there is none on disk.
        """
        active = self.active
        _, profile = active.find(target)
        images = [sighting.image for sighting in sightings]
        placed = place_sightings(profile, target, sightings, self.clock.now())
        ids = {key: self.records.find_equal(*key) for key in zip(placed, images, strict=True)}
        new = [key for key, known_id in ids.items() if known_id is None]
        active.check_room(len(new))
        new_sightings, new_images = [sighting for sighting, _ in new], [image for _, image in new]
        maps = self._encoder.encode_to_store(active.model, new_images, camids_for(active.model, new_sightings))
        with self.changing:
            current = self.active
            gallery, profile = current.find(target)
            if current.model.encoder_digest != active.model.encoder_digest:  # another version became active meanwhile
                maps = self._encoder.encode_to_store(
                    current.model, new_images, camids_for(current.model, new_sightings)
                )
            ids |= {key: self.records.find_equal(*key) for key in new}  # enrolled meanwhile
            kept = [row for row, key in enumerate(new) if ids[key] is None]
            added = [number_camera(profile, new[row][0]) for row in kept]
            rows = [(*astuple(sighting)[1:], new_images[row]) for row, sighting in zip(kept, added, strict=True)]
            current.check_room(len(rows))
            maps = maps.take(np.array(kept, dtype=np.int64))
            new_ids = self.records.add(rows, current.model.encoder_digest, maps)
            try:
                gallery.maps.put(new_ids, maps)  # first, as catching up removes those of deleted sightings
                current.changes.catch_up()
            except BaseException:  # else they would be found after a restart alone
                self.records.delete(new_ids)
                raise
        self.indexing.keep_up(current.model, gallery, len(rows))
        ids |= {new[row]: new_id for row, new_id in zip(kept, new_ids, strict=True)}
        all_ids = [known_id for key in zip(placed, images, strict=True) if (known_id := ids[key])]
        return Enrolled(all_ids, len(sightings) - len(rows))

    def search(
        self,
        target: str,
        queries: Sequence[Query],
        only: Limits,
        top_k: int,
        threshold: float | None = None,
        even_odds: bool = False,
    ) -> Answer:
        """Find each query's best tracks, and sightings without a track, without the query itself.

        Args:
            target: whose gallery.
            queries: crops or stored sightings.
            only: cameras and times to search.
            top_k: largest number of matches a query.
            threshold: probability above which an answer is a match. Default: the target's, or with even odds the
                model's.
            even_odds: whether to state probabilities at even odds, for people as in training. Default: no.

        Raises:
            NotFound: unknown target, camera or sighting.
            InputError: an image is refused, or a camera or a time has another form than in the target's profile.
        """
        wanted = Search(target, queries, only, top_k, threshold, even_odds)
        while True:
            active = self.active
            answer, sample = search_version(active, self.records, self._encoder, self.settings.shortlist, wanted)
            self._searched_s = time.monotonic()
            self.recall.offer(target, sample)
            # Maps of an encoder are deleted soon after another one answers.
            if self.active.model.encoder_digest == active.model.encoder_digest:
                return answer

    def explain(self, target: str, query: Query, sighting: int, limit: int) -> list[Correspondence]:
        """Find the correspondences of a query and a sighting that change the logit most.

        Raises:
            NotFound: unknown target, camera or sighting.
            InputError: the image is refused, or a camera or a time has another form than in the target's profile.
        """
        active = self.active
        _, profile = active.find(target)
        both = [query, Query(sighting=sighting)]
        stored = [None if one.sighting is None else find_stored(self.records, target, one.sighting) for one in both]
        places = [place_query(profile, *pair) for pair in zip(both, stored, strict=True)]
        (query_map,), (gallery_map,) = find_maps(active, self.records, self._encoder, both, places)
        return correspondences(query_map, gallery_map, active.model.head, limit)

    def sighting(self, target: str, sighting: int) -> Sighting:
        """Return one sighting, with its camera's number in the active version's profile if that has the target.

        Raises:
            NotFound: the target has no such sighting.
        """
        stored = find_stored(self.records, target, sighting)
        profile = self.active.model.profiles.get(target)
        return number_camera(profile, stored) if profile else stored

    def crop(self, target: str, sighting: int) -> bytes:
        """Return the image file of one sighting.

        Raises:
            NotFound: the target has no such sighting.
        """
        find_stored(self.records, target, sighting)
        crop = self.records.crop(sighting)
        if crop is None:  # deleted meanwhile
            raise NotFound(f"{target} has no sighting {sighting}")
        return crop

    def page(self, target: str, after: int, limit: int) -> list[Sighting]:
        """Return up to `limit` sightings with ids above `after`, in the order of enrolment.

        Raises:
            NotFound: unknown target.
        """
        _, profile = self.active.find(target)
        return [number_camera(profile, sighting) for sighting in self.records.page(target, after, limit)]

    def delete_person(self, target: str, person: str) -> int:
        """Overwrite the sightings that were enrolled with this `person`, and return their number.

        The target may be one that the active version has no profile for, if sightings of it are stored.

        Raises:
            NotFound: unknown target.
        """
        ids = self.records.ids_of_person(target, person)
        if not ids:
            self.active.find(target)
        return self.delete(ids)

    def delete(self, ids: Sequence[int]) -> int:
        """Overwrite sightings on disk and in memory, and return their number.

        They are deleted a few at a time; if that fails, memory holds no more than the disk, and it can be repeated.
        """
        for start in range(0, len(ids), DELETED):
            some = ids[start : start + DELETED]
            with self.changing:
                if self.records.is_nearly_full():
                    self._identity_store.forget_edges(some)
                self.records.delete(some)
                self._active.changes.catch_up()
        return len(ids)

    def encode_each(self, sightings: Sequence[Sighting], images: Sequence[bytes]) -> list[bytes | None]:
        """Encode sightings' image files as they are stored, for the version that answers; None where one is refused."""
        pairs = zip(sightings, images, strict=True)
        return [self._reencoding.encode_one(self._active.model, *pair) for pair in pairs]

    def delete_expired(self) -> int:
        """Delete sightings that are older than their target's retention, and return their number."""
        now = self.clock.now()
        deleted = 0
        for target, days in self.settings.retention_days.items():
            if expired := self.records.ids_before(target, now - days * DAY_S):
                deleted += self.delete(expired)
                log.info("%s: deleted %d sightings, kept for %g days", target, len(expired), days)
        if self._kept_time_s is None or abs(now - self._kept_time_s) > HOUR_S:
            self.records.keep_time(now)
            self._kept_time_s = now
        return deleted

    def encode_for(self, model: ServedModel) -> int:
        """Encode stored crops, and compute their vectors, for a version that does not answer yet.

        Returns:
            Largest id up to which all sightings have a map, if their crops can be decoded.
        """
        self.fill_maps(model)
        last = self._reencoding.encode_missing(model)
        for target in model.targets:
            self.indexing.prepare(model, target)
        until, _ = self.records.last_change()
        self.fill_maps(model)
        self._reencoding.encode_missing(model, after=last)
        return until

    def encode_rest(self, model: ServedModel, until: int) -> None:
        """Encode the batch or two that were enrolled since `encode_for`, while nothing is enrolled."""
        self.fill_maps(model)
        self._reencoding.encode_missing(model, after=until)

    def last_sighting(self) -> int:
        """Return the largest id of a stored sighting."""
        return self.records.last_change()[0]

    def load(self, version: str, model: ServedModel, until: int) -> ActiveVersion:
        """Load a version that does not answer yet, with the sightings up to an id; it shares galleries where it can."""
        if gallery_form(model) == gallery_form(self._active.model):
            return replace(self._active, version=version, model=model)
        return ActiveVersion.load(version, model, self.records, self.indexing, self.settings.memory_mb, until)

    def switch(self, loaded: ActiveVersion) -> None:
        """Let another version answer, whose maps are all on disk."""
        loaded.changes.catch_up()
        self._active = loaded
        log.info("version %s answers now", loaded.version)
        self._active.report_cameras(self.records)

    def update_index(self) -> None:
        """Read what other workers changed; compute vectors that are missing, and choose landmarks again in time.

        One worker computes them.
        """
        active, does_housekeeping = self.active, self.does_housekeeping
        if does_housekeeping:
            self.indexing.forget_marked()
        for target, gallery in active.galleries.items():
            self.indexing.read(active.model, target, gallery)
            if does_housekeeping:
                self.indexing.update(active.model, target, gallery)

    def measure_recall(self) -> None:
        """Do a sample of the searches exactly."""
        self.recall.measure(lambda: self.active.galleries)

    def stop(self) -> None:
        """Let work in the background pause no more, as the service ends."""
        self._stopped.set()
        self.identities.updates.stop()

    def _yield(self, worked_s: float) -> None:
        """Pause work in the background after a piece of it, while sightings are enrolled or searched for."""
        if self._encoder.is_enrolling or time.monotonic() - self._searched_s < LULL_S:
            self._stopped.wait(PAUSES * worked_s)
