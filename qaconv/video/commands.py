"""Run `qaconv crops`."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from qaconv.errors import InputError
from qaconv.video.crops import cut_crops
from qaconv.video.settings import CropSettings


def cut_and_describe(
    camera: str,
    video: Path,
    tracks: Path,
    folder: Path,
    start: str | None,
    frame_rate: float | None,
    person_class: int | None,
    rules: Mapping[str, int | float],
) -> str:
    """Cut a camera's crops, and say in a line what was done.

    Raises:
        InputError: as `cut_crops`, or the start is not a time in ISO 8601.
    """
    cut = cut_crops(
        video,
        tracks,
        folder,
        camera,
        start=_read_start(start),
        frame_rate=frame_rate,
        person_class=person_class,
        settings=CropSettings.model_validate(rules),
    )
    if cut.is_known:
        return f"{folder}: camera {camera} is there already, with {cut.crops:,} crops of the same source; nothing to do"
    left_out = ", ".join(f"{count:,} {rule}" for rule, count in cut.left_out.items())
    return f"{folder}: camera {camera} has {cut.crops:,} crops of {cut.tracks:,} tracks; boxes left out: {left_out}"


def _read_start(start: str | None) -> datetime | None:
    if start is None:
        return None
    try:
        return datetime.fromisoformat(start)
    except ValueError as error:
        raise InputError(f"--start must be a time such as 2026-03-01T08:00:00+01:00, got {start!r}") from error
