"""Run a flow by hand: look for its servers first, and end with one message where a person can correct the fault."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from prefect.settings import get_current_settings
from rich.console import Console

from flows.stages import StageFailed
from qaconv.config import Params, load_params
from qaconv.errors import InputError
from qaconv.failures import explain, require_answer
from qaconv.registry import runs


@contextmanager
def by_hand(check: Callable[[Params], object] = lambda params: None) -> Iterator[Console]:
    """Yield the console for what a flow has done, after settings and servers were checked.

    Args:
        check: raises InputError if params.yaml does not fit, before Prefect starts a server. Default: nothing more than
            the file itself is checked.
    """
    console = Console(markup=False, highlight=False, soft_wrap=True)
    with exit_with_one_message(console):
        check(load_params())
        require_servers()
        yield console


def read_target(flow: str, key: str) -> str:
    """Return the target that the command line names, or end with the usage of a flow.

    Args:
        flow: name of its module.
        key: of params.yaml, which lists the targets that it takes.
    """
    if len(sys.argv) != 2:
        sys.exit(f"usage: python -m flows.{flow} NAME, one of {key} in params.yaml")
    return sys.argv[1]


def require_target(target: str, key: str, allowed: Sequence[str]) -> None:
    """Check that a key of params.yaml lists a target.

    Raises:
        InputError: it does not.
    """
    if target not in allowed:
        names = ", ".join(allowed) or "none; name it there"
        raise InputError(f"params.yaml: {key} has no {target!r}, allowed: {names}")


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
