import logging
import os
import sys
import time
from pathlib import Path

import pytest

from flows.stages import StageFailed, reproduce
from tests.tracked_projects import start_dvc, write

log = logging.getLogger(__name__)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change into an empty DVC project."""
    monkeypatch.chdir(tmp_path)
    start_dvc(tmp_path)
    return tmp_path


def write_stage(folder: Path, script: str) -> None:
    """Write a dvc.yaml with the one stage `work`, a shell script."""
    write(folder / "work.sh", script)
    write(folder / "dvc.yaml", "stages:\n  work:\n    cmd: sh work.sh\n    deps: [work.sh]\n    outs: [made]\n")


def test_each_line_of_the_output_is_logged(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_stage(project, "echo one; echo two >&2; touch made")
    with caplog.at_level(logging.INFO):
        reproduce(["work"], log)
    assert {"one", "two"} < set(caplog.messages)
    assert (project / "made").is_file()


@pytest.mark.parametrize("alone", [True, False])
def test_stages_run_alone_in_the_order_that_they_are_named_in_or_with_what_they_depend_on(
    alone: bool, project: Path
) -> None:
    stage = "  {name}:\n    cmd: echo {name} >>order; touch {name}\n    deps: [{dep}]\n    outs: [{name}]\n"
    (project / "data").touch()
    (project / "first").touch()
    chain = [
        stage.format(name=name, dep=dep) for name, dep in (("third", "second"), ("second", "first"), ("first", "data"))
    ]
    write(project / "dvc.yaml", "stages:\n" + "".join(chain))
    reproduce(["second", "third"], log, alone=alone)
    assert (project / "order").read_text().split() == ["first", "second", "third"][alone:]


def test_refused_input_fails_with_the_stages_own_message_and_the_files_it_names(project: Path) -> None:
    write_stage(project, "echo reads; printf 'refused: shop: 2 images are broken:\n  a.jpg\n  b.jpg\n' >&2; exit 2")
    with pytest.raises(StageFailed) as failure:
        reproduce(["work"], log)
    assert str(failure.value) == "refused: shop: 2 images are broken:\n  a.jpg\n  b.jpg"


def test_a_crash_fails_with_its_last_lines(project: Path) -> None:
    write_stage(project, "echo 'ZeroDivisionError: division by zero' >&2; exit 1")
    with pytest.raises(StageFailed, match="ZeroDivisionError: division by zero\nERROR: failed to reproduce 'work'"):
        reproduce(["work"], log)


def test_a_stage_that_dvc_does_not_know_fails_with_dvcs_message(project: Path) -> None:
    write_stage(project, "touch made")
    with pytest.raises(StageFailed, match="Stage 'wrok' not found"):
        reproduce(["wrok"], log)


def test_stages_find_this_environments_commands_whatever_the_path_is(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.defpath)
    write_stage(project, "command -v qaconv > made")
    reproduce(["work"], log)
    assert Path((project / "made").read_text().strip()).parent == Path(sys.executable).parent


def test_a_cancelled_flow_leaves_no_stage_running(project: Path) -> None:
    class Cancelled(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == "training":
                raise KeyboardInterrupt

    write_stage(project, "echo $$ > pid; echo training; sleep 60; touch made")
    cancelled = logging.Logger("cancelled", logging.INFO)
    cancelled.addHandler(Cancelled())
    with pytest.raises(KeyboardInterrupt):
        reproduce(["work"], cancelled)
    pid = (project / "pid").read_text().strip()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
