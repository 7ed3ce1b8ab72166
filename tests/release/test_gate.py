import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qaconv.config.operation import GateConfig
from qaconv.metrics import Estimate
from qaconv.release.evidence import Clocks, Evidence
from qaconv.release.gate import Comparison, decide

RULES = GateConfig(
    min_gain=0.5,
    max_loss=2,
    max_calibration_error=0.1,
    min_match_precision=0.9,
    max_match_loss=5,
    max_bad_clocks=0.25,
    max_onnx_difference=1e-4,
    max_megabytes=10,
    max_encoder_ms=20,
)


def evidence(**precisions: list[float]) -> Evidence:
    """Evidence that keeps every rule, for targets with these average precisions by query."""
    return Evidence(
        average_precisions={
            name: {str(number): value for number, value in enumerate(values)} for name, values in precisions.items()
        },
        data=dict.fromkeys(precisions, "same data"),
        differences={"encoder.onnx": 1e-6, "matcher.onnx": 1e-6},
        megabytes=3,
        encoder_ms=5,
        times=dict.fromkeys(precisions, ""),
        calibration_errors=dict.fromkeys(precisions, 0.02),
        clocks=dict.fromkeys(precisions, Clocks(4, {})),
        match_precisions=dict.fromkeys(precisions, 0.95),
        match_shares={},
        reviewed_precisions={},
    )


def with_yard(base: Evidence, share: float | None = 0.5, **changes: Any) -> Evidence:
    """Add a target without labels, whose searches have a match this often; None: nothing is stated about them."""
    added: dict[str, Any] = {
        "data": {**base.data, "yard": "yard"},
        "times": {**base.times, "yard": "" if share is not None else "no times"},
        "clocks": {**base.clocks, "yard": Clocks(4, {})},
        "match_shares": {} if share is None else {"yard": share},
    }
    return replace(base, **{**added, **changes})


def precisions(value: float) -> Mapping[str, Mapping[str, float]]:
    """Five queries of mall with the same average precision."""
    return evidence(mall=[value] * 5).average_precisions


@given(st.floats(0, 1))
def test_a_tie_never_promotes(value: float) -> None:
    rules = RULES.model_copy(update={"min_gain": 0})
    assert not decide(evidence(mall=[value] * 5), evidence(mall=[value] * 5), rules).promoted


def test_the_same_network_is_promoted_if_it_serves_a_further_target() -> None:
    champion = evidence(mall=[0.5] * 5)
    assert decide(with_yard(champion), champion, RULES).promoted
    assert "yard is served too" in decide(with_yard(champion), champion, RULES).reason
    assert not decide(with_yard(evidence(mall=[0.5] * 4 + [0.49])), champion, RULES).promoted
    assert not decide(with_yard(champion), evidence(mall=[0.5] * 5, shop=[0.5] * 5), RULES).promoted


def test_a_gain_that_another_draw_of_queries_could_undo_does_not_promote() -> None:
    outcome = decide(evidence(mall=[0.8, 0.24] * 20), evidence(mall=[0.5, 0.5] * 20), RULES)
    comparison = outcome.figures["mall"]
    assert comparison.challenger > comparison.champion + RULES.min_gain
    assert comparison.gain.low < 0 < comparison.gain.value < comparison.gain.high
    assert outcome.verdict == "refused"
    assert "with 95 % confidence" in outcome.reason


def test_a_target_that_loses_too_much_refuses_though_the_mean_gains() -> None:
    outcome = decide(evidence(mall=[0.9] * 5, shop=[0.37] * 5), evidence(mall=[0.4] * 5, shop=[0.4] * 5), RULES)
    assert outcome.verdict == "refused"
    assert outcome.reason == ("no loss on shop: shop changes by -3.00 points; a loss of at most 2 is allowed")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            {"differences": {"encoder.onnx": 1e-3}},
            "the graphs must be within 1.0e-04 of PyTorch, their largest difference is 1.0e-03",
        ),
        ({"megabytes": 11}, "size: the graphs must have at most 10 MB, they have 11.0"),
        ({"encoder_ms": 21}, "latency: the encoder may take at most 20 ms a crop, it takes 21.0"),
        (
            {"calibration_errors": {"mall": 0.104}},
            "probabilities on mall may be off by at most 10 points on average, they are off by 10.4",
        ),
        ({"calibration_errors": {}}, "the probabilities on mall were not measured; set sources.holdout_share above 0"),
        (
            {"clocks": {"mall": Clocks(4, {"1": "9 of 9 sightings have no time", "3": "its times span 25 times"})}},
            "clocks of mall: times of 2 of 4 cameras of mall were left out; a share of at most 0.25 is allowed; "
            "camera 1: 9 of 9 sightings have no time; camera 3: its times span 25 times",
        ),
        ({"clocks": {}}, "clocks of mall: the clocks of mall, whose times are used, were not checked"),
    ],
)
def test_a_first_version_must_keep_the_budgets_too(fault: dict[str, Any], message: str) -> None:
    assert decide(evidence(mall=[0.5]), None, RULES).promoted
    outcome = decide(replace(evidence(mall=[0.5]), **fault), None, RULES)
    assert outcome.verdict == "refused"
    assert message in outcome.reason


TINY = 1e-9
OF_SITES = ("min_site_gain", "max_forgotten")  # rules of test_site_gate.py


def bad_clocks(count: int, cameras: int) -> dict[str, Clocks]:
    return {"mall": Clocks(cameras, {str(camid): "no time" for camid in range(count)})}


@pytest.mark.parametrize(
    ("rule", "at_the_limit", "just_beyond"),
    [
        (
            "ONNX agreement",
            {"differences": {"encoder.onnx": RULES.max_onnx_difference, "matcher.onnx": 0}},
            {"differences": {"encoder.onnx": 0, "matcher.onnx": RULES.max_onnx_difference + TINY}},
        ),
        ("size", {"megabytes": RULES.max_megabytes}, {"megabytes": RULES.max_megabytes + TINY}),
        ("latency", {"encoder_ms": RULES.max_encoder_ms}, {"encoder_ms": RULES.max_encoder_ms + TINY}),
        (
            "calibration on mall",
            {"calibration_errors": {"mall": RULES.max_calibration_error}},
            {"calibration_errors": {"mall": RULES.max_calibration_error + TINY}},
        ),
        (
            "matches on mall",
            {"match_precisions": {"mall": RULES.min_match_precision}},
            {"match_precisions": {"mall": RULES.min_match_precision - TINY}},
        ),
        (
            "found matches on yard",
            {"match_shares": {"yard": 0.5 - RULES.max_match_loss / 100}},
            {"match_shares": {"yard": 0.5 - RULES.max_match_loss / 100 - 1e-6}},
        ),
        ("clocks of mall", {"clocks": bad_clocks(2, cameras=8)}, {"clocks": bad_clocks(2, cameras=7)}),
        (
            "gain",
            {"average_precisions": precisions(0.4 + RULES.min_gain / 100)},
            {"average_precisions": precisions(0.4 + RULES.min_gain / 100 - 1e-6)},
        ),
        (
            "no loss on mall",
            {"average_precisions": precisions(0.4 - RULES.max_loss / 100)},
            {"average_precisions": precisions(0.4 - RULES.max_loss / 100 - 1e-6)},
        ),
    ],
)
def test_a_value_at_a_limit_keeps_the_rule_and_one_just_beyond_breaks_it(
    rule: str, at_the_limit: dict[str, Any], just_beyond: dict[str, Any]
) -> None:
    def keeps(change: dict[str, Any]) -> bool:
        champion = with_yard(evidence(mall=[0.4] * 5))
        outcome = decide(replace(champion, **change), champion, RULES)
        (check,) = (check for check in outcome.checks if check.rule == rule)
        return check.kept

    assert keeps(at_the_limit)
    assert not keeps(just_beyond)


def test_every_rule_of_the_settings_has_a_limit_that_is_tested() -> None:
    (mark,) = test_a_value_at_a_limit_keeps_the_rule_and_one_just_beyond_breaks_it.pytestmark
    assert len(mark.args[1]) == len(GateConfig.model_fields) - len(OF_SITES)
    assert set(OF_SITES) < set(GateConfig.model_fields)


def test_all_limits_reached_together_keep_the_rules() -> None:
    edge: dict[str, Any] = {
        "differences": {"encoder.onnx": RULES.max_onnx_difference},
        "megabytes": RULES.max_megabytes,
        "encoder_ms": RULES.max_encoder_ms,
        "calibration_errors": {"mall": RULES.max_calibration_error},
        "match_precisions": {"mall": RULES.min_match_precision},
        "clocks": bad_clocks(1, cameras=4),
    }
    gain = RULES.min_gain / 100
    assert decide(replace(evidence(mall=[0.5]), **edge), None, RULES).promoted
    assert decide(replace(evidence(mall=[0.4 + gain] * 5), **edge), evidence(mall=[0.4] * 5), RULES).promoted


def test_clocks_where_times_are_not_used_refuse_nothing() -> None:
    unused: dict[str, Any] = {"times": {"mall": "no camera has times"}, "clocks": {"mall": Clocks(1, {"0": "no time"})}}
    assert decide(replace(evidence(mall=[0.5]), **unused), None, RULES).promoted


def test_a_version_whose_evidence_lacks_calibration_and_clocks_is_refused(tmp_path: Path) -> None:
    evidence(mall=[0.5]).save(tmp_path / "evidence.json")
    written = json.loads((tmp_path / "evidence.json").read_text())
    del written["calibration_errors"], written["clocks"]
    (tmp_path / "evidence.json").write_text(json.dumps(written))
    reason = decide(Evidence.load(tmp_path / "evidence.json"), None, RULES).reason
    assert "the probabilities on mall were not measured" in reason and "were not checked" in reason


def test_a_version_whose_evidence_lacks_marked_matches_is_not_refused_for_it(tmp_path: Path) -> None:
    evidence(mall=[0.5]).save(tmp_path / "evidence.json")
    written = json.loads((tmp_path / "evidence.json").read_text())
    del written["match_precisions"]
    (tmp_path / "evidence.json").write_text(json.dumps(written))
    assert decide(Evidence.load(tmp_path / "evidence.json"), None, RULES).promoted


def test_one_refusal_names_everything_that_is_wrong() -> None:
    challenger = replace(evidence(mall=[0.3] * 5), megabytes=11, times={"mall": "clocks of two cameras disagree"})
    reason = decide(challenger, evidence(mall=[0.4] * 5), RULES).reason
    for message in ("size:", "times of mall are no longer used: clocks of two cameras disagree", "gain:", "no loss on"):
        assert message in reason


def test_targets_of_only_one_version_are_named_and_not_compared() -> None:
    outcome = decide(evidence(mall=[0.5] * 5, market=[0.1] * 5), evidence(mall=[0.4] * 5, shop=[0.9] * 5), RULES)
    assert outcome.promoted
    assert outcome.figures == {"mall": Comparison(50.0, 40.0, Estimate(10.0, 10.0, 10.0, 5))}
    assert outcome.reason.endswith("not compared, as only one was measured on the present data: market, shop")


def test_figures_on_data_that_has_changed_since_are_not_compared() -> None:
    champion = replace(evidence(mall=[0.4] * 5, shop=[0.9] * 5), data={"mall": "same data", "shop": "older data"})
    outcome = decide(evidence(mall=[0.5] * 5, shop=[0.1] * 5), champion, RULES)
    assert outcome.promoted
    assert outcome.figures == {"mall": Comparison(50.0, 40.0, Estimate(10.0, 10.0, 10.0, 5))}


def test_versions_without_a_common_target_are_not_compared_and_the_champion_stays() -> None:
    outcome = decide(evidence(market=[0.5]), evidence(mall=[0.4]), RULES)
    assert outcome.verdict == "refused"
    assert "no target was measured for both" in outcome.reason


@pytest.mark.parametrize("share", [0.5, None])
def test_a_first_version_is_not_refused_for_what_a_target_without_labels_lacks(share: float | None) -> None:
    assert decide(with_yard(evidence(mall=[0.5]), share), None, RULES).promoted
    outcome = decide(with_yard(evidence(), share), None, RULES)
    assert outcome.promoted
    assert outcome.reason == "there was no champion; no target has labels, so no accuracy was measured"


def test_where_no_target_has_labels_the_other_rules_decide_and_the_reason_says_so() -> None:
    outcome = decide(with_yard(evidence(), 0.47), with_yard(evidence(), 0.5), RULES)
    assert outcome.promoted and not outcome.figures
    assert outcome.reason == (
        "no target has labels, so no accuracy was compared; by estimate 47.0% of the searches on yard have a match, "
        "50.0% before; a fall of at most 5 points is allowed"
    )
    worse = decide(with_yard(evidence(), 0.4), with_yard(evidence(), 0.5), RULES)
    assert worse.verdict == "refused" and worse.reason.startswith("found matches on yard: by estimate 40.0%")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"times": {"yard": "time carries no signal"}, "match_shares": {}}, "times of yard are no longer used: time"),
        ({"clocks": {"yard": Clocks(4, {"0": "a", "1": "b"})}}, "clocks of yard: times of 2 of 4 cameras of yard were"),
        ({"megabytes": 11}, "size: the graphs must have at most 10 MB"),
    ],
)
def test_times_clocks_and_budgets_refuse_without_labels_too(change: dict[str, Any], why: str) -> None:
    champion = with_yard(evidence())
    outcome = decide(replace(champion, **change), champion, RULES)
    assert outcome.verdict == "refused" and why in outcome.reason


def test_answers_refuse_a_version_only_where_they_rule_out_that_enough_matches_are_right() -> None:
    base = with_yard(evidence())
    limit = RULES.min_match_precision
    assert decide(replace(base, reviewed_precisions={"yard": limit}), None, RULES).promoted
    outcome = decide(replace(base, reviewed_precisions={"yard": limit - TINY}), None, RULES)
    assert outcome.verdict == "refused" and "reviewed matches on yard: of the pairs marked" in outcome.reason


def test_estimates_on_data_that_has_changed_since_are_not_compared() -> None:
    champion = with_yard(evidence(), 0.9, data={"yard": "older data"})
    outcome = decide(with_yard(evidence(), 0.1), champion, RULES)
    assert outcome.promoted
    assert outcome.reason.endswith("not compared, as only one was measured on the present data: yard")


def test_a_gain_on_labels_does_not_excuse_lost_matches_elsewhere() -> None:
    challenger, champion = evidence(mall=[0.9] * 5), evidence(mall=[0.4] * 5)
    assert decide(with_yard(challenger), with_yard(champion), RULES).promoted
    assert decide(with_yard(challenger, 0.4), with_yard(champion), RULES).verdict == "refused"


def test_a_first_target_with_labels_is_not_compared_with_a_champion_without() -> None:
    outcome = decide(with_yard(evidence(mall=[0.5] * 5)), with_yard(evidence()), RULES)
    assert outcome.promoted
    assert outcome.reason.startswith("the champion's targets had no labels, so no accuracy was compared; by estimate")
    assert outcome.reason.endswith("measured on the present data: mall")


def test_evidence_of_before_targets_without_labels_is_read_as_without_them(tmp_path: Path) -> None:
    evidence(mall=[0.5]).save(tmp_path / "evidence.json")
    written = json.loads((tmp_path / "evidence.json").read_text())
    del written["match_shares"], written["reviewed_precisions"]
    (tmp_path / "evidence.json").write_text(json.dumps(written))
    assert Evidence.load(tmp_path / "evidence.json").unlabelled == []
