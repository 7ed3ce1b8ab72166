"""A plain call and ours go in; what each costs, and how near ours is to what the machine can do, comes out as a row.

Time is the median of turns, plain and ours alternating in one process. Memory is how far a call raises the resident
set above where it stood (Linux's VmHWM, reset before each call); pages of mapped files count, other processes do not.
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
REST_S = 0.05  # before a call: OpenMP's threads go on spinning after the last one, and would take a core from it


@dataclass(frozen=True)
class Cost:
    """What one call takes."""

    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Bound:
    """What no program on this machine can beat."""

    name: str  # of the rate and its size, such as "sgemm at 140 GFLOP/s"
    seconds: float  # the work divided by that rate


@dataclass(frozen=True)
class Row:
    """One thing measured; `items` is how many of it a call does, `note` what a reader must know to believe it."""

    what: str
    plain: Cost | None
    ours: Cost
    bound: Bound | None = None
    items: int | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times faster ours is."""
        return self.plain.seconds / self.ours.seconds if self.plain else None

    @property
    def share(self) -> float | None:
        """Of the bound that ours reaches, in [0, 1]."""
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
    """Calls `plain` and `ours` in turns; without `plain`, ours alone. The peak is the highest of all turns."""
    costs: dict[Call, list[Cost]] = {call: [] for call in (plain, ours) if call}
    for _ in range(turns):
        for call, of in costs.items():
            of.append(measure(call))
    middle = {
        call: Cost(median(cost.seconds for cost in of), max(cost.peak_bytes for cost in of))
        for call, of in costs.items()
    }
    return Row(what, middle[plain] if plain else None, middle[ours], bound, items, note)


def measure(call: Call) -> Cost:
    """Calls once; what it returns is dropped only after the peak has been read."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # freed memory that is kept would hide as much of the call's own
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is resident now
    time.sleep(REST_S)
    before, started = _resident("VmRSS"), time.perf_counter()
    kept = call()
    seconds = time.perf_counter() - started
    peak = _resident("VmHWM")
    del kept
    return Cost(seconds, max(0, peak - before))


def as_table(rows: Iterable[tuple[str, Row]]) -> Table:
    """Rows with the name of their part, for people."""
    table = Table(title="plain against ours", title_justify="left")
    for column in ("part", "what"):
        table.add_column(column)
    for column in ("plain", "ours", "ratio", "plain MB", "our MB", "items/s"):
        table.add_column(column, justify="right")
    for column in ("bound", "share", "note"):
        table.add_column(column)
    last = None
    for part, row in rows:
        plain, ratio, share, bound = row.plain, row.ratio, row.share, row.bound
        table.add_row(
            part if part != last else "",
            row.what,
            _seconds(plain.seconds) if plain else "",
            _seconds(row.ours.seconds),
            f"{ratio:.3g}x" if ratio else "",
            f"{plain.peak_bytes / 1e6:,.0f}" if plain else "",
            f"{row.ours.peak_bytes / 1e6:,.0f}",
            f"{row.items / row.ours.seconds:,.0f}" if row.items else "",
            bound.name if bound else "",
            f"{share:.0%}" if share else "",
            row.note,
            end_section=False,
        )
        last = part
    return table


def _resident(field: str) -> int:
    """Bytes of this process's memory, now (VmRSS) or at most since the reset (VmHWM)."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None  # Linux has both
    return int(found[1]) * 1024


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 0.1 else f"{1000 * value:.3g} ms"
