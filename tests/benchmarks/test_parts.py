from importlib import import_module

from benchmarks.__main__ import PARTS


def test_every_part_of_the_benchmark_yields_rows() -> None:
    assert [part for part in PARTS if not callable(getattr(import_module(f"benchmarks.{part}"), "rows", None))] == []
