"""Evidence of a challenger and of the champion goes in; whether the challenger is promoted comes out, and why.

Every rule is checked, so that one refusal names all that is wrong. The rules are params.yaml's `gate`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from qaconv.config import GateConfig
from qaconv.metrics import Estimate, mean_paired_difference, paired_difference
from qaconv.release.evidence import Evidence

SEED = 0  # of the bootstrap: the same evidence is the same outcome


@dataclass(frozen=True)
class Check:
    """One rule: what it is about, whether it is kept, and what was found and asked for."""

    rule: str
    kept: bool
    found: str


@dataclass(frozen=True)
class Comparison:
    """On one target, mAP of direct matching in points: the challenger's, the champion's, and the gain by queries."""

    challenger: float
    champion: float
    gain: Estimate


@dataclass(frozen=True)
class Outcome:
    """What was decided about a challenger.

    Attributes:
        verdict: unchanged is a challenger that is the champion already.
        reason: for a person, in a sentence or two.
        checks: every rule that was looked at.
        figures: by target that both were measured on with the same data.
    """

    verdict: Literal["promoted", "refused", "unchanged"]
    reason: str
    checks: tuple[Check, ...] = ()
    figures: Mapping[str, Comparison] = field(default_factory=dict)

    @property
    def promoted(self) -> bool:
        return self.verdict == "promoted"


def decide(challenger: Evidence, champion: Evidence | None, rules: GateConfig) -> Outcome:
    """Promotes a challenger that keeps every rule; a tie is no gain, and what is not known is not kept.

    Args:
        challenger: of a new version.
        champion: of the present one, if there is one.
        rules: params.yaml's.
    """
    checks = [*_budgets(challenger, rules), *_calibration(challenger, rules), *_clocks(challenger, rules)]
    if champion is None:
        return _outcome(checks, "there was no champion", {})
    checks += _times(challenger, champion)
    common = [
        name
        for name, queries in challenger.average_precisions.items()
        if challenger.data[name] == champion.data.get(name)
        and queries.keys() == champion.average_precisions[name].keys()
    ]
    alone = sorted({*challenger.data, *champion.data} - set(common))
    if not common:
        found = "no target was measured for both on the same data; keep one of the champion's targets as it is"
        return _outcome([*checks, Check("comparison", False, found)], "", {})
    figures = {name: _comparison(challenger, champion, name) for name in common}
    gain = _gain(challenger, champion, common, rules)
    checks += [gain, *_losses(figures, rules)]
    left_out = f"; not compared, as only one was measured on the present data: {', '.join(alone)}" if alone else ""
    return _outcome(checks, gain.found + left_out, figures)


def _budgets(challenger: Evidence, rules: GateConfig) -> Iterator[Check]:
    """What holds for a first version too."""
    worst = max(challenger.differences.values())
    found = f"the graphs are within {worst:.1e} of PyTorch; at most {rules.max_onnx_difference:.1e} is asked for"
    yield Check("ONNX agreement", worst <= rules.max_onnx_difference, found)
    found = f"the graphs have {challenger.megabytes:.1f} MB; at most {rules.max_megabytes:g} is asked for"
    yield Check("size", challenger.megabytes <= rules.max_megabytes, found)
    found = f"a crop takes the encoder {challenger.encoder_ms:.1f} ms; at most {rules.max_encoder_ms:g} is asked for"
    yield Check("latency", challenger.encoder_ms <= rules.max_encoder_ms, found)


def _calibration(challenger: Evidence, rules: GateConfig) -> Iterator[Check]:
    """A probability that people see must mean what it says."""
    for name in challenger.average_precisions:
        error = challenger.calibration_errors.get(name)
        if error is None:
            found = f"nothing is known of the probabilities on {name}; train.holdout_share above 0 measures them"
            yield Check(f"calibration on {name}", False, found)
            continue
        found = (
            f"probabilities on {name} are off by {100 * error:.1f} points on average; at most "
            f"{100 * rules.max_calibration_error:g} is asked for"
        )
        yield Check(f"calibration on {name}", error <= rules.max_calibration_error, found)


def _clocks(challenger: Evidence, rules: GateConfig) -> Iterator[Check]:
    """Where times are used, most cameras must have such as can be used; elsewhere no clock does harm."""
    for name in challenger.average_precisions:
        if challenger.times.get(name) != "":
            continue
        clocks = challenger.clocks.get(name)
        if clocks is None:
            yield Check(f"clocks of {name}", False, f"nothing is known of the clocks of {name}, whose times are used")
            continue
        said = "".join(f"; camera {camid}: {why}" for camid, why in clocks.left_out.items())
        found = (
            f"times of {len(clocks.left_out)} of {clocks.cameras} cameras of {name} were left out; a share of at most "
            f"{rules.max_bad_clocks:g} is allowed{said}"
        )
        yield Check(f"clocks of {name}", len(clocks.left_out) <= rules.max_bad_clocks * clocks.cameras, found)


def _times(challenger: Evidence, champion: Evidence) -> Iterator[Check]:
    """A target whose times served the champion must not lose them unnoticed."""
    for name, why in challenger.times.items():
        if champion.times.get(name) == "":
            found = f"times of {name} are no longer used: {why}" if why else f"times of {name} are used"
            yield Check(f"times of {name}", not why, found)


def _gain(challenger: Evidence, champion: Evidence, common: list[str], rules: GateConfig) -> Check:
    pairs = [_pair(challenger, champion, name) for name in common]
    gain = _points(mean_paired_difference(pairs, seed=SEED))
    found = (
        f"direct mAP, mean over {', '.join(common)}, changes by {gain.value:+.2f} points, {gain.low:+.2f} to "
        f"{gain.high:+.2f} with 95 % confidence; asked for is more than 0, with a lower end of at least "
        f"{rules.min_gain:g}"
    )
    return Check("gain", gain.value > 0 and gain.low >= rules.min_gain, found)


def _comparison(challenger: Evidence, champion: Evidence, name: str) -> Comparison:
    gain = _points(paired_difference(*_pair(challenger, champion, name), seed=SEED))
    new, old = (100 * of.mean_average_precision(name) for of in (challenger, champion))
    return Comparison(new, old, gain)


def _losses(figures: Mapping[str, Comparison], rules: GateConfig) -> Iterator[Check]:
    for name, of in figures.items():
        change = of.gain.value
        found = f"{name} changes by {change:+.2f} points; a loss of at most {rules.max_loss:g} is allowed"
        yield Check(f"no loss on {name}", change >= -rules.max_loss, found)


def _pair(challenger: Evidence, champion: Evidence, name: str) -> tuple[list[float], list[float]]:
    """Average precisions of the same queries in the same order."""
    new, old = challenger.average_precisions[name], champion.average_precisions[name]
    return list(new.values()), [old[image] for image in new]


def _points(estimate: Estimate) -> Estimate:
    """In per cent, and without the noise of adding up, which would make a difference out of none."""
    value, low, high = (round(100 * figure, 6) for figure in (estimate.value, estimate.low, estimate.high))
    return Estimate(value, low, high, estimate.queries)


def _outcome(checks: list[Check], why: str, figures: Mapping[str, Comparison]) -> Outcome:
    broken = [check for check in checks if not check.kept]
    reason = "; ".join(f"{check.rule}: {check.found}" for check in broken) if broken else why
    return Outcome("refused" if broken else "promoted", reason, tuple(checks), figures)
