"""Keep the results of a run: checks with their limits, figures of speed, and one JSON file that is always complete."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.gpu.parts import PARTS
from qaconv.files import write_json

ORDER = {part.name: number for number, part in enumerate(PARTS)}


@dataclass(frozen=True)
class Check:
    """A comparison that passes if `measured` is at most `limit`."""

    name: str
    passed: bool
    measured: float | None = None
    limit: float | None = None
    note: str = ""
    error: str = ""  # the traceback of an exception
    part: str = ""


@dataclass(frozen=True)
class Figure:
    """A measurement of speed. If it was not possible, `value` is None and `note` gives the reason."""

    name: str
    value: float | None
    unit: str
    seconds: float | None = None  # of one call
    bound: str = ""  # what limits every program on this card, in words
    bound_seconds: float | None = None
    plain_seconds: float | None = None  # of the plain form of the same work
    peak_bytes: int | None = None  # of GPU memory
    note: str = ""
    part: str = ""

    @property
    def share_of_bound(self) -> float | None:
        """Return the fraction of the bound that is reached, in [0, 1]."""
        return self.bound_seconds / self.seconds if self.bound_seconds and self.seconds else None


Row = Check | Figure


def at_most(name: str, measured: float, limit: float, note: str = "") -> Check:
    """Make a check that passes if `measured` is at most `limit`. NaN does not pass."""
    return Check(name, bool(measured <= limit), float(measured), float(limit), note)


@dataclass
class Record:
    """The results so far, and the file that holds them."""

    path: Path
    rehearsal: bool
    machine: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # by part, of those that ended
    rows: list[Row] = field(default_factory=list)

    @property
    def failed(self) -> list[Check]:
        return [row for row in self.rows if isinstance(row, Check) and not row.passed]

    def add(self, part: str, rows: list[Row], seconds: float) -> None:
        """Add the rows of a part, and write the file."""
        self.rows += [self._marked(replace(row, part=part)) for row in rows]
        self.seconds[part] = seconds
        self.save()

    def save(self) -> None:
        """Write the file."""
        content = {
            "rehearsal": self.rehearsal,
            "machine": self.machine,
            "seconds": self.seconds,
            "checks": [asdict(row) for row in self.rows if isinstance(row, Check)],
            "figures": [
                {**asdict(row), "share_of_bound": row.share_of_bound} for row in self.rows if isinstance(row, Figure)
            ],
        }
        write_json(self.path, _finite(content))

    @classmethod
    def load(cls, path: Path) -> "Record":
        """Read what `save` wrote; checks come before figures."""
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {field.name for field in fields(Figure)}
        figures = ({name: value for name, value in each.items() if name in names} for each in content["figures"])
        rows: list[Row] = [Check(**each) for each in content["checks"]]
        rows += [Figure(**each) for each in figures]
        return cls(path, content["rehearsal"], content["machine"], content["seconds"], rows)

    def table(self) -> Table:
        """Lay out all rows as a table for people."""
        table = Table(title="GPU check", title_justify="left")
        for column in ("part", "what", "result", "value", "limit or plain", "bound", "peak GB", "note"):
            table.add_column(column, justify="right" if column in ("value", "peak GB") else "left")
        for part, row in _by_part(sorted(self.rows, key=lambda row: ORDER.get(row.part, -1))):
            table.add_row(part, row.name, *(_check_cells(row) if isinstance(row, Check) else _figure_cells(row)))
        return table

    def _marked(self, row: Row) -> Row:
        if not self.rehearsal or isinstance(row, Check):
            return row
        return replace(row, note=f"rehearsal; {row.note}" if row.note else "rehearsal")


def _by_part(rows: list[Row]) -> Iterator[tuple[str, Row]]:
    """Yield each row with the name of its part, which is empty except at the part's first row."""
    last = None
    for row in rows:
        yield row.part if row.part != last else "", row
        last = row.part


def _check_cells(row: Check) -> tuple[str, ...]:
    measured = "" if row.measured is None else f"{row.measured:.2g}"
    limit = "" if row.limit is None else f"<= {row.limit:.2g}"
    return ("passed" if row.passed else "FAILED", measured, limit, "", "", row.note)


def _figure_cells(row: Figure) -> tuple[str, ...]:
    value = "" if row.value is None else f"{row.value:,.4g} {row.unit}"
    plain = ""
    if row.plain_seconds and row.seconds:
        plain = f"plain {1000 * row.plain_seconds:,.3g} ms, {row.plain_seconds / row.seconds:.3g}x"
    share = "" if row.share_of_bound is None else f"{row.share_of_bound:.0%} of {row.bound}"
    taken = "" if row.seconds is None else f"{1000 * row.seconds:,.3g} ms"
    peak = "" if row.peak_bytes is None else f"{row.peak_bytes / 1e9:.2f}"
    return (taken, value, plain, share, peak, row.note)


def _finite(value: Any) -> Any:
    """Replace NaN and infinity by null, as JSON has neither."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
