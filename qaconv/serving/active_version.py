"""The version that answers, with the galleries that it searches."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray

from qaconv.errors import InputError
from qaconv.runtime.model import ServedModel
from qaconv.runtime.quantise import Codes
from qaconv.serving.changes import Changes
from qaconv.serving.gallery import SIGHTING_BYTES, Gallery
from qaconv.serving.indexing import Indexing, digest_matching
from qaconv.serving.map_cache import MapCache, map_bytes
from qaconv.serving.places import NotFound
from qaconv.serving.storage import Records
from qaconv.tlift import TLiftProfile

log = logging.getLogger(__name__)


class Full(RuntimeError):
    """`serve.memory_mb` has no room for more sightings."""


@dataclass(frozen=True)
class ActiveVersion:
    """The version that answers.

    Attributes:
        version: its number.
        model: what it runs.
        galleries: by target.
        capacity: largest number of sightings in all galleries together.
        changes: bring the galleries up to the changes on disk.
    """

    version: str
    model: ServedModel
    galleries: dict[str, Gallery]
    capacity: int
    changes: Changes

    @classmethod
    def load(
        cls, version: str, model: ServedModel, records: Records, indexing: Indexing, memory_mb: int, until: int
    ) -> Self:
        """Read the sightings of the model's targets from disk; those of other targets take no memory.

        Args:
            version: its number.
            model: what it runs.
            records: the sightings.
            indexing: their vectors.
            memory_mb: bound of the memory.
            until: largest id of a sighting to read; `changes` adds those after it.

        Raises:
            InputError: there are more than memory is set to hold.
        """
        # Half of the memory, as a new version's galleries are filled while the present ones still answer; half of
        # that for the index.
        share = memory_mb * 2**20 // 4
        capacity = share // SIGHTING_BYTES
        if (stored := records.count_maps(model.encoder_digest, model.targets)) > capacity:
            raise InputError(f"serve.memory_mb: has room for {capacity:,} sightings, {stored:,} are stored")
        cache_size = max(1, share // map_bytes(model.map_shape))
        maps = MapCache(cache_size, model.map_shape, partial(_read, records, model))
        galleries = {name: Gallery(capacity, maps) for name in model.targets}
        changes = Changes(records, model, galleries)
        changes.add_until(until)
        for name, gallery in galleries.items():
            indexing.load(model, name, gallery)
        return cls(version, model, galleries, capacity, changes)

    def find(self, target: str) -> tuple[Gallery, TLiftProfile]:
        """Return a target's gallery and temporal profile.

        Raises:
            NotFound: unknown target.
        """
        if target not in self.galleries:
            raise NotFound(f"unknown target {target!r}, allowed: {', '.join(self.galleries)}")
        return self.galleries[target], self.model.profiles[target]

    def report_cameras(self, records: Records) -> None:
        """Log the cameras of stored sightings that the version has no temporal profile of."""
        for target, gallery in self.galleries.items():
            profile = self.model.profiles[target]
            if gallery.camids() - set(profile.camids):
                cameras = [camera for camera in records.cameras(target) if profile.camid_of(str(camera)) is None]
                log.warning(
                    "%s: the profile of version %s lacks the cameras %s; their sightings are matched without time",
                    target,
                    self.version,
                    sorted(cameras, key=str),
                )

    def map_of(self, records: Records, sighting: int) -> NDArray[np.float32]:
        """Return the map of a stored sighting, [C, h, w].

        Raises:
            NotFound: it was deleted, or the version's decoder refuses its image.
        """
        values = records.map_of(sighting, self.model.encoder_digest, self.model.map_shape)
        if values is None:
            raise NotFound(f"sighting {sighting} was deleted, or its image is no longer decoded; see the service's log")
        return values

    def check_room(self, count: int) -> None:
        """Check that memory has room for more sightings.

        Raises:
            Full: it has not.
        """
        stored = sum(map(len, self.galleries.values()))
        if stored + count > self.capacity:
            raise Full(f"{stored:,} sightings are stored; serve.memory_mb has room for {self.capacity:,}")


def gallery_form(model: ServedModel) -> tuple[str, dict[str, Mapping[int, str]]]:
    """Return what the galleries in memory depend on: encoder, head, the targets and their numbers of named cameras."""
    return digest_matching(model), {target: profile.cameras for target, profile in model.profiles.items()}


def _read(records: Records, model: ServedModel, ids: Sequence[int]) -> tuple[list[int], Codes]:
    return records.maps_of(ids, model.encoder_digest, model.map_shape)
