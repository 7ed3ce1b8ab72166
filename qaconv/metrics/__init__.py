"""Measure scores: as a ranking, as verification of pairs, and as probabilities."""

from qaconv.metrics.bootstrap import Estimate, mean_paired_difference, mean_with_interval, paired_difference
from qaconv.metrics.calibration import Calibration, Reliability, fit_calibration, measure_reliability
from qaconv.metrics.ranking import RankingMetrics, evaluate_camera_pairs, evaluate_ranking
from qaconv.metrics.verification import VerificationMetrics, evaluate_verification

__all__ = [
    "Calibration",
    "Estimate",
    "RankingMetrics",
    "Reliability",
    "VerificationMetrics",
    "evaluate_camera_pairs",
    "evaluate_ranking",
    "evaluate_verification",
    "fit_calibration",
    "mean_paired_difference",
    "mean_with_interval",
    "measure_reliability",
    "paired_difference",
]
