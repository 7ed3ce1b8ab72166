"""The rules for a network that was adapted to a site, each at its limit and just beyond."""

from dataclasses import replace
from typing import Any

import pytest

from qaconv.config import load_params
from qaconv.release.gate import Outcome
from qaconv.release.site_evidence import Gain, SiteEvidence
from qaconv.release.site_gate import decide_site
from tests.tracked_projects import REPOSITORY

RULES = load_params(REPOSITORY / "params.yaml").gate.model_copy(update={"min_site_gain": 1.0})
FOR_ALL = "a" * 64
GAIN = Gain("times", 0.5, 0.6, 0.02, 0.2, 30)
EVIDENCE = SiteEvidence(
    site="station",
    data="1",
    began_with=FOR_ALL,
    kept_round=1,
    reason="made up",
    gain=GAIN,
    reviewed_precision=None,
    source_map=(0.9, 0.9),
    differences={"encoder.onnx": 0.0, "matcher.onnx": 0.0},
    megabytes=1.0,
    encoder_ms=1.0,
)
TINY = 1e-6


def judge(champion: SiteEvidence | None = None, for_all: str | None = FOR_ALL, **change: Any) -> Outcome:
    return decide_site(replace(EVIDENCE, **change), champion, for_all, RULES)


@pytest.mark.parametrize(
    ("rule", "at_the_limit", "just_beyond"),
    [
        ("gain", {"gain": replace(GAIN, low=0.01)}, {"gain": replace(GAIN, low=0.01 - TINY)}),
        (
            "forgetting",
            {"source_map": (0.9, 0.9 - RULES.max_forgotten / 100)},
            {"source_map": (0.9, 0.9 - RULES.max_forgotten / 100 - TINY)},
        ),
        (
            "reviewed matches",
            {"reviewed_precision": RULES.min_match_precision},
            {"reviewed_precision": RULES.min_match_precision - TINY},
        ),
        ("size", {"megabytes": RULES.max_megabytes}, {"megabytes": RULES.max_megabytes + TINY}),
        ("latency", {"encoder_ms": RULES.max_encoder_ms}, {"encoder_ms": RULES.max_encoder_ms + TINY}),
        (
            "ONNX agreement",
            {"differences": {"encoder.onnx": RULES.max_onnx_difference}},
            {"differences": {"encoder.onnx": RULES.max_onnx_difference + TINY}},
        ),
    ],
)
def test_a_value_at_a_limit_keeps_the_rule_and_one_just_beyond_breaks_it(
    rule: str, at_the_limit: dict[str, Any], just_beyond: dict[str, Any]
) -> None:
    assert judge(**at_the_limit).promoted
    assert [check.rule for check in judge(**just_beyond).checks if not check.kept] == [rule]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"gain": None, "reason": "times are not used"}, "gain: nothing says without labels that it is better: times"),
        ({"kept_round": 0, "by_camera": False}, "gain: nothing was better than what it began with: made up"),
        ({"source_map": None}, "forgetting: what was forgotten of the sources was not measured"),
        ({"for_all": None}, "beginning: there is no champion for all targets"),
        ({"for_all": "b" * 64}, "beginning: it must begin with the champion for all targets, bbbbbbbbbbbb"),
    ],
)
def test_a_rule_without_evidence_is_not_kept(fault: dict[str, Any], reason: str) -> None:
    outcome = judge(**fault)
    assert not outcome.promoted
    assert reason in outcome.reason


def test_batch_norms_of_each_camera_alone_may_become_the_sites_champion() -> None:
    assert judge(kept_round=0, by_camera=True).promoted


def test_the_sites_champion_is_compared_if_it_was_judged_on_the_same_data_in_the_same_way() -> None:
    better = replace(EVIDENCE, gain=replace(GAIN, after=0.61))
    assert "the site's champion has 61.0% there, it has 60.0%" in judge(better).reason
    assert judge(replace(better, data="2")).promoted
    assert judge(replace(better, gain=replace(better.gain or GAIN, by="answers"))).promoted
    assert judge(EVIDENCE).promoted
