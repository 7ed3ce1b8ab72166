"""Choose the sightings of a target that results are about.

Q measured queries, G measured gallery images.
"""

from pathlib import Path

import pandas as pd

from qaconv.data.manifest import is_measured
from qaconv.errors import InputError
from qaconv.metrics.sightings import SameCamera
from qaconv.runtime.tracks import number_tracks
from qaconv.tables import Table, choose

Columns = tuple[pd.Series, pd.Series, pd.Series, pd.Series]


class EvaluatedSightings:
    """Measured queries and gallery of a target.

    Args:
        frame: the manifest's table.
        folder: named in errors.

    Attributes:
        query: [Q] rows of the manifest.
        gallery: [G] rows of the manifest.
        is_query_measured: over all queries.
        is_gallery_measured: over all of the gallery.
        query_tracks: number of each query's track, [Q]; a query without one is a track of its own.
        gallery_tracks: the same for the gallery, [G].

    Raises:
        InputError: there is no query, or no gallery image, that is measured.
    """

    def __init__(self, frame: pd.DataFrame, folder: Path) -> None:
        self.folder = folder
        sightings = frame[frame["split"] != "train"]
        measured = is_measured(sightings)
        is_query = (sightings["split"] == "query").to_numpy()
        self.is_query_measured, self.is_gallery_measured = measured[is_query], measured[~is_query]
        self.query, self.gallery = sightings[measured & is_query], sightings[measured & ~is_query]
        self.query_tracks, self.gallery_tracks = (number_tracks(rows["track"]) for rows in (self.query, self.gallery))
        if self.query.empty or self.gallery.empty:
            raise InputError(
                f"{folder} cannot be evaluated: query and gallery must have at least one image each, got "
                f"{len(self.query)} query images and {len(self.gallery)} gallery images without junk (pid -1)"
            )

    def logits(self, logits: Table) -> Table:
        """Return the logits [Q, G] among those of all queries with all of the gallery."""
        return choose(logits, self.is_query_measured, self.is_gallery_measured)

    @property
    def places(self) -> Columns:
        """Cameras and times of the queries, [Q] each, and of the gallery, [G] each."""
        query, gallery = self.query, self.gallery
        return query["camid"], query["time_s"], gallery["camid"], gallery["time_s"]

    @property
    def identities(self) -> Columns:
        """Pids of queries, [Q], and gallery, [G], and the cameras of both."""
        query, gallery = self.query, self.gallery
        return query["pid"], gallery["pid"], query["camid"], gallery["camid"]

    @property
    def has_tracks(self) -> bool:
        """Whether a track has more than one measured sighting."""
        return any(tracks.max() + 1 < len(tracks) for tracks in (self.query_tracks, self.gallery_tracks))

    @property
    def same_camera(self) -> SameCamera:
        """Whether images of a query's own camera count: only in a target with one camera, as there are no others."""
        return "drop" if len({*self.query["camid"], *self.gallery["camid"]}) > 1 else "keep"
