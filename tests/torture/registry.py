"""Kill promotions and rollbacks, and take their MLflow server away.

After the next change there must be one champion, the one before it must be `previous`, the graphs must follow, and
nothing of the interrupted change may be left.
"""

import random
import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import httpx
from mlflow import MlflowClient

from qaconv.config import load_params
from qaconv.paths import METRICS, ONNX
from qaconv.registry import find_champion, find_release, locking, register
from qaconv.registry.promotion import rollback
from qaconv.registry.runs import load_metrics, retraining_run, use_store
from tests.integration.running_servers import Server
from tests.integration.running_service import MALL, running
from tests.small_service import crop, text
from tests.torture import children
from tests.torture.outcomes import Outcomes
from tests.tracked_projects import measure_again, retrain, set_encoder_digest, write_lock

NAME = "qaconv"
LEASE_S = 3  # of the registry's lock, in place of a minute
GAIN = 0.006  # mAP by which each version is better than the one before it
AWAY_S = (2.0, 8.0)
UNDER_WAY_S = 1  # a killed client's last request may still be carried out
LOADED_WITHIN_S = 60  # after MLflow is back
WAITED = "changes that waited for MLflow"
ENDED = "changes that MLflow's outage ended"


@dataclass(frozen=True)
class Change:
    """A change of the champion.

    Attributes:
        kind: "registration" and promotion of the exported graphs, "promotion" of graphs that are registered already, or
            "rollback".
        version: the version to roll back, or "".
    """

    kind: str
    version: str = ""


class Registry:
    """The registered versions of a project.

    Args:
        project: its folder, which is the working folder and has one champion.
        mlflow: the server of the registry.
        outcomes: counts of the run.
    """

    def __init__(self, project: Path, mlflow: Server, outcomes: Outcomes) -> None:
        self._project = project
        self._server = mlflow
        self._outcomes = outcomes
        self._champions = [find_champion(NAME).version]  # the present one last, without those that were rolled back
        self._rolled_back: set[str] = set()
        self._exported = 0
        self._lasts_s = {"registration": 15.0, "promotion": 4.0, "rollback": 4.0}

    def promote(self) -> None:
        """Promote another version without a kill."""
        self._export()
        retrain(load_params())
        self._champions.append(find_champion(NAME).version)
        self._outcomes.counts["versions registered"] += 1

    def kill(self, draws: random.Random) -> None:
        """Kill a change once or several times in a row, and complete it or another one."""
        change = self._draw(draws)
        for _ in range(draws.randint(1, 3)):
            children.kill_within(self._start(change), self._lasts_s[change.kind], draws)
            self._outcomes.counts[f"kills of a {change.kind}"] += 1
            time.sleep(UNDER_WAY_S)
            self._see_what_happened(change)
        self._complete(change if draws.random() < 0.5 else self._draw(draws))

    def lose_server(self, draws: random.Random) -> None:
        """Stop MLflow for some seconds while a version changes and the service polls, which must go on answering."""
        query = {"queries": [{"image": text(crop(1))}], "top_k": 5}
        with running(self._project) as (client, _):
            change = self._draw(draws)
            child = self._start(change)
            child.join(draws.uniform(0, self._lasts_s[change.kind]))
            self._server.stop()
            until = time.monotonic() + draws.uniform(*AWAY_S)
            while time.monotonic() < until:
                answer = client.post(f"{MALL}/search", json=query)
                if not answer.is_success:
                    self._outcomes.fault("refused", f"{answer.status_code} {answer.text}, while MLflow was away")
                self._outcomes.counts["searches while MLflow was away"] += 1
            self._server.start()
            succeeded = children.finish(child)
            self._outcomes.counts[WAITED if succeeded else ENDED] += 1
            self._see_what_happened(change)
            self._complete(change)
            self._wait_for_champion(client)

    def _draw(self, draws: random.Random) -> Change:
        """Draw a change, and export the graphs that it needs."""
        if len(self._champions) > 1 and draws.random() < 0.5:
            return Change("rollback", self._champions[-1])
        self._export()
        if draws.random() < 0.5:
            return Change("registration")
        params = load_params()
        with retraining_run(params, {}):
            register(params, load_metrics(params))
        return Change("promotion")

    def _export(self) -> None:
        """Write other graphs and results, as `dvc repro` does."""
        self._exported += 1
        set_encoder_digest(ONNX, f"encoder {self._exported}")
        maps = dict.fromkeys(load_params().targets, 0.5 + GAIN * self._exported)
        measure_again(METRICS, maps)
        write_lock(Path(), maps)

    def _start(self, change: Change) -> ForkServerProcess:
        if change.kind == "rollback":
            return children.start(roll_back, self._project, change.version)
        return children.start(register_and_promote, self._project)

    def _see_what_happened(self, change: Change) -> None:
        """Note whether the champion has moved, which it may only do to the right version."""
        champion = find_champion(NAME).version
        if champion == self._champions[-1]:
            return
        if change.kind != "rollback" and champion not in {*self._champions, *self._rolled_back}:
            self._champions.append(champion)
        elif change.version == self._champions[-1] and champion == self._champions[-2]:
            self._rolled_back.add(self._champions.pop())
        else:
            self._outcomes.fault("wrong champion", f"{champion} after {self._champions} and {change}")

    def _complete(self, change: Change) -> None:
        """Make a change without a kill, and check everything."""
        begun = time.monotonic()
        possible = change.version in ("", self._champions[-1])
        if children.finish(self._start(change)) != possible:
            self._outcomes.fault("not completed", f"{change} of {self._champions}")
        self._lasts_s[change.kind] = time.monotonic() - begun
        self._see_what_happened(change)
        self._outcomes.counts[f"{change.kind} completed" if possible else "rollbacks rightly refused"] += 1
        self._check()

    def _check(self) -> None:
        champion = find_champion(NAME)
        if champion.version != self._champions[-1]:
            self._outcomes.fault("wrong champion", f"{champion}, must be {self._champions[-1]}")
        for alias, version in zip(("champion", "previous"), reversed(self._champions), strict=False):
            release = find_release(NAME, version)
            assert release is not None
            for model, its_version in release.models.items():
                present = MlflowClient().get_registered_model(model).aliases.get(alias)
                if str(present) != its_version:
                    self._outcomes.fault("half a change", f"{model}@{alias} is {present}, must be {its_version}")
        versions = MlflowClient().search_model_versions(f"name = '{NAME}'")
        marked = {str(version.version) for version in versions if "rolled_back" in version.tags}
        if marked != self._rolled_back:
            self._outcomes.fault("half a change", f"{marked} are rolled back, must be {self._rolled_back}")
        if len({version.tags["dvc_lock"] for version in versions}) < len(versions):
            self._outcomes.fault("doubled", f"a version of {len(versions)}")
        if left := MlflowClient().search_model_versions(f"name = '{NAME}-promoting'"):
            self._outcomes.fault("half a change", f"{len(left)} tickets of the lock are left")

    def _wait_for_champion(self, client: httpx.Client) -> None:
        until = time.monotonic() + LOADED_WITHIN_S
        while (loaded := client.get("/readyz").json()["version"]) != self._champions[-1]:
            if time.monotonic() > until:
                self._outcomes.fault("not completed", f"the service has version {loaded}, not {self._champions[-1]}")
                return
            time.sleep(0.2)


def register_and_promote() -> None:
    """Do what a retraining does after its stages."""
    locking.LEASE_S = LEASE_S
    retrain(load_params())


def roll_back(version: str) -> None:
    """Do what `qaconv rollback` does."""
    locking.LEASE_S = LEASE_S
    use_store()
    rollback(NAME, version, "a drill")
