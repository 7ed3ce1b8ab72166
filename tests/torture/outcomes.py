"""Count what happens in a run, and what must never happen."""

from collections import Counter
from datetime import datetime

from rich.console import Console
from rich.table import Table

FAULTS = (
    "lost",
    "came back",
    "doubled",
    "enrolled in part",
    "not in memory",
    "bytes left",
    "kept too long",
    "refused",
    "wrong champion",
    "half a change",
    "not completed",
)


class Outcomes:
    """Counts by name; those of FAULTS must stay 0."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def fault(self, kind: str, what: object) -> None:
        """Count and print a fault."""
        assert kind in FAULTS, kind
        self.counts[kind] += 1
        self.say(f"{kind}: {what}")

    def say(self, message: str) -> None:
        """Print a line with the time."""
        Console(stderr=True, soft_wrap=True, markup=False).print(f"{datetime.now():%H:%M:%S} {message}")

    @property
    def any_fault(self) -> bool:
        """Return whether something happened that must not."""
        return any(self.counts[name] for name in FAULTS)

    def print(self, title: str) -> None:
        """Print the table, the faults last."""
        table = Table("outcome", "count", title=title)
        for name in [*(name for name in self.counts if name not in FAULTS), *FAULTS]:
            table.add_row(name, str(self.counts[name]))
        Console().print(table)
