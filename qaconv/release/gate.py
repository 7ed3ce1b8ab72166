"""Decide by the evidence whether a challenger replaces the champion.

Every rule is checked, so that one refusal names everything that is wrong. The rules are `gate` in params.yaml. A target
without labels has no mAP, and rules of its own: its searches must still have matches, its times must stay in use.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from qaconv.config.operation import GateConfig
from qaconv.metrics import Estimate, mean_paired_difference, paired_difference
from qaconv.release.evidence import Evidence
from qaconv.release.site_evidence import SiteEvidence

SEED = 0  # of the bootstrap, so that the same evidence gives the same outcome


@dataclass(frozen=True)
class Check:
    """One rule.

    Attributes:
        rule: what it is about.
        kept: whether the challenger keeps it.
        detail: the value, and the limit.
    """

    rule: str
    kept: bool
    detail: str


@dataclass(frozen=True)
class Comparison:
    """mAP of direct matching on one target, in points.

    Attributes:
        challenger: its mAP.
        champion: its mAP.
        gain: the difference over the same queries, with its interval.
    """

    challenger: float
    champion: float
    gain: Estimate


@dataclass(frozen=True)
class Outcome:
    """A decision about a challenger.

    Attributes:
        verdict: "unchanged" where the challenger is the champion already.
        reason: one or two sentences.
        checks: every rule that was checked.
        figures: comparison by target, of targets on which both were measured with the same data.
    """

    verdict: Literal["promoted", "refused", "unchanged"]
    reason: str
    checks: tuple[Check, ...] = ()
    figures: Mapping[str, Comparison] = field(default_factory=dict)

    @property
    def promoted(self) -> bool:
        return self.verdict == "promoted"


def decide(challenger: Evidence, champion: Evidence | None, rules: GateConfig) -> Outcome:
    """Promote a challenger that keeps every rule. A tie is no gain, unless the challenger serves further targets.

    A rule without evidence is not kept.

    Where the challenger or the champion has no target with labels, nothing that was measured can be compared, and the
    other rules decide alone.

    Args:
        challenger: evidence for the new version.
        champion: evidence for the present version. None: there is no champion.
        rules: `gate` of params.yaml.
    """
    checks = [
        *check_budgets(challenger, rules),
        *_calibration(challenger, rules),
        *_matches(challenger, rules),
        *_clocks(challenger, rules),
    ]
    if champion is None:
        no_labels = "" if challenger.average_precisions else "; no target has labels, so no accuracy was measured"
        return conclude(checks, f"there was no champion{no_labels}", {})
    checks += _times(challenger, champion)
    match_checks = list(_found_matches(challenger, champion, rules))
    checks += match_checks
    same_data = {name for name, digest in challenger.data.items() if digest == champion.data.get(name)}
    common = [
        name
        for name, queries in challenger.average_precisions.items()
        if name in same_data and queries.keys() == champion.average_precisions.get(name, {}).keys()
    ]
    compared = {*common, *same_data.intersection(challenger.unlabelled)}
    not_compared = sorted({*challenger.data, *champion.data} - compared)
    note = ""
    if not_compared:
        note = f"; not compared, as only one was measured on the present data: {', '.join(not_compared)}"
    if not (challenger.average_precisions and champion.average_precisions):
        why = "the champion's targets had no labels" if challenger.average_precisions else "no target has labels"
        details = "".join(f"; {check.detail}" for check in match_checks)
        return conclude(checks, f"{why}, so no accuracy was compared{details}{note}", {})
    if not common:
        detail = "no target was measured for both on the same data; keep one of the champion's targets unchanged"
        return conclude([*checks, Check("comparison", False, detail)], "", {})
    figures = {name: _comparison(challenger, champion, name) for name in common}
    gain = _gain(challenger, champion, common, rules)
    checks += [gain, *_losses(figures, rules)]
    return conclude(checks, gain.detail + note, figures)


def check_budgets(challenger: Evidence | SiteEvidence, rules: GateConfig) -> Iterator[Check]:
    """Check the rules about the graphs, which hold for a first version too."""
    worst = max(challenger.differences.values())
    detail = (
        f"the graphs must be within {rules.max_onnx_difference:.1e} of PyTorch, their largest difference is {worst:.1e}"
    )
    yield Check("ONNX agreement", worst <= rules.max_onnx_difference, detail)
    detail = f"the graphs must have at most {rules.max_megabytes:g} MB, they have {challenger.megabytes:.1f}"
    yield Check("size", challenger.megabytes <= rules.max_megabytes, detail)
    detail = f"the encoder may take at most {rules.max_encoder_ms:g} ms a crop, it takes {challenger.encoder_ms:.1f}"
    yield Check("latency", challenger.encoder_ms <= rules.max_encoder_ms, detail)


def _calibration(challenger: Evidence, rules: GateConfig) -> Iterator[Check]:
    """Check that probabilities are calibrated, as people see them."""
    for name in challenger.average_precisions:
        error = challenger.calibration_errors.get(name)
        if error is None:
            detail = f"the probabilities on {name} were not measured; set sources.holdout_share above 0"
            yield Check(f"calibration on {name}", False, detail)
            continue
        detail = (
            f"probabilities on {name} may be off by at most {100 * rules.max_calibration_error:g} points on average, "
            f"they are off by {100 * error:.1f}"
        )
        yield Check(f"calibration on {name}", error <= rules.max_calibration_error, detail)


def _matches(challenger: Evidence, rules: GateConfig) -> Iterator[Check]:
    """Check that answers marked as matches are right, where it was measured, or where people have answered."""
    for name, precision in challenger.match_precisions.items():
        detail = (
            f"of the answers marked as matches on {name} at least {rules.min_match_precision:.1%} must be right, "
            f"{precision:.1%} are"
        )
        yield Check(f"matches on {name}", precision >= rules.min_match_precision, detail)
    for name, highest in challenger.reviewed_precisions.items():
        detail = (
            f"of the pairs marked as matches on {name} at least {rules.min_match_precision:.1%} must be right, by "
            f"people's answers at most {highest:.1%} are, with 95 % confidence"
        )
        yield Check(f"reviewed matches on {name}", highest >= rules.min_match_precision, detail)


def _clocks(challenger: Evidence, rules: GateConfig) -> Iterator[Check]:
    """Check, for targets where times are used, that most cameras have usable times."""
    for name, why_unused in challenger.times.items():
        if why_unused:
            continue
        clocks = challenger.clocks.get(name)
        if clocks is None:
            yield Check(f"clocks of {name}", False, f"the clocks of {name}, whose times are used, were not checked")
            continue
        reasons = "".join(f"; camera {camid}: {why}" for camid, why in clocks.left_out.items())
        detail = (
            f"times of {len(clocks.left_out)} of {clocks.cameras} cameras of {name} were left out; a share of at most "
            f"{rules.max_bad_clocks:g} is allowed{reasons}"
        )
        yield Check(f"clocks of {name}", len(clocks.left_out) <= rules.max_bad_clocks * clocks.cameras, detail)


def _times(challenger: Evidence, champion: Evidence) -> Iterator[Check]:
    """Check that a target whose times were used for the champion still has them."""
    for name, why in challenger.times.items():
        if champion.times.get(name) == "":
            detail = f"times of {name} are no longer used: {why}" if why else f"times of {name} are used"
            yield Check(f"times of {name}", not why, detail)


def _found_matches(challenger: Evidence, champion: Evidence, rules: GateConfig) -> Iterator[Check]:
    """Check, for targets without labels on the same data, that about as many searches have a match as before."""
    for name, share in challenger.match_shares.items():
        before = champion.match_shares.get(name)
        if before is None or challenger.data[name] != champion.data.get(name):
            continue
        loss = round(100 * (before - share), 6)
        detail = (
            f"by estimate {share:.1%} of the searches on {name} have a match, {before:.1%} before; a fall of at most "
            f"{rules.max_match_loss:g} points is allowed"
        )
        yield Check(f"found matches on {name}", loss <= rules.max_match_loss, detail)


def _gain(challenger: Evidence, champion: Evidence, common: list[str], rules: GateConfig) -> Check:
    pairs = [_pair(challenger, champion, name) for name in common]
    added = sorted(challenger.data.keys() - champion.data.keys())
    if added and champion.data.keys() <= challenger.data.keys() and all(new == old for new, old in pairs):
        detail = f"every query of {', '.join(common)} has the champion's precision; {', '.join(added)} is served too"
        return Check("gain", True, detail)
    gain = _points(mean_paired_difference(pairs, seed=SEED))
    detail = (
        f"direct mAP, mean over {', '.join(common)}, changes by {gain.value:+.2f} points, {gain.low:+.2f} to "
        f"{gain.high:+.2f} with 95 % confidence; it must be above 0, with a lower end of at least {rules.min_gain:g}"
    )
    return Check("gain", gain.value > 0 and gain.low >= rules.min_gain, detail)


def _comparison(challenger: Evidence, champion: Evidence, name: str) -> Comparison:
    gain = _points(paired_difference(*_pair(challenger, champion, name), seed=SEED))
    new, old = (100 * evidence.mean_average_precision(name) for evidence in (challenger, champion))
    return Comparison(new, old, gain)


def _losses(figures: Mapping[str, Comparison], rules: GateConfig) -> Iterator[Check]:
    for name, comparison in figures.items():
        change = comparison.gain.value
        detail = f"{name} changes by {change:+.2f} points; a loss of at most {rules.max_loss:g} is allowed"
        yield Check(f"no loss on {name}", change >= -rules.max_loss, detail)


def _pair(challenger: Evidence, champion: Evidence, name: str) -> tuple[list[float], list[float]]:
    """Return the average precisions of the same queries in the same order."""
    new, old = challenger.average_precisions[name], champion.average_precisions[name]
    return list(new.values()), [old[image] for image in new]


def _points(estimate: Estimate) -> Estimate:
    """Convert to points, rounded: the noise of a sum would turn a tie into a difference."""
    value, low, high = (round(100 * figure, 6) for figure in (estimate.value, estimate.low, estimate.high))
    return Estimate(value, low, high, estimate.queries)


def conclude(checks: list[Check], why: str, figures: Mapping[str, Comparison]) -> Outcome:
    """Promote if every rule is kept, with `why` as the reason; else refuse with what is broken."""
    broken = [check for check in checks if not check.kept]
    reason = "; ".join(f"{check.rule}: {check.detail}" for check in broken) if broken else why
    return Outcome("refused" if broken else "promoted", reason, tuple(checks), figures)
