"""Lift scores by the times of sightings: temporal lifting, and profiles that are fitted without labels."""

from qaconv.tlift.fit import fit_profile
from qaconv.tlift.lift import temporal_lift
from qaconv.tlift.profile import TLiftProfile

__all__ = ["TLiftProfile", "fit_profile", "temporal_lift"]
