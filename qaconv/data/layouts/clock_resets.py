"""Correct the times of cameras whose clocks were reset, by the order in which they recorded.

A manifest is sorted by name, and a clock that was reset shows the same times twice. Only the order of recording reveals
that, so layouts correct it once for fitting, evaluation and serving.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SLACK_S = 10.0  # crops of people in view together may be stored in any order
LOOK_AHEAD = 3  # sightings; if one of them is as late as before the fall, only a single time was wrong


def correct_resets(camid: pd.Series, order: pd.Series, time_s: pd.Series) -> tuple[pd.Series, list[dict[str, Any]]]:
    """Continue clocks that were reset from their last time, and leave out single times that fall.

    The pause before a reset is unknown and counts as 0 s.

    Args:
        camid: camera of each sighting.
        order: position of each sighting in its camera's recording, a number that grows; NaN if unknown, and then its
            time is neither compared nor corrected.
        time_s: time on the camera's clock in seconds, NaN if unknown.

    Returns:
        The times, NaN if left out, and a finding for each fall: camid, kind (reset, backwards), time_s on the
        camera's clock, detail and done, as a temporal profile has them.
    """
    corrected = time_s.copy()
    findings: list[dict[str, Any]] = []
    for number, rows in time_s[time_s.notna() & order.notna()].groupby(camid):
        ordered = rows[order[rows.index].sort_values(kind="stable").index]
        times, camera_findings = _correct_camera(ordered.to_numpy(copy=True))
        corrected[ordered.index] = times
        findings += [{"camid": int(number), **finding} for finding in camera_findings]
    return corrected, findings


def _correct_camera(times: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[dict[str, Any]]]:
    """Correct one camera's times, [n] seconds in the order of recording."""
    findings: list[dict[str, Any]] = []
    latest = -np.inf
    offset = 0.0
    corrected = times.copy()
    for index, shown in enumerate(times):
        fall = latest - (shown + offset)
        if fall > SLACK_S and (times[index + 1 : index + 1 + LOOK_AHEAD] + offset >= latest - SLACK_S).any():
            corrected[index] = np.nan
            findings.append(_finding("backwards", shown, f"falls by {fall:.0f} s and comes back", "left out"))
            continue
        if fall > SLACK_S:
            offset += fall
            detail = f"begins anew, {fall:.0f} s below where it was; {offset:+.0f} s from here on"
            findings.append(_finding("reset", shown, detail, "mended"))
        corrected[index] = shown + offset
        latest = max(latest, corrected[index])
    return corrected, findings


def _finding(kind: str, time_s: float, detail: str, done: str) -> dict[str, Any]:
    return {"kind": kind, "time_s": float(time_s), "detail": detail, "done": done}
