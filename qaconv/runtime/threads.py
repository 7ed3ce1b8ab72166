"""Spread work that releases Python's lock over threads."""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

SHARES_PER_THREAD = 4  # so that no thread waits long for the slowest


def default_threads() -> int:
    """Return torch's number of threads where torch is loaded, else OMP_NUM_THREADS or the number of usable cores."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        return int(torch.get_num_threads())
    requested = os.environ.get("OMP_NUM_THREADS", "")
    if requested.isdecimal() and int(requested):
        return int(requested)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_out(call: Callable[[int, int], object], count: int, threads: int | None = None) -> None:
    """Call a function for consecutive parts of 0..count, in threads that stay alive between calls.

    Args:
        call: a function of a part's first index and the index after its last.
        count: number of items.
        threads: number of threads. Default: `default_threads()`.
    """
    threads = threads or default_threads()
    if threads == 1:
        if count:
            call(0, count)
        return
    share = max(1, -(-count // (SHARES_PER_THREAD * threads)))
    starts = range(0, count, share)
    list(_pool(threads).map(lambda first: call(first, min(first + share, count)), starts))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Keep the threads: to start them would take longer than to match a small block."""
    return ThreadPoolExecutor(threads, thread_name_prefix="qaconv")


os.register_at_fork(after_in_child=_pool.cache_clear)
