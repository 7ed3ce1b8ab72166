"""Bring the galleries in memory up to the changes on disk, which any worker of the service may have made.

Ids of sightings grow in the order of commits, so the new ones are those above the last id that was read. Deletions are
numbered. Whether there is a change is one look at the ends of two trees.
"""

import threading
from collections.abc import Mapping

import numpy as np

from qaconv.runtime.model import ServedModel
from qaconv.serving.gallery import Gallery
from qaconv.serving.places import number_camera
from qaconv.serving.storage import Records


class Changes:
    """How far the galleries of a version are. Safe to use from any thread.

    Args:
        records: the sightings on disk.
        model: whose maps and cameras the galleries have.
        galleries: by target; empty.
    """

    def __init__(self, records: Records, model: ServedModel, galleries: Mapping[str, Gallery]) -> None:
        self._records = records
        self._model = model
        self._galleries = galleries
        self._lock = threading.Lock()
        self._sighting = 0  # largest id that was read
        _, self._deletion = records.last_change()

    def catch_up(self) -> None:
        """Apply all changes that were committed before this call.

        Raises:
            Busy: another program keeps the file locked.
        """
        sighting, deletion = self._records.last_change()
        if self._is_behind(sighting, deletion):
            with self._lock:
                if self._is_behind(sighting, deletion):
                    self.add_until(sighting)
                    self._delete(deletion)

    def add_until(self, last: int) -> None:
        """Add the sightings with a map, up to an id."""
        if last <= self._sighting:
            return
        for sightings in self._records.with_maps(self._model.encoder_digest, self._sighting, last):
            for name, gallery in self._galleries.items():
                profile = self._model.profiles[name]
                gallery.add([number_camera(profile, sighting) for sighting in sightings if sighting.target == name])
            self._sighting = sightings[-1].id
        self._sighting = last

    def forget_deleted(self) -> None:
        """Apply deletions alone, as of a version that does not answer yet some maps may be missing."""
        with self._lock:
            self._delete(self._records.last_change()[1])

    def _is_behind(self, sighting: int, deletion: int) -> bool:
        return sighting > self._sighting or deletion > self._deletion

    def _delete(self, last: int) -> None:
        """Remove what was deleted up to a number; if too much was, all sightings that are not on disk."""
        if last <= self._deletion:
            return
        listed = self._records.deletions(self._deletion)
        deleted: dict[str, list[int]] = {}
        for _, sighting, target in listed:
            deleted.setdefault(target, []).append(sighting)
        if listed[0][0] != self._deletion + 1:  # some are listed no more
            for name, gallery in self._galleries.items():
                deleted[name] = np.setdiff1d(gallery.ids(), self._records.ids(name)).tolist()
        for name, ids in deleted.items():
            if name in self._galleries:
                self._galleries[name].remove(ids)
        self._deletion = listed[-1][0]
