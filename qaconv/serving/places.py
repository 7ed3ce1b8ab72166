"""Read cameras and times, of requests and of stored sightings, as a target's temporal profile has them."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from qaconv.errors import InputError
from qaconv.runtime.encoder import NO_CAMERA
from qaconv.runtime.model import ServedModel
from qaconv.serving.gallery import Filter
from qaconv.serving.messages import Limits, NewSighting, Query
from qaconv.serving.storage import Sighting
from qaconv.tlift import TLiftProfile

UNKNOWN = NO_CAMERA  # number of a camera whose name the profile lacks, and of a query without one


class NotFound(LookupError):
    """A target, a camera or a sighting does not exist."""


@dataclass(frozen=True)
class Place:
    """Where and when a query was seen.

    Attributes:
        sighting: id of the stored sighting that it is, None for a new image.
        camid: camera in the target's profile, None where unknown.
        time_s: in the profile's seconds, None where unknown.
    """

    sighting: int | None
    camid: int | None
    time_s: float | None


def find_cameras(profile: TLiftProfile, cameras: Collection[int | str]) -> list[int]:
    """Return the numbers of cameras that a request has by number or name.

    Raises:
        NotFound: the profile lacks a camera.
        InputError: a name is given where cameras are numbers.
    """
    known = [*(profile.cameras.values() or profile.camids)]
    if not profile.cameras and any(isinstance(camera, str) for camera in cameras):
        raise InputError(f"camid: {profile.target} has cameras by number, got a name; it has {known}")
    numbers = {camera: profile.camid_of(camera) for camera in cameras}
    if unknown := sorted((camera for camera, camid in numbers.items() if camid is None), key=str):
        raise NotFound(f"camid: {profile.target} has no camera {unknown}; it has {known}")
    return [camid for camera in cameras if (camid := numbers[camera]) is not None]


def place_sightings(
    profile: TLiftProfile, target: str, sightings: Sequence[NewSighting], enrolled_s: float
) -> list[Sighting]:
    """Return sightings to store, with cameras and times of the profile, and id 0.

    Raises:
        NotFound: the profile lacks a camera.
        InputError: a camera or a time has another form than in the profile.
    """
    camids = find_cameras(profile, [sighting.camid for sighting in sightings])
    return [
        Sighting(
            id=0,
            target=target,
            camid=camid,
            time_s=profile.seconds_of(sighting.time_s),
            person=sighting.person,
            enrolled_s=enrolled_s,
            camera=profile.cameras.get(camid),
            track=sighting.track,
        )
        for camid, sighting in zip(camids, sightings, strict=True)
    ]


def place_query(profile: TLiftProfile, query: Query, stored: Sighting | None) -> Place:
    """Read a query's camera and time; those of the stored sighting where it has none and the profile has the camera."""
    camid = None if query.camid is None else find_cameras(profile, [query.camid])[0]
    time_s = profile.seconds_of(query.time_s)
    if stored is None:
        return Place(None, camid, time_s)
    stored = number_camera(profile, stored)
    if camid is None and stored.camid in profile.camids:
        camid = stored.camid
    return Place(stored.id, camid, stored.time_s if time_s is None else time_s)


def place_limits(profile: TLiftProfile, limits: Limits) -> Filter:
    """Read the cameras and times to search. A camera by a number that the profile lacks may have stored sightings."""
    camids = None
    if limits.camids is not None:
        named = find_cameras(profile, [camera for camera in limits.camids if isinstance(camera, str)])
        camids = frozenset([*named, *(camera for camera in limits.camids if isinstance(camera, int))])
    return Filter(camids, profile.seconds_of(limits.from_s), profile.seconds_of(limits.to_s))


def number_camera(profile: TLiftProfile, sighting: Sighting) -> Sighting:
    """Give a stored sighting the number and the name that its camera has in a profile.

    Profiles may number the same names differently. UNKNOWN stands for a name that the profile lacks.
    """
    camid, camera = _number(profile, sighting.camid if sighting.camera is None else sighting.camera)
    return replace(sighting, camid=camid, camera=camera)


def camids_for(model: ServedModel, sightings: Iterable[Sighting]) -> list[int]:
    """Return the number of each stored sighting's camera that a model encodes it with, [N].

    It is that of the model's profile of the sighting's target. UNKNOWN where the model has no such profile, as numbers
    of one target are no cameras of another one.
    """
    profiles = ((model.profiles.get(sighting.target), sighting) for sighting in sightings)
    return [UNKNOWN if profile is None else number_camera(profile, sighting).camid for profile, sighting in profiles]


def number_cameras(profile: TLiftProfile, sightings: pd.DataFrame) -> pd.DataFrame:
    """Give a table of stored sightings the numbers and names that their cameras have in a profile, [N].

    Args:
        profile: of the target.
        sightings: columns camid and camera, and any others, [N].

    Returns:
        The table, with a column `place` that numbers the cameras from 0, also those that the profile lacks.
    """
    stored = sightings["camera"].where(sightings["camera"].notna(), sightings["camid"])
    places, cameras = pd.factorize(stored)
    numbered = [_number(profile, camera) for camera in cameras]
    camids = np.array([camid for camid, _ in numbered], dtype=np.int64)
    names = pd.Series([numbered[place][1] for place in places], index=sightings.index, dtype=object)  # None, not NaN
    return sightings.assign(place=places, camid=camids[places], camera=names)


def _number(profile: TLiftProfile, camera: int | str) -> tuple[int, str | None]:
    """Return the number and the name in a profile of a camera that is stored by name, or by number if it has none."""
    name = camera if isinstance(camera, str) else None
    camid = profile.camid_of(str(camera))
    if camid is None:
        camid = UNKNOWN if isinstance(camera, str) or profile.cameras else camera
    return camid, profile.cameras.get(camid, name)
