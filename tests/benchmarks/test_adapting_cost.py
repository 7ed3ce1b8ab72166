from collections.abc import Iterator
from itertools import count

import pytest

from benchmarks import adapting_cost
from benchmarks.adapting_cost import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock whose every reading is a second later on the wall, and half a second on the processor."""
    wall, processor = count(), count()
    monkeypatch.setattr("benchmarks.adapting_cost.time.perf_counter", lambda: float(next(wall)))
    monkeypatch.setattr("benchmarks.adapting_cost.time.process_time", lambda: next(processor) / 2)
    return Clock()


def test_a_part_within_a_part_is_counted_once(clock: Clock) -> None:
    with clock.part("train"), clock.part("read"), clock.part("decode"):
        pass
    assert clock.taken == {"decode": [1, 0.5], "read": [2, 1.0], "train": [2, 1.0]}


def test_the_time_until_each_batch_is_there_is_reading_and_the_rest_is_not(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(reader: object, state: object) -> Iterator[str]:
        yield from "ab"

    monkeypatch.setattr(adapting_cost, "READ_BATCHES", read)
    with clock.part("train: steps"):
        assert list(clock.read_batches(None, None)) == ["a", "b"]
    reading = clock.taken["train: read and augment images"]
    assert reading == [3, 1.5]
    assert clock.taken["train: steps"] == [7 - reading[0], 3.5 - reading[1]]
