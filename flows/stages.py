"""Names of stages in dvc.yaml go in; they are up to date when it ends, or it says in a stage's own words why not."""

import logging
import os
import signal
import subprocess
from collections import deque
from collections.abc import Sequence

from qaconv.processes import child_environment

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]

KEPT_LINES = 200  # of the output, to look for the reason of a failure
LINE_WIDTH = "160"  # of the stages' log, which would be wrapped for a narrow terminal otherwise


class StageFailed(RuntimeError):
    """A stage has refused its input or has crashed; the message is its own."""


def reproduce(stages: Sequence[str], log: Logger, *, pull: bool = False) -> None:
    """Runs `dvc repro` in the working folder.

    Args:
        stages: names in dvc.yaml; the name of a `foreach` stands for all of its stages.
        log: where the output goes.
        pull: whether what other clones have pushed is used, outputs and run cache.

    Raises:
        StageFailed: DVC or a stage has failed.
    """
    run_dvc(["repro", *(["--pull"] if pull else []), *stages], log)


def pull_tracked(log: Logger) -> None:
    """Brings the data that people or `flows/ingest.py` gave to DVC: no stage makes it, so no run cache has it."""
    listed = subprocess.run(["git", "ls-files", "*.dvc"], capture_output=True, text=True, check=True).stdout
    if listed:
        run_dvc(["pull", "--force", *listed.splitlines()], log)


def run_dvc(arguments: Sequence[str], log: Logger) -> None:
    """Runs a command of DVC in the working folder, each line of its output into `log` as it comes.

    Raises:
        StageFailed: it has failed.
    """
    said: deque[str] = deque(maxlen=KEPT_LINES)
    command = ["dvc", "--wait-for-lock", *arguments]
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
                said.append(line)
                if line:
                    log.info("%s", line)
        except BaseException:
            # A cancelled flow must not leave a training behind: DVC and what it started are one group of processes.
            os.killpg(process.pid, signal.SIGTERM)
            raise
    if process.returncode:
        raise StageFailed(_reason(list(said)) or f"{' '.join(command)} ended with {process.returncode}")


def dvc_environment() -> dict[str, str]:
    """Return the environment of DVC's commands, whose output is read line by line."""
    return child_environment(COLUMNS=LINE_WIDTH, PYTHONUNBUFFERED="1")


def _reason(lines: list[str]) -> str:
    """What a stage refused, which may be a list of files below one line; for a crash the last lines."""
    end = next((at for at, line in enumerate(lines) if line.startswith("ERROR: failed to reproduce")), len(lines))
    refused = [at for at in range(end) if lines[at].startswith("refused: ")]
    told = lines[refused[-1] : end] if refused else lines[-3:]
    return "\n".join(told).strip()
