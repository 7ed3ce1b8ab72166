import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from qaconv import progress
from tests.training.small_trainings import PAIRWISE, RECIPE, draw_people, run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let 7 seconds pass with each look at the clock."""
    now = 0.0

    def monotonic() -> float:
        nonlocal now
        now += 7.0
        return now

    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=monotonic))


def logged_lines(caplog: pytest.LogCaptureFixture, items: int, *, disable: bool = False) -> list[str]:
    caplog.set_level(logging.INFO, "qaconv.progress")
    assert list(progress.track(range(items), "encode", disable=disable)) == list(range(items))
    return [record.getMessage() for record in caplog.records]


@pytest.mark.usefixtures("clock")
def test_a_loop_without_a_terminal_logs_a_line_every_half_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    assert logged_lines(caplog, 12) == ["encode: 5 of 12", "encode: 10 of 12"]


def test_a_short_loop_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert logged_lines(caplog, 12) == []


@pytest.mark.usefixtures("clock")
def test_a_loop_on_a_terminal_logs_nothing(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert logged_lines(caplog, 12) == []


@pytest.mark.usefixtures("clock")
def test_a_loop_with_progress_disabled_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert logged_lines(caplog, 12, disable=True) == []


def test_a_training_without_a_terminal_logs_epoch_step_loss_and_rate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.0)
    caplog.set_level(logging.INFO, "qaconv.training.trainer")
    run(draw_people(tmp_path / "people"), tmp_path / "state.pt", RECIPE, PAIRWISE)
    lines = [record.getMessage() for record in caplog.records if ", step " in record.getMessage()]
    pattern = r"epoch \d+ of \d+, step \d+ of \d+: loss \d\S*, \d+ images/s"
    assert lines and all(re.fullmatch(pattern, line) for line in lines)
