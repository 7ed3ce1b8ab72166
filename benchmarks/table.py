"""Compare the time and memory of a plain implementation with the project's, and with the machine's bound.

Time is the median of turns, in which the two alternate in one process. Memory is the increase of the resident set
during a call (Linux's VmHWM, reset before each call); pages of mapped files count, other processes do not.
"""

import ctypes
import gc
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

Call = Callable[[], object]
REST_S = 0.05  # seconds before a call: OpenMP's threads still spin after the last call, and would occupy a core


@dataclass(frozen=True)
class Cost:
    """Time and memory of one call."""

    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Bound:
    """The least time that any program needs on this machine."""

    name: str  # the rate and its size, such as "sgemm at 140 GFLOP/s"
    seconds: float  # the work divided by the rate


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        what: name of the measurement.
        plain: cost of the plain implementation, if there is one.
        ours: cost of the project's implementation.
        bound: the machine's bound, if it is known.
        items: number of items that a call processes.
        note: conditions that a reader needs to judge the measurement.
    """

    what: str
    plain: Cost | None
    ours: Cost
    bound: Bound | None = None
    items: int | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Speed-up over the plain implementation."""
        return self.plain.seconds / self.ours.seconds if self.plain else None

    @property
    def share(self) -> float | None:
        """Fraction of the bound's speed that is reached, in [0, 1]."""
        return self.bound.seconds / self.ours.seconds if self.bound else None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio, "share_of_bound": self.share}


def compare(
    what: str,
    plain: Call | None,
    ours: Call,
    *,
    turns: int = 3,
    bound: Bound | None = None,
    items: int | None = None,
    note: str = "",
) -> Row:
    """Call `plain`, if given, and `ours` in turns, and return the median times and the highest peaks.

    Args:
        what: name of the measurement.
        plain: the plain implementation.
        ours: the project's implementation.
        turns: number of calls of each. Default: 3.
        bound: the machine's bound.
        items: number of items that a call processes.
        note: conditions that a reader needs to judge the measurement.
    """
    costs: dict[Call, list[Cost]] = {call: [] for call in (plain, ours) if call}
    for _ in range(turns):
        for call, measured in costs.items():
            measured.append(measure(call))
    summaries = {
        call: Cost(median(cost.seconds for cost in measured), max(cost.peak_bytes for cost in measured))
        for call, measured in costs.items()
    }
    return Row(what, summaries[plain] if plain else None, summaries[ours], bound, items, note)


def measure(call: Call) -> Cost:
    """Call once, and keep the result until the peak has been read."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # freed memory that malloc keeps would hide as much of the call's memory
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the memory that is resident now
    time.sleep(REST_S)
    before = _resident("VmRSS")
    started = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - started
    peak = _resident("VmHWM")
    del result
    return Cost(seconds, max(0, peak - before))


def as_table(rows: Iterable[tuple[str, Row]]) -> Table:
    """Return a table of rows, each with the name of its part."""
    table = Table(title="plain against ours", title_justify="left")
    for column in ("part", "what"):
        table.add_column(column)
    for column in ("plain", "ours", "ratio", "plain MB", "our MB", "items/s"):
        table.add_column(column, justify="right")
    for column in ("bound", "share", "note"):
        table.add_column(column)
    last = None
    for part, row in rows:
        plain = row.plain
        bound = row.bound
        table.add_row(
            part if part != last else "",
            row.what,
            _seconds(plain.seconds) if plain else "",
            _seconds(row.ours.seconds),
            f"{row.ratio:.3g}x" if row.ratio else "",
            f"{plain.peak_bytes / 1e6:,.0f}" if plain else "",
            f"{row.ours.peak_bytes / 1e6:,.0f}",
            f"{row.items / row.ours.seconds:,.0f}" if row.items else "",
            bound.name if bound else "",
            f"{row.share:.0%}" if row.share else "",
            row.note,
            end_section=False,
        )
        last = part
    return table


def _resident(field: str) -> int:
    """Return the bytes of this process's memory now (VmRSS), or at most since the reset (VmHWM)."""
    match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None  # Linux has both
    return int(match[1]) * 1024


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 0.1 else f"{1000 * value:.3g} ms"
