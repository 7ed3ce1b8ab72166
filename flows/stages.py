"""Run DVC's stages in the working folder, with a stage's own error message if it fails."""

import logging
import os
import signal
import subprocess
from collections import deque
from collections.abc import Sequence

from qaconv.processes import child_environment

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]

KEPT_LINES = 200  # last lines of the output, which are searched for the reason of a failure
LINE_WIDTH = "160"  # columns of the stages' log, which would be wrapped for a narrow terminal otherwise


class StageFailed(RuntimeError):
    """A stage has rejected its input or has crashed; the message is the stage's own."""


def reproduce(stages: Sequence[str], log: Logger, *, pull: bool = False, alone: bool = False) -> None:
    """Run `dvc repro` in the working folder.

    Args:
        stages: names in dvc.yaml; the name of a `foreach` stands for all of its stages.
        log: logger of the output.
        pull: use outputs and run cache that other clones have pushed. Default: no.
        alone: leave out what they depend on, which is up to date already; DVC runs them in the order that they are
            named in. Default: no.

    Raises:
        StageFailed: DVC or a stage has failed.
    """
    options = [*(["--pull"] if pull else []), *(["--single-item"] if alone else [])]
    run_dvc(["repro", *options, *stages], log)


def pull_tracked(log: Logger) -> None:
    """Pull the data that people or `flows/ingest.py` added to DVC: no stage makes it, so no run cache has it."""
    listed = subprocess.run(["git", "ls-files", "*.dvc"], capture_output=True, text=True, check=True).stdout
    if listed:
        run_dvc(["pull", "--force", *listed.splitlines()], log)


def run_dvc(arguments: Sequence[str], log: Logger) -> None:
    """Run a DVC command in the working folder.

    Raises:
        StageFailed: the command has failed.
    """
    run_logged(["dvc", "--wait-for-lock", *arguments], log)


def run_logged(command: Sequence[str], log: Logger) -> None:
    """Run a command in the working folder, and log each line of its output at once.

    Raises:
        StageFailed: the command has failed.
    """
    lines: deque[str] = deque(maxlen=KEPT_LINES)
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=dvc_environment(),
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            for line in map(str.rstrip, process.stdout):
                lines.append(line)
                if line:
                    log.info("%s", line)
        except BaseException:
            # A cancelled flow must not leave a training running: DVC and its children are one process group.
            os.killpg(process.pid, signal.SIGTERM)
            raise
    if process.returncode:
        raise StageFailed(_failure_message(list(lines)) or f"{' '.join(command)} ended with {process.returncode}")


def dvc_environment() -> dict[str, str]:
    """Return the environment of DVC's commands, whose output is read line by line."""
    return child_environment(COLUMNS=LINE_WIDTH, PYTHONUNBUFFERED="1")


def _failure_message(lines: list[str]) -> str:
    """Return a stage's `refused: ` message with the files listed below it, or the last lines of a crash."""
    end = next((row for row, line in enumerate(lines) if line.startswith("ERROR: failed to reproduce")), len(lines))
    refusals = [row for row in range(end) if lines[row].startswith("refused: ")]
    message = lines[refusals[-1] : end] if refusals else lines[-3:]
    return "\n".join(message).strip()
