import logging
import re
from types import SimpleNamespace

import pytest

from qaconv import progress
from tests.training.small_trainings import PAIRWISE, RECIPE, draw_people, run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """Seconds that pass by themselves: 7 with each look at the clock."""
    now = [0.0]

    def look() -> float:
        now[0] += 7.0
        return now[0]

    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=look))
    return now


def lines_of(caplog: pytest.LogCaptureFixture, items: int, **options: bool) -> list[str]:
    caplog.set_level(logging.INFO, "qaconv.progress")
    assert list(progress.track(range(items), "encode", **options)) == list(range(items))
    return [record.getMessage() for record in caplog.records]


def test_a_loop_without_a_terminal_logs_a_line_every_half_a_minute(clock, caplog) -> None:
    assert lines_of(caplog, 12) == ["encode: 5 of 12", "encode: 10 of 12"]


def test_a_loop_that_is_soon_done_logs_nothing(caplog) -> None:
    assert lines_of(caplog, 12) == []


def test_a_loop_on_a_terminal_logs_nothing(clock, caplog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.sys.stdout, "isatty", lambda: True, raising=False)
    assert lines_of(caplog, 12) == []


def test_a_loop_whose_progress_is_not_wanted_logs_nothing(clock, caplog) -> None:
    assert lines_of(caplog, 12, disable=True) == []


def test_a_training_without_a_terminal_logs_epoch_step_loss_and_rate(
    tmp_path, caplog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.0)
    caplog.set_level(logging.INFO, "qaconv.training.trainer")
    run(draw_people(tmp_path / "people"), tmp_path / "state.pt", RECIPE, PAIRWISE)
    lines = [record.getMessage() for record in caplog.records if ", step " in record.getMessage()]
    pattern = r"epoch \d+ of \d+, step \d+ of \d+: loss \d\S*, \d+ images/s"
    assert lines and all(re.fullmatch(pattern, line) for line in lines)
