"""Adapt to a target of a project whose stages copy made-up files, up to the target's champion."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows.adapt import adapt
from flows.params import change_params
from flows.retrain import retrain
from qaconv import registry
from qaconv.errors import InputError
from tests.flows.artifacts import artifact_data
from tests.tracked_projects import write_adapted

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(scope="module")
def project(pipeline: Path) -> Path:
    """Retrain once, and let `station` have a network of its own."""
    change_params({"adapt.targets": ["station"]})
    retrain()
    return pipeline


def test_a_retraining_shows_the_adapted_network_next_to_the_one_as_trained(project: Path) -> None:
    trained, adapted = json.loads(artifact_data("adapted"))
    assert (trained["network"], trained["right by times"]) == ("as trained", "60.0")
    assert (adapted["network"], adapted["right by times"]) == ("adapted: round 1", "70.0")
    assert adapted["change, 95 %"] == "+10.0 (1.0 to 20.0)"


def test_a_target_gets_its_champion_and_a_worse_adaptation_is_refused(project: Path) -> None:
    release, outcome = adapt("station")
    assert outcome.promoted, outcome.reason
    assert registry.aliases(release) == ["challenger-station", "champion-station"]
    assert registry.find_champion("qaconv", "station") == release
    assert registry.find_champion("qaconv", "mall").site is None
    assert artifact_data("adapt-station").startswith(f"**Promoted.** {outcome.reason}")
    run = MlflowClient().get_run(release.run_id or "")
    assert run.data.tags["target"] == "station"
    assert run.data.metrics["station.adapted.right.after"] == 0.7
    assert adapt("station")[1].verdict == "unchanged"

    write_adapted(Path("made_up").resolve(), "station", after=0.65, low=-0.02)
    refused, outcome = adapt("station")
    assert outcome.verdict == "refused"
    assert registry.aliases(refused) == ["challenger-station"]
    assert registry.find_champion("qaconv", "station") == release


def test_a_target_that_has_no_network_of_its_own_is_refused(project: Path) -> None:
    with pytest.raises(InputError, match="adapt.targets has no 'mall', allowed: station"):
        adapt("mall")
