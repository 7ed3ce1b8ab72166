"""Show how far a long loop is: a bar on a terminal, a line of log every half a minute elsewhere."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track as show_bar

Item = TypeVar("Item")

LOG_EVERY_S = 30.0


class PeriodicLog:
    """Log at most one line every LOG_EVERY_S seconds, and none where stdout is a terminal.

    Args:
        log: where the lines go.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log, self._last = log, time.monotonic()

    @property
    def due(self) -> bool:
        """Whether a line would be logged now."""
        return time.monotonic() - self._last >= LOG_EVERY_S and not sys.stdout.isatty()

    def __call__(self, message: str, *values: object) -> None:
        if self.due:
            self._log.info(message, *values)
            self._last = time.monotonic()


def track(
    items: Iterable[Item],
    description: str,
    total: int | None = None,
    *,
    console: Console | None = None,
    disable: bool = False,
) -> Iterator[Item]:
    """Yield the items, and show how many are done.

    Args:
        items: what a loop goes through.
        description: what the loop does.
        total: number of items. Default: their length.
        console: where the bar goes. Default: stdout.
        disable: show nothing.
    """
    if total is None:
        total = len(items)  # type: ignore[arg-type]
    report = PeriodicLog(logging.getLogger(__name__))
    for done, item in enumerate(show_bar(items, description, total, console=console, disable=disable), start=1):
        yield item
        if not disable:
            report("%s: %d of %d", description, done, total)
