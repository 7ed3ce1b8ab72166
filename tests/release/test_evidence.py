import json
from pathlib import Path

import pytest

from qaconv.release.evidence import Clocks, Evidence, collect
from qaconv.tlift import TLiftProfile
from qaconv.tlift.findings import Finding
from tests.tracked_projects import write_estimated, write_project


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project that has run all stages, on station and mall."""
    write_project(tmp_path)
    return tmp_path


def collected(folder: Path) -> Evidence:
    paths = (folder / "metrics", folder / "artifacts/tlift", folder / "artifacts/onnx")
    return collect("qaconv", ["station", "mall"], {"station": "a", "mall": "b"}, *paths)


def test_cameras_whose_times_were_left_out_are_named_and_repaired_ones_are_not(folder: Path) -> None:
    findings = (
        Finding(1, "missing", None, "3 of 9 sightings have no time", "left out"),
        Finding(1, "impossible", 9e9, "1 times lie far from all others, such as 9e+09", "left out"),
        Finding(2, "drift", None, "gains +0.100 per cent on the other cameras", "mended"),
    )
    profile = TLiftProfile("mall", (0, 1, 2), active=True, reason="made up", findings=findings)
    profile.save(folder / "artifacts/tlift/mall/qaconv.json")
    reasons = "3 of 9 sightings have no time; 1 times lie far from all others, such as 9e+09"
    assert collected(folder).clocks == {"station": Clocks(3, {}), "mall": Clocks(3, {"1": reasons})}


def test_cameras_with_names_are_named(folder: Path) -> None:
    findings = (Finding(1, "missing", None, "3 of 9 sightings have no time", "left out"),)
    names = {0: "entrance", 1: "hall", 2: "roof"}
    profile = TLiftProfile("mall", (0, 1, 2), active=True, reason="made up", findings=findings, cameras=names)
    profile.save(folder / "artifacts/tlift/mall/qaconv.json")
    assert collected(folder).clocks["mall"] == Clocks(3, {"hall": "3 of 9 sightings have no time"})


def test_a_target_whose_probabilities_were_not_measured_has_no_error(folder: Path) -> None:
    path = folder / "metrics/mall.json"
    figures = json.loads(path.read_text())
    del figures["qaconv"]["calibration_error"]
    path.write_text(json.dumps(figures))
    assert collected(folder).calibration_errors == {"station": 0.03125}


def test_the_share_of_right_matches_is_read_where_answers_were_marked(folder: Path) -> None:
    for target, precision in (("station", {"precision": 0.875}), ("mall", {})):
        path = folder / f"metrics/{target}.json"
        figures = json.loads(path.read_text())
        figures["qaconv"]["marked"] = {"threshold": 0.7, "answers": 8, "recall": 0.5, **precision}
        path.write_text(json.dumps(figures))
    assert collected(folder).match_precisions == {"station": 0.875}


def test_a_target_without_labels_has_its_estimate_as_evidence_and_no_precision(folder: Path) -> None:
    write_estimated(folder / "metrics", "mall", share=0.75)
    evidence = collected(folder)
    assert evidence.unlabelled == ["mall"] and list(evidence.average_precisions) == ["station"]
    assert evidence.match_shares == {"mall": 0.75}
    assert evidence.calibration_errors == {"station": 0.03125}
    assert evidence.times == {"station": "", "mall": ""} and set(evidence.clocks) == {"station", "mall"}
    evidence.save(folder / "evidence.json")
    assert Evidence.load(folder / "evidence.json") == evidence


def test_the_most_that_answers_allow_of_a_target_without_labels_is_evidence(folder: Path) -> None:
    write_estimated(folder / "metrics", "mall", share=0.75)
    assert collected(folder).reviewed_precisions == {}
    path = folder / "metrics/mall.json"
    figures = json.loads(path.read_text())
    reviewed = {"answered_pairs": 40, "precision": 0.75, "precision_low": 0.5, "precision_high": 0.875}
    figures["qaconv"]["reviewed"] = reviewed
    path.write_text(json.dumps(figures))
    assert collected(folder).reviewed_precisions == {"mall": 0.875}


def test_a_target_without_labels_and_times_has_no_estimate(folder: Path) -> None:
    write_estimated(folder / "metrics", "mall", share=None)
    assert collected(folder).match_shares == {}
