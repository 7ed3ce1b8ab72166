"""Rank a gallery of crops, or of tracks of them, for each query, as an MLflow pyfunc.

MLflow keeps this file as the model's code and runs it when a version is loaded.
"""

import base64
import binascii
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from numpy.typing import NDArray

from qaconv.errors import InputError
from qaconv.runtime.correspondences import correspondences
from qaconv.runtime.crops import read_crop
from qaconv.runtime.limits import LARGEST_CAMID, LONGEST_NAME, is_name
from qaconv.runtime.model import ServedModel
from qaconv.runtime.tracks import mean_scores, number_tracks, rank_in_tracks, score_tracks
from qaconv.times import DATE, UNIX_EPOCH, check_seconds
from qaconv.tlift import TLiftProfile
from qaconv.tlift.one_per_track import middle_sightings

ROLES = ("query", "gallery")
NEEDED = ("role", "image", "camid")


class Ranker(PythonModel):
    """A registered version behind MLflow's interface."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the graphs, the contract and the profiles."""
        self.model = ServedModel(Path(context.artifacts["served"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Rank the gallery for each query.

        Args:
            context: not used.
            model_input: one row for each crop with `role` (query or gallery), `image` (an image file in base64),
                `camid` (number, or name where the target's cameras have names), and optionally `time_s` (seconds on the
                camera's clock, or a date in ISO 8601 where the target's times are dates), `id` (default: the row's
                number) and `track` (name; rows of one role, camera and track are crops of one person: one query, or
                one answer. A track's time is that of its crop in the middle). A query's camera must be one of the
                target's, and so must a name. Gallery crops at other numbers are matched without time. Crops are
                encoded for their cameras where a target is named and the version knows cameras.
            params: `top_k` (gallery images for each query), `threshold` (probability above which a pair is a match;
                a negative one stands for the target's), `target` (whose temporal profile lifts scores and states
                probabilities, "" for none), `even_odds` (whether to state probabilities at even odds, for people as in
                training) and `correspondences` (number for each pair).

        Returns:
            One row for each query and gallery image or track, best first: query (id, of a track's first row), gallery
            (id, of a track's best row for the query), rank (from 1), score (logit, of tracks `score_tracks`),
            probability (of tracks by the mean logit of all their pairs), probability_from ("target" or "source", see
            `ServedModel.state`), match, lifted (score that ranks where times are used, else NaN), correspondences (of
            the best pair of crops) and, where there is a column `track`, sightings (ids of the gallery track's rows,
            best first).

        Raises:
            InputError: a role, an image, a camera, a time, a track or the target is not valid.
        """
        settings = {**DEFAULTS, **(params or {})}
        target = settings["target"]
        if target and target not in self.model.targets:
            raise InputError(f"unknown target {target!r}, allowed: {self.model.targets} and ''")
        profile = self.model.profiles[target] if target else ANYWHERE
        crops = _read_rows(model_input, profile)
        query, gallery = (_side(crops, role) for role in ROLES)
        query_maps, gallery_maps = (self._maps(side, target) for side in (query, gallery))
        logits = self.model.score(query_maps, gallery_maps)
        query_tracks, gallery_tracks = (number_tracks(side["track"]) for side in (query, gallery))
        scores = score_tracks(logits, query_tracks, gallery_tracks)
        gallery_places = _place(gallery, gallery_tracks)
        if target:  # as in the service, a sighting at a camera that the profile lacks is matched without its time
            gallery_places = profile.leave_out_unknown(*gallery_places)
        where = *_place(query, query_tracks), *gallery_places
        lifted = self.model.lift(target, scores, *where)
        means = mean_scores(logits, query_tracks, gallery_tracks)
        stated = self.model.state(target, means, *where, even_odds=bool(settings["even_odds"]))
        threshold = stated.threshold if settings["threshold"] < 0 else settings["threshold"]
        order = np.argsort(-(scores if lifted is None else lifted), axis=1, kind="stable")[:, : int(settings["top_k"])]
        answers = []
        for row, columns in enumerate(order):
            crops_of_query = np.flatnonzero(query_tracks == row)
            members = rank_in_tracks(logits[crops_of_query].max(axis=0), gallery_tracks, np.arange(len(gallery)))
            for rank, column in enumerate(columns, start=1):
                best = members[column][0]
                crop = crops_of_query[logits[crops_of_query, best].argmax()]
                pairs = correspondences(
                    query_maps[crop], gallery_maps[best], self.model.head, int(settings["correspondences"])
                )
                answers.append(
                    {
                        "query": query["id"][crops_of_query[0]],
                        "gallery": gallery["id"][best],
                        "rank": rank,
                        "score": float(scores[row, column]),
                        "probability": float(stated.probabilities[row, column]),
                        "probability_from": stated.source,
                        "match": bool(stated.probabilities[row, column] > threshold),
                        "lifted": float("nan") if lifted is None else float(lifted[row, column]),
                        "correspondences": [
                            {**pair._asdict(), "query": list(pair.query), "gallery": list(pair.gallery)}
                            for pair in pairs
                        ],
                        "sightings": gallery["id"][members[column]].tolist(),
                    }
                )
        return pd.DataFrame(answers, columns=[*COLUMNS, "sightings"] if "track" in model_input else COLUMNS)

    def _maps(self, side: pd.DataFrame, target: str) -> NDArray[np.float32]:
        """Encode crops; without a target their cameras are unknown."""
        crops = (read_crop(_bytes(image), *self.model.crop_size) for image in side["image"])
        return self.model.encode_batches(crops, side["camid"] if target else None)


DEFAULTS: dict[str, Any] = {"threshold": -1.0, "top_k": 10, "target": "", "even_odds": False, "correspondences": 5}
COLUMNS = ["query", "gallery", "rank", "score", "probability", "probability_from", "match", "lifted", "correspondences"]


# Where no target is named, cameras and times are not used, but checked.
ANYWHERE = TLiftProfile("", (), active=False, reason="no target", time_origin=UNIX_EPOCH)


def _read_rows(table: pd.DataFrame, profile: TLiftProfile) -> pd.DataFrame:
    """Return the rows with every column, with cameras and times of the profile.

    Tracks are named with their cameras, as two cameras may use one name.

    Raises:
        InputError: a column is missing, or a role, a camera, a time or a track is not valid.
    """
    if missing := [name for name in NEEDED if name not in table]:
        raise InputError(f"model_input: must have the columns {', '.join(missing)}, got {', '.join(map(str, table))}")
    unknown = sorted(set(table["role"].astype(str)) - set(ROLES))
    if unknown:
        raise InputError(f"role: unknown {unknown}, allowed: {', '.join(ROLES)}")
    names = table["id"] if "id" in table else pd.Series(table.index.astype(str), table.index)
    tracks = map(_track, table["track"]) if "track" in table else [""] * len(table)
    rows = table.assign(
        id=names.fillna(pd.Series(table.index.astype(str), table.index)),
        camid=[_camid(camera, profile) for camera in table["camid"]],
        time_s=[_seconds(time, profile) for time in table["time_s"]] if "time_s" in table else np.nan,
    )
    cameras = rows["camid"] if profile.target else table["camid"]  # without a target names have no numbers
    rows["track"] = [f"{camera}\n{track}" if track else "" for camera, track in zip(cameras, tracks, strict=True)]
    check_seconds("time_s", rows["time_s"])
    return rows


def _side(rows: pd.DataFrame, role: str) -> pd.DataFrame:
    """Return the rows of one role, numbered from 0."""
    side = rows[rows["role"] == role].reset_index(drop=True)
    if side.empty:
        raise InputError(f"role: at least one row must be {role}, got none")
    return side


def _camid(camera: object, profile: TLiftProfile) -> int:
    if isinstance(camera, str):
        if not profile.target:
            return 0
        known = [*(profile.cameras.values() or profile.camids)]
        if not profile.cameras:
            raise InputError(f"camid: {profile.target} has cameras by number, got {camera!r}; it has {known}")
        camid = profile.camid_of(camera)
        if camid is None:
            raise InputError(f"camid: {profile.target} has no camera {camera!r}; it has {known}")
        return camid
    if isinstance(camera, int | float | np.number):
        number = float(camera)
        if 0 <= number <= LARGEST_CAMID and number.is_integer():
            return int(number)
    raise InputError(f"camid: must be in 0..{LARGEST_CAMID:,}, or a camera's name, got {camera}")


def _seconds(time: object, profile: TLiftProfile) -> float:
    if isinstance(time, str):
        time = profile.seconds_of(time)
    if time is None or isinstance(time, int | float | np.number):
        return float("nan") if time is None else float(time)
    raise InputError(f"time_s: must be seconds, or {DATE}, got {time!r}")


def _track(track: object) -> str:
    if track is None or track == "" or track != track:
        return ""
    if isinstance(track, str) and is_name(track):
        return track
    raise InputError(f"track: must have 1 to {LONGEST_NAME} printable characters without outer spaces, got {track!r}")


def _place(side: pd.DataFrame, tracks: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return camera and time of each track, those of its sighting in the middle."""
    times = side["time_s"].to_numpy(dtype=np.float64)
    middle = middle_sightings(side["track"].to_numpy(dtype=np.str_), times)
    middle = middle[np.argsort(tracks[middle])]
    return side["camid"].to_numpy(dtype=np.int64)[middle], times[middle]


def _bytes(image: str) -> bytes:
    try:
        return base64.b64decode(image, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"image: must be base64: {error}") from error


set_model(Ranker())
