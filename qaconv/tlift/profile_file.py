"""Read the file of a temporal profile, `artifacts/tlift/<target>/<method>.json`, with the types of its parts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from qaconv.errors import InputError
from qaconv.tlift.calibration import Calibration
from qaconv.tlift.clock_checks import ClockCorrection
from qaconv.tlift.findings import Finding
from qaconv.tlift.parameters import LiftParameters
from qaconv.tlift.probability import MatchOdds
from qaconv.tlift.return_times import ReturnTimes
from qaconv.tlift.transit import TransitTable

VERSION = 2  # of the file
Profile = TypeVar("Profile")


def read_profile(path: Path, build: Callable[..., Profile]) -> Profile:
    """Read a profile.

    Args:
        path: of the file.
        build: makes the profile of its attributes.

    Raises:
        InputError: the file does not exist, or is not a profile of this version.
    """
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = values.pop("version")
        if version != VERSION:
            raise InputError(
                f"{path} must be a profile of version {VERSION}, got version {version}; "
                "`dvc repro fit_tlift` writes it again"
            )
        if "deployment" in values:  # the name of `target` in files of 0.1.0 and before
            values["target"] = values.pop("deployment")
        return build(**_typed(values))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a TLift profile: {error!r}; `dvc repro fit_tlift` writes it") from error


def _typed(values: dict[str, Any]) -> dict[str, Any]:
    """Convert JSON's lists and objects to the types of the profile."""
    span, odds = values["span_s"], values.get("match_odds")
    return {
        **values,
        "camids": tuple(values["camids"]),
        "span_s": None if span is None else (span[0], span[1]),
        "parameters": LiftParameters(**values["parameters"]),
        "transit": TransitTable(**values["transit"]),
        "calibrations": {name: Calibration(**curve) for name, curve in values["calibrations"].items()},
        "match_odds": None if odds is None else MatchOdds.from_json(odds),
        "clocks": {int(camid): ClockCorrection(**clock) for camid, clock in values["clocks"].items()},
        "findings": tuple(Finding(**finding) for finding in values["findings"]),
        "cameras": {int(camid): name for camid, name in values.get("cameras", {}).items()},
        "return_times": ReturnTimes(tuple(values.get("return_times", {}).get("log_ratio", ()))),
    }
