"""Encode stored crops for a version whose encoder made no maps of them."""

import logging
from collections.abc import Sequence

from qaconv.errors import InputError
from qaconv.runtime.model import ServedModel
from qaconv.serving.encoding import BATCH, CropEncoder
from qaconv.serving.places import camids_for
from qaconv.serving.storage import Records, Sighting
from qaconv.serving.stored_maps import pack_map, quantise_maps

log = logging.getLogger(__name__)


class Reencoding:
    """Encode what is missing, one version at a time, in one worker at a time.

    Args:
        records: the sightings.
        encoder: encodes crops.
    """

    def __init__(self, records: Records, encoder: CropEncoder) -> None:
        self._records = records
        self._encoder = encoder
        self._encoding = records.lock("encoding")

    @property
    def is_running(self) -> bool:
        """Whether any worker encodes crops."""
        return self._encoding.is_held()

    def encode_missing(self, model: ServedModel, after: int = 0) -> int:
        """Encode stored crops without a map of this encoder, a batch at a time, so that searches run in between.

        Args:
            model: encodes them.
            after: id of the last sighting to pass over. Default: none.

        Returns:
            Id of the last sighting that had no map, or `after`.
        """
        with self._encoding:
            while missing := self._records.missing_maps(model.encoder_digest, after, BATCH):
                self._encode(model, missing)
                after = missing[-1][0].id
        return after

    def encode_one(self, model: ServedModel, sighting: Sighting, crop: bytes) -> bytes | None:
        """Encode the crop of a sighting as it is stored; None if it is refused."""
        try:
            maps = quantise_maps(self._encoder.encode(model, [crop], camids_for(model, [sighting])))
        except InputError:
            return None
        return pack_map(maps.codes[0], maps.scales[0])

    def _encode(self, model: ServedModel, missing: Sequence[tuple[Sighting, bytes]]) -> None:
        """Encode the crops of sightings. One that is refused, as by a stricter decoder, is left without a map."""
        sightings, crops = zip(*missing, strict=True)
        ids = [sighting.id for sighting in sightings]
        try:
            maps = self._encoder.encode(model, crops, camids_for(model, sightings))
        except InputError as error:
            if len(ids) == 1:
                log.error("sighting %d: %s; no search finds it: delete it, and enrol another file", ids[0], error)
                return
            for one in missing:
                self._encode(model, [one])
        else:
            self._records.add_maps(ids, model.encoder_digest, quantise_maps(maps))
