"""Correct the times of cameras whose clocks were reset, by the order in which they recorded.

A manifest is sorted by name, and a clock that was reset shows the same times twice. Only the order of recording reveals
that, so layouts correct it once for fitting, evaluation and serving.
"""

from typing import Any

import numpy as np
import pandas as pd

SLACK_S = 10.0  # crops of people in view together may be stored in any order
LOOK_AHEAD = 3  # sightings: a time that fell alone is followed by one at the old height before these are over


def mend_order(camid: pd.Series, order: pd.Series, time_s: pd.Series) -> tuple[pd.Series, list[dict[str, Any]]]:
    """Continue clocks that were reset from their last time, and leave out single times that fall.

    The pause before a reset is unknown and counts as none.

    Args:
        camid: camera of each sighting.
        order: a number that grows as the camera records.
        time_s: time on the camera's clock in seconds, NaN if unknown.

    Returns:
        The times, NaN if left out, and a finding for each fall: camid, kind (reset, backwards), time_s on the
        camera's clock, detail and done, as a temporal profile has them.
    """
    mended, findings = time_s.copy(), []
    for number, rows in time_s.dropna().groupby(camid):
        ordered = rows[order[rows.index].sort_values(kind="stable").index]
        times, found = _mend_camera(ordered.to_numpy(copy=True))
        mended[ordered.index] = times
        findings += [{"camid": int(number), **each} for each in found]
    return mended, findings


def _mend_camera(times: np.ndarray) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """[n] seconds in the order of recording."""
    found, highest, offset = [], -np.inf, 0.0
    mended = times.copy()
    for at, shown in enumerate(times):
        fall = highest - (shown + offset)
        if fall > SLACK_S and (times[at + 1 : at + 1 + LOOK_AHEAD] + offset >= highest - SLACK_S).any():
            mended[at] = np.nan
            found.append(_finding("backwards", shown, f"falls by {fall:.0f} s and comes back", "left out"))
            continue
        if fall > SLACK_S:
            offset += fall
            detail = f"begins anew, {fall:.0f} s below where it was; {offset:+.0f} s from here on"
            found.append(_finding("reset", shown, detail, "mended"))
        mended[at] = shown + offset
        highest = max(highest, mended[at])
    return mended, found


def _finding(kind: str, time_s: float, detail: str, done: str) -> dict[str, Any]:
    return {"kind": kind, "time_s": float(time_s), "detail": detail, "done": done}
