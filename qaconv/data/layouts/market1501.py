"""Read Market-1501, its six recording sessions joined to one clock per camera (Zheng et al., ICCV 2015)."""

from pathlib import Path
from typing import Any

import pandas as pd

from qaconv.data.layouts.names import read_names
from qaconv.data.manifest import JUNK, Manifest

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
NAME = r"(?P<pid>-1|\d+)_c(?P<camera>[1-9]\d*)s(?P<session>[1-9]\d*)_(?P<frame>\d+)_\d+\.jpg(\.jpg)?"
EXAMPLE = "0002_c1s1_000451_03.jpg (pid -1 or above, camera from 1, session from 1, frame, box)"
FRAMES_PER_SECOND = 25


def read(root: Path, domain: str, *, official_time: bool = False) -> Manifest:
    """Read the names, and lay a camera's sessions end to end, as frame numbers start again in each session.

    Args:
        root: the folder of `bounding_box_train`, `query` and `bounding_box_test`.
        domain: name for the camera network.
        official_time: whether to repeat the times of QAConv's authors, who add the earlier offsets to each session's
            offset again (sessions of 10 frames begin at 0, 10, 30, 70 instead of 0, 10, 20, 30). Default: False.
    """
    rows = read_names(root, FOLDERS, NAME, EXAMPLE)
    starts = _session_starts(rows[rows["pid"] != JUNK], official_time)
    start = [starts.get(session, 0) for session in zip(rows["camera"], rows["session"], strict=True)]
    time_s = (rows["frame"] + start) / FRAMES_PER_SECOND
    frame = rows.assign(camid=rows["camera"] - 1, time_s=time_s, domain=domain)
    return Manifest(frame, root, clocks=_clocks(starts))


def _session_starts(rows: pd.DataFrame, official_time: bool) -> dict[tuple[Any, Any], int]:
    """Compute the frame at which each (camera, session) begins. A session's length is its largest frame number."""
    starts: dict[tuple[Any, Any], int] = {}
    for camera, sessions in rows.groupby("camera"):
        start = 0
        for session, frames in sessions.groupby("session")["frame"].max().items():
            starts[camera, session] = start
            start += frames + (start if official_time else 0)
    return starts


def _clocks(starts: dict[tuple[Any, Any], int]) -> list[dict[str, Any]]:
    """Return a finding for each session after a camera's first, with the time at which the sessions before it end."""
    return [
        {
            "camid": int(camera) - 1,
            "kind": "reset",
            "time_s": start / FRAMES_PER_SECOND,
            "detail": f"session {session} begins anew; {start / FRAMES_PER_SECOND:+.0f} s in it",
            "done": "mended",
        }
        for (camera, session), start in starts.items()
        if start
    ]
