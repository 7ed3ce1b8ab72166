"""Show the progress of a long loop: a bar on a terminal, and elsewhere a log line every half a minute."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track as show_bar

Item = TypeVar("Item")

LOG_EVERY_S = 30.0  # seconds between two lines


class PeriodicLog:
    """Log at most one line every LOG_EVERY_S seconds, and none where stdout is a terminal.

    Args:
        log: logger of the lines.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        """Return whether a line would be logged now."""
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
    """Yield items, and show how many are done.

    Args:
        items: items of the loop.
        description: name of the work, such as "match 10 x 20".
        total: number of items. Default: their length.
        console: console of the bar. Default: stdout.
        disable: show nothing. Default: show progress.
    """
    if total is None:
        total = len(items)  # type: ignore[arg-type]
    report = PeriodicLog(logging.getLogger(__name__))
    for done, item in enumerate(show_bar(items, description, total, console=console, disable=disable), start=1):
        yield item
        if not disable:
            report("%s: %d of %d", description, done, total)
