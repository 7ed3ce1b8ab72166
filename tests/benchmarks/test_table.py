import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.table import Bound, Cost, Row, as_table, compare, measure


def test_the_peak_counts_memory_that_a_call_frees_before_it_returns() -> None:
    def allocate_and_free() -> NDArray[np.float64]:
        np.ones(8 << 20)
        return np.ones(1 << 20)

    assert 62 << 20 < measure(allocate_and_free).peak_bytes < 80 << 20  # the kernel counts in batches of pages


def test_the_peak_of_a_call_does_not_count_the_call_before() -> None:
    measure(lambda: np.ones(16 << 20))
    assert measure(lambda: None).peak_bytes < 16 << 20


def test_plain_and_ours_take_turns() -> None:
    called: list[str] = []
    row = compare("nothing", lambda: called.append("plain"), lambda: called.append("ours"), turns=2)
    assert called == ["plain", "ours", "plain", "ours"]
    assert row.plain is not None and row.ratio is not None


def test_the_table_shows_ratio_share_and_rate() -> None:
    row = Row("sum", Cost(2.0, 4_000_000), Cost(0.5, 1_000_000), Bound("copy at 20 GB/s", 0.25), items=100)
    console = Console(width=200, record=True)
    console.print(as_table([("metrics", row)]))
    shown = console.export_text()
    for cell in ("metrics", "sum", "2 s", "0.5 s", "4x", "200", "copy at 20 GB/s", "50%"):
        assert cell in shown
