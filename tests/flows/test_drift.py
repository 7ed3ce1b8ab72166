"""Which deployments drift starts."""

import logging
from typing import Any

import pytest

from flows import drift
from qaconv.config import load_params
from qaconv.release.drift import Drift
from tests.tracked_projects import REPOSITORY

SCORES, CLOCKS = Drift("scores", "made up"), Drift("clocks", "made up")


@pytest.mark.parametrize(
    ("adapted", "drifts", "started"),
    [
        ([], [SCORES], {"retrain/weekly": None}),
        (["street"], [SCORES], {"adapt/by-hand": {"target": "street"}}),
        (["mall"], [SCORES, CLOCKS], {"retrain/weekly": None, "fit_target/by-hand": {"target": "street"}}),
        (["street"], [CLOCKS], {"fit_target/by-hand": {"target": "street"}}),
    ],
)
def test_a_target_that_may_have_its_own_network_is_adapted_and_any_other_retrained(
    monkeypatch: pytest.MonkeyPatch, adapted: list[str], drifts: list[Drift], started: dict[str, Any]
) -> None:
    runs: dict[str, Any] = {}
    monkeypatch.setattr(drift, "run_deployment", lambda name, parameters, timeout: runs.update({name: parameters}))
    monkeypatch.setattr(drift, "get_run_logger", lambda: logging.getLogger())
    params = load_params(REPOSITORY / "params.yaml")
    params = params.model_copy(update={"adapt": params.adapt.model_copy(update={"targets": adapted})})
    drift._start_corrections(params, "street", drifts)
    assert runs == started
