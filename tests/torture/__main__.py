"""Kill at random points what promises to lose and double nothing, take its servers away, and check what is left.

`make torture` runs it: the service, as one process or as workers, while clients enrol, delete and search, merge and
split people and review pairs, sightings expire and versions change; ingest while batches arrive; registrations,
promotions and rollbacks. S3 and MLflow are stopped for seconds meanwhile. The exit status is 1 if something was lost,
doubled, left half done or not completed afterwards.
"""

import argparse
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

from qaconv.paths import ONNX, TLIFT
from tests.integration.running_servers import mlflow_server, seaweed
from tests.integration.running_service import write_registered_project
from tests.small_identities import tell_colours_apart
from tests.torture.children import CONTEXT
from tests.torture.ingest import STORE, Ingest
from tests.torture.outcomes import Outcomes
from tests.torture.registry import Registry
from tests.torture.service import Service
from tests.tracked_projects import REPOSITORY

Round = Callable[[random.Random], None]


def main() -> None:
    """Run the rounds, and print the table of outcomes."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=900, help="after which no further round begins")
    arguments.add_argument("--kills", type=int, default=50, help="rounds, each with a kill or a server away")
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends the servers too
    outcomes = Outcomes()
    until = time.monotonic() + options.seconds
    draws = random.Random(options.seed)
    with ExitStack() as stack:
        stack.callback(outcomes.print, f"seed {options.seed}")  # last, also if the run is ended
        project = Path(stack.enter_context(TemporaryDirectory()))
        for folder in ("s3", "mlflow", "project"):
            (project / folder).mkdir()
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        patch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        patch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")  # with 2, a client slept for minutes after it was back
        stack.enter_context(prefect_test_harness(server_startup_timeout=120))
        patch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())
        s3 = stack.enter_context(seaweed(project / "s3", patch, STORE))
        mlflow = stack.enter_context(mlflow_server(project / "mlflow", patch))
        CONTEXT.set_forkserver_preload(["tests.torture.__main__"])
        stack.enter_context(chdir(project / "project"))
        write_registered_project(Path.cwd(), lambda: tell_colours_apart(ONNX, TLIFT))
        ingest = Ingest(project, s3, outcomes)
        registry = Registry(Path.cwd(), mlflow, outcomes)
        service = Service(Path.cwd(), registry, outcomes)
        rounds: dict[str, Round] = {
            "service": service.kill,
            "ingest": ingest.kill,
            "champion": registry.kill,
            "S3 away": ingest.lose_server,
            "MLflow away": registry.lose_server,
        }
        for number, name in enumerate(draw_names(draws, options.kills), start=1):
            if time.monotonic() > until:
                break
            rounds[name](draws)
            outcomes.say(f"{number} of {options.kills}: {name}")
        ingest.complete()
        service.complete()
    sys.exit(outcomes.any_fault)


def draw_names(draws: random.Random, count: int) -> Iterator[str]:
    """Yield the names of rounds; of ten, eight are kills, and two take a server away."""
    ten = ["service"] * 3 + ["ingest"] * 2 + ["champion"] * 3 + ["S3 away", "MLflow away"]
    for start in range(0, count, len(ten)):
        yield from draws.sample(ten, min(len(ten), count - start))


if __name__ == "__main__":
    main()
