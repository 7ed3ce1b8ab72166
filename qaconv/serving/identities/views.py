"""Show the identities of one target: lists, visits and journeys. N sightings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qaconv.identities.journeys import list_visits
from qaconv.serving.places import find_cameras
from qaconv.tlift import TLiftProfile

Bools = NDArray[np.bool_]

MOST_SHOWN = 8  # sightings of an identity in a list, one a camera


@dataclass(frozen=True)
class Wanted:
    """Which identities or visits to list.

    Attributes:
        camids: seen on one of these cameras, by number or name. Default: on any.
        from_s: seen then or later, in seconds on the camera's clock, or a date. Default: at any time.
        to_s: seen then or earlier.
        cameras: seen on at least this number of cameras. Default: 1.
    """

    camids: Sequence[int | str] | None = None
    from_s: float | str | None = None
    to_s: float | str | None = None
    cameras: int = 1


@dataclass(frozen=True)
class Identity:
    """An identity in a list.

    Attributes:
        identity: its number.
        sightings: number of its sightings.
        cameras: number of cameras that it was seen on.
        probability: the lowest of its sightings, that a sighting belongs to it.
        from_s: first time that it was seen, None where unknown.
        to_s: last time.
        images: ids of sightings, the most probable of each camera.
    """

    identity: int
    sightings: int
    cameras: int
    probability: float
    from_s: float | None
    to_s: float | None
    images: list[int]


@dataclass(frozen=True)
class Member:
    """A sighting of an identity.

    Attributes:
        id: of the sighting.
        time_s: seconds on the camera's clock, None where unknown.
        track: name of its track, None where there is none.
        probability: that it belongs to the identity.
    """

    id: int
    time_s: float | None
    track: str | None
    probability: float


@dataclass(frozen=True)
class Visit:
    """Sightings of one identity on one camera without a long gap.

    Attributes:
        identity: its number.
        visit: number from 0 within the identity, in order of time.
        camid: the camera; -1 where the target's profile lacks a camera of its name.
        camera: the camera's name, None where cameras are numbers.
        from_s: first time, None where unknown.
        to_s: last time.
        sightings: number of them.
        image: id of the most probable sighting.
        members: its sightings, in order of time. Default: not given, as in a list.
    """

    identity: int
    visit: int
    camid: int
    camera: str | None
    from_s: float | None
    to_s: float | None
    sightings: int
    image: int
    members: list[Member] | None = None


def list_identities(
    table: pd.DataFrame, profile: TLiftProfile, wanted: Wanted, skip: int, limit: int, *, least_certain_first: bool
) -> tuple[int, list[Identity]]:
    """Return how many identities there are, and up to `limit` of them after `skip`, by number or certainty.

    Raises:
        NotFound: the profile lacks a camera.
        InputError: a camera or a time has another form than in the profile.
    """
    seen = table[_is_seen(table, profile, wanted)]
    groups = table[table["identity"].isin(seen["identity"])].groupby("identity")
    summary = groups.agg(
        sightings=("sighting", "size"),
        cameras=("place", "nunique"),
        probability=("probability", "min"),
        from_s=("time_s", "min"),
        to_s=("time_s", "max"),
    ).reset_index()
    summary = summary[summary["cameras"] >= wanted.cameras]
    if least_certain_first:
        summary = summary.sort_values(["probability", "identity"])
    page = summary.iloc[skip : skip + limit]
    images = _images(table[table["identity"].isin(page["identity"])])
    return len(summary), [
        Identity(
            identity=row["identity"],
            sightings=row["sightings"],
            cameras=row["cameras"],
            probability=row["probability"],
            from_s=_known(row["from_s"]),
            to_s=_known(row["to_s"]),
            images=images[row["identity"]],
        )
        for row in page.to_dict("records")
    ]


def list_journeys(
    table: pd.DataFrame, profile: TLiftProfile, wanted: Wanted, skip: int, limit: int
) -> tuple[int, list[Visit]]:
    """Return how many visits there are, and up to `limit` of them after `skip`, in order of time.

    Raises:
        NotFound: the profile lacks a camera.
        InputError: a camera or a time has another form than in the profile.
    """
    cameras = table.groupby("identity")["place"].nunique()
    visits = _visits(table)
    visits = visits[_is_seen(visits, profile, wanted) & (visits["identity"].map(cameras).to_numpy() >= wanted.cameras)]
    visits = visits.sort_values(["from_s", "identity", "visit"], kind="stable")
    return len(visits), [_visit(row) for row in visits.iloc[skip : skip + limit].to_dict("records")]


def show_journey(table: pd.DataFrame) -> list[Visit]:
    """Return the visits of one identity, with their sightings."""
    visits = _visits(table)
    return [_visit(row, _members(table[_is_within(table, row)])) for row in visits.to_dict("records")]


def most_probable(table: pd.DataFrame) -> int:
    """Return the id of the most probable sighting."""
    return int(table["sighting"].to_numpy()[table["probability"].to_numpy().argmax()])


def _is_seen(table: pd.DataFrame, profile: TLiftProfile, wanted: Wanted) -> Bools:
    """Return which rows were seen on the cameras and at the times; `from_s` and `to_s` of a visit, or `time_s`."""
    first, last = ("from_s", "to_s") if "from_s" in table else ("time_s", "time_s")
    keep = np.ones(len(table), dtype=bool)
    if wanted.camids is not None:
        camids = find_cameras(profile, [_camera(profile, camera) for camera in wanted.camids])
        keep &= np.isin(table["camid"].to_numpy(), camids)
    from_s = profile.seconds_of(wanted.from_s)
    to_s = profile.seconds_of(wanted.to_s)
    if from_s is not None:
        keep &= table[last].to_numpy() >= from_s
    if to_s is not None:
        keep &= table[first].to_numpy() <= to_s
    return keep


def _camera(profile: TLiftProfile, camera: int | str) -> int | str:
    """Return a camera of an address, where a number is a text too."""
    is_number = isinstance(camera, str) and camera.isdecimal() and camera not in profile.cameras.values()
    return int(camera) if is_number else camera


def _visits(table: pd.DataFrame) -> pd.DataFrame:
    """List the visits of sightings, with place, camid and camera."""
    columns = ["time_s", "track", "identity", "probability"]
    sightings = table[columns].assign(camid=table["place"], image=table["sighting"].astype(str))
    visits = list_visits(sightings).astype({"image": np.int64}).rename(columns={"camid": "place"})
    cameras = table.drop_duplicates("place").set_index("place")[["camid", "camera"]]
    return visits.join(cameras, on="place")


def _is_within(table: pd.DataFrame, visit: dict[Any, Any]) -> Bools:
    """Return which sightings of one identity are of a visit: its camera, and its times, which may be unknown."""
    times = table["time_s"].to_numpy()
    unknown = np.isnan(visit["from_s"])
    in_time = np.isnan(times) if unknown else (times >= visit["from_s"]) & (times <= visit["to_s"])
    within: Bools = (table["place"].to_numpy() == visit["place"]) & in_time
    return within


def _members(table: pd.DataFrame) -> list[Member]:
    rows = table.sort_values(["time_s", "sighting"]).to_dict("records")
    return [Member(row["sighting"], _known(row["time_s"]), row["track"], row["probability"]) for row in rows]


def _visit(row: dict[Any, Any], members: list[Member] | None = None) -> Visit:
    return Visit(
        identity=row["identity"],
        visit=row["visit"],
        camid=row["camid"],
        camera=row["camera"],
        from_s=_known(row["from_s"]),
        to_s=_known(row["to_s"]),
        sightings=row["sightings"],
        image=row["image"],
        members=members,
    )


def _images(table: pd.DataFrame) -> dict[int, list[int]]:
    """Return ids of the most probable sighting of each camera, up to MOST_SHOWN, for each identity."""
    best = table.sort_values(["probability", "sighting"], ascending=[False, True]).drop_duplicates(
        ["identity", "place"]
    )
    return {
        int(str(identity)): group.sort_values(["time_s", "sighting"])["sighting"].head(MOST_SHOWN).tolist()
        for identity, group in best.groupby("identity")
    }


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
