"""Draw a profile, and write the data of each picture next to it."""

from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from qaconv.files import replacing_file
from qaconv.tables import Table, row_blocks
from qaconv.tlift.profile import TLiftProfile
from qaconv.tlift.transit import BIN, SCALE

matplotlib.use("Agg")
WINDOW_SECONDS = 600.0  # drawn on either side of the centre of a pair of cameras
MAX_CAMERAS = 10  # in the grid
BLUE, GREY = "#1f6fb4", "#8a8a8a"


def draw_profile(profile: TLiftProfile, folder: Path, name: str) -> None:
    """Write <name>_transit and <name>_comovement, each as .png and .csv; nothing for a profile without transit times.

    Args:
        profile: fitted.
        folder: must exist.
        name: of the model.
    """
    if not profile.transit.log_ratio:
        return
    transit, comovement = transit_frame(profile), comovement_frame(profile)
    for kind, frame, figure in (
        ("transit", transit, _transit_grid(profile, transit)),
        ("comovement", comovement, _comovement_curve(profile, comovement)),
    ):
        with replacing_file(folder / f"{name}_{kind}.csv") as unfinished:
            frame.to_csv(unfinished, index=False, lineterminator="\n", float_format="%.4f")
        with replacing_file(folder / f"{name}_{kind}.png") as unfinished:
            figure.savefig(unfinished, format="png", dpi=80, metadata={"Software": None})


def draw_rank_changes(
    before: Table, after: Table, camids: ArrayLike, times: ArrayLike, folder: Path, name: str
) -> None:
    """Write <name>_ranks.png and .csv: how the lift changed the first ranks along the day; this needs no label.

    Args:
        before: scores [Q, G].
        after: lifted scores [Q, G].
        camids: of the queries, [Q].
        times: of the queries in seconds, [Q].
        folder: must exist.
        name: of the model.
    """
    frame = rank_frame(before, after, camids, times)
    with replacing_file(folder / f"{name}_ranks.csv") as unfinished:
        frame.to_csv(unfinished, index=False, lineterminator="\n", float_format="%.4f")
    with replacing_file(folder / f"{name}_ranks.png") as unfinished:
        _rank_changes(frame).savefig(unfinished, format="png", dpi=80, metadata={"Software": None})


def rank_frame(before: Table, after: Table, camids: ArrayLike, times: ArrayLike) -> pd.DataFrame:
    """Return one row for each query by time: the old rank of the image that is first now, and the reverse."""
    ranks = np.empty((2, before.shape[0]), dtype=np.int64)
    for rows in row_blocks(before.shape):
        tables = before[rows], after[rows]
        firsts = [table.argmax(axis=1) for table in tables]
        for side, (table, first) in enumerate(zip(tables, reversed(firsts), strict=True)):
            ranks[side, rows] = 1 + (table > np.take_along_axis(table, first[:, None], axis=1)).sum(axis=1)
    frame = pd.DataFrame({"camid": camids, "time_s": times, "new_first_was": ranks[0], "old_first_is": ranks[1]})
    return frame.sort_values(["time_s", "camid"], kind="stable", ignore_index=True)


def transit_frame(profile: TLiftProfile) -> pd.DataFrame:
    """Return one row for each pair of cameras and bin: gap_s on their clocks, from_centre_s, log likelihood ratio."""
    edges = np.arange(-profile.transit.reach, profile.transit.reach + BIN / 2, BIN)
    from_centre = SCALE * np.sinh((edges[:-1] + edges[1:]) / 2)
    frames = [
        pd.DataFrame(
            {"camera": a, "other": b, "gap_s": centre + from_centre, "from_centre_s": from_centre, "log_ratio": row}
        )
        for (a, b), centre, row in zip(
            combinations(profile.camids, 2), profile.transit.centres, profile.transit.log_ratio, strict=True
        )
        if centre is not None
    ]
    columns = ["camera", "other", "gap_s", "from_centre_s", "log_ratio"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def comovement_frame(profile: TLiftProfile) -> pd.DataFrame:
    """Return one row for each bin of time between two people: pairs, share that stays together, the same by chance."""
    curve = profile.evidence["comovement"]
    return pd.DataFrame(
        {"from_s": curve["edges"][:-1], "to_s": curve["edges"][1:]}
        | {name: curve[name] for name in ("pairs", "together", "control")}
    )


def _transit_grid(profile: TLiftProfile, frame: pd.DataFrame) -> Figure:
    """Draw the log likelihood ratio of each gap in row a and column b > a, all on one scale."""
    camids = profile.camids[:MAX_CAMERAS]
    side = max(2, len(camids))
    figure = Figure(figsize=(1.9 * (side - 1) + 0.8, 1.5 * (side - 1) + 1.0), layout="constrained")
    grid = figure.subplots(side - 1, side - 1, squeeze=False, sharey=True)
    for axes in grid.ravel():
        axes.set_visible(False)
    top = max(2.0, float(frame["log_ratio"].max()) * 1.05) if len(frame) else 2.0
    for (a, b), part in frame.groupby(["camera", "other"]):
        if a not in camids or b not in camids:
            continue
        axes = grid[camids.index(a)][camids.index(b) - 1]
        near = part[part["from_centre_s"].abs() <= WINDOW_SECONDS]
        axes.set_visible(True)
        axes.fill_between(near["gap_s"], near["log_ratio"], 0, color=BLUE, alpha=0.35, linewidth=0)
        axes.plot(near["gap_s"], near["log_ratio"], color=BLUE, linewidth=0.9)
        axes.axhline(0, color=GREY, linewidth=0.6)
        names = profile.cameras
        axes.set_title(f"{names[a]} to {names[b]}" if names else f"camera {a} to {b}", fontsize=8)
        axes.tick_params(labelsize=6)
        axes.set_ylim(-5, top)
    figure.suptitle(f"{profile.target}: log of transit times against chance", fontsize=10)
    figure.supxlabel("seconds from the first camera's clock to the second's", fontsize=8)
    return figure


def _rank_changes(frame: pd.DataFrame) -> Figure:
    """Draw the old ranks of the images that are first now, and the new ranks of those that were first."""
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    rows = figure.subplots(2, 1, sharex=True)
    for axes, column, label in zip(
        rows, ("new_first_was", "old_first_is"), ("first now: rank before", "first before: rank now"), strict=True
    ):
        moved = frame[column] > 1
        axes.scatter(frame["time_s"][~moved] / 3600, frame[column][~moved], s=5, color=GREY)
        axes.scatter(frame["time_s"][moved] / 3600, frame[column][moved], s=7, color=BLUE)
        axes.set_yscale("log")
        axes.set_ylim(max(2.0, float(frame[column].max())) * 1.3, 0.8)
        axes.set_ylabel(label, fontsize=8)
        axes.set_title(f"{int(moved.sum())} of {len(frame)} queries moved", fontsize=9)
        axes.tick_params(labelsize=7)
    rows[1].set_xlabel("hours, when the query was seen", fontsize=8)
    return figure


def _comovement_curve(profile: TLiftProfile, frame: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    axes = figure.subplots()
    labels = [f"{row.from_s:g}-{row.to_s:g}" for row in frame.itertuples()]
    axes.plot(labels, frame["together"], marker="o", color=BLUE, label="as seen")
    axes.plot(labels, frame["control"], marker="o", color=GREY, linestyle="--", label="walks permuted")
    for position, row in enumerate(frame.itertuples()):
        axes.annotate(
            f"{row.pairs}", (position, row.together), textcoords="offset points", xytext=(0, 6), fontsize=7, ha="center"
        )
    axes.set_ylim(-0.03, 1.1)
    axes.set_xlabel("seconds between two people on one camera", fontsize=8)
    axes.set_ylabel("share within 10 s on the next", fontsize=8)
    axes.set_title(f"{profile.target}: who walks together (pairs of matches)", fontsize=10)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=8)
    return figure
