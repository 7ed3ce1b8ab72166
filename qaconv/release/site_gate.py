"""Decide by evidence without labels whether an adapted network becomes its site's champion.

Every rule is checked, so that one refusal names everything that is wrong. The limits are `gate` in params.yaml.
"""

from collections.abc import Iterator

from qaconv.config.operation import GateConfig
from qaconv.release.gate import Check, Outcome, check_budgets, conclude
from qaconv.release.site_evidence import SiteEvidence

UNITS = {
    "answers": "F1 of marked matches by {count} answered pairs",
    "times": "right matches of {count} people, by times alone,",
}


def decide_site(
    challenger: SiteEvidence, champion: SiteEvidence | None, for_all: str | None, rules: GateConfig
) -> Outcome:
    """Promote an adapted network that keeps every rule.

    Args:
        challenger: evidence for the new version.
        champion: evidence for the site's present version. None: the champion for all targets answers there.
        for_all: digest of the weights of the champion for all targets. None: there is none.
        rules: `gate` of params.yaml.
    """
    gain, forgetting = _gain(challenger, rules), _forgetting(challenger, rules)
    checks = [
        *check_budgets(challenger, rules),
        _beginning(challenger, for_all),
        gain,
        *_answers(challenger, rules),
        forgetting,
    ]
    if champion:
        checks += _against_champion(challenger, champion)
    return conclude(checks, f"{gain.detail}; {forgetting.detail}", {})


def _beginning(challenger: SiteEvidence, for_all: str | None) -> Check:
    """Check that it is compared with the network that answers: the site's evidence is of what it began with."""
    if for_all is None:
        return Check("beginning", False, "there is no champion for all targets, with which an adaptation must begin")
    is_champion = challenger.began_with == for_all
    detail = "it began with the champion for all targets"
    if not is_champion:
        detail = f"it must begin with the champion for all targets, {for_all[:12]}, it began with another network"
    return Check("beginning", is_champion, detail)


def _gain(challenger: SiteEvidence, rules: GateConfig) -> Check:
    gain = challenger.gain
    if gain is None:
        return Check("gain", False, f"nothing says without labels that it is better: {challenger.reason}")
    if not (challenger.kept_round or challenger.by_camera):
        return Check("gain", False, f"nothing was better than what it began with: {challenger.reason}")
    points = [round(100 * value, 6) for value in (gain.after - gain.before, gain.low, gain.high)]
    detail = (
        f"{UNITS[gain.by].format(count=gain.count)} change by {points[0]:+.2f} points, {points[1]:+.2f} to "
        f"{points[2]:+.2f} with 95 % confidence; they must rise, with a lower end of at least "
        f"{rules.min_site_gain:g}"
    )
    return Check("gain", points[0] > 0 and points[1] >= rules.min_site_gain, detail)


def _answers(challenger: SiteEvidence, rules: GateConfig) -> Iterator[Check]:
    highest = challenger.reviewed_precision
    if highest is not None:
        detail = (
            f"of the pairs marked as matches at least {rules.min_match_precision:.1%} must be right, by people's "
            f"answers at most {highest:.1%} are, with 95 % confidence"
        )
        yield Check("reviewed matches", highest >= rules.min_match_precision, detail)


def _forgetting(challenger: SiteEvidence, rules: GateConfig) -> Check:
    if challenger.source_map is None:
        detail = "what was forgotten of the sources was not measured; set sources.holdout_share above 0"
        return Check("forgetting", False, detail)
    before, after = challenger.source_map
    change = round(100 * (after - before), 6)
    detail = (
        f"mAP on the sources' people held out changes by {change:+.2f} points; a loss of at most "
        f"{rules.max_forgotten:g} is allowed"
    )
    return Check("forgetting", change >= -rules.max_forgotten, detail)


def _against_champion(challenger: SiteEvidence, champion: SiteEvidence) -> Iterator[Check]:
    """Check, where both were judged on the same data in the same way, that it is no worse than the site's champion."""
    new, old = challenger.gain, champion.gain
    if new and old and new.by == old.by and challenger.data == champion.data:
        detail = f"the site's champion has {old.after:.1%} there, it has {new.after:.1%}; it must have at least as many"
        yield Check("the site's champion", new.after >= old.after, detail)
