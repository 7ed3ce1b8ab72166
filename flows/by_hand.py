"""Run a flow by hand: look for its servers first, and end with one message where a person can correct the fault."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.settings import get_current_settings
from rich.console import Console

from flows.stages import StageFailed
from qaconv.config import load_params
from qaconv.failures import explain, require_answer
from qaconv.registry import runs


def require_servers() -> None:
    """Check that MLflow and Prefect answer and take new runs, as their clients would try again for minutes.

    Raises:
        InputError: one of them does not answer, or the experiment was deleted.
    """
    if url := get_current_settings().api.url:  # without an address, Prefect starts a temporary server
        require_answer("PREFECT_API_URL", url, "/health")
    runs.connect()
    runs.find_experiment(load_params().registry.experiment)


@contextmanager
def exit_with_one_message(console: Console) -> Iterator[None]:
    """Print a failed stage, or an error that a person can correct, as one message and exit with status 1."""
    try:
        yield
    except Exception as error:
        message = str(error) if isinstance(error, StageFailed) else explain(error)
        if message is None:
            raise
        console.print(f"failed: {message}", style="bold red")
        sys.exit(1)
