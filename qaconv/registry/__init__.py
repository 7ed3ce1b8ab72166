"""MLflow: runs, registered versions, promotion, packaging and reproduction."""

from qaconv.registry.registration import link_profile, register
from qaconv.registry.releases import (
    Release,
    aliases,
    download_served,
    find_champion,
    find_holder,
    find_release,
    is_registered,
    load_evidence,
    load_served,
    started_s,
)

__all__ = [
    "Release",
    "aliases",
    "download_served",
    "find_champion",
    "find_holder",
    "find_release",
    "is_registered",
    "link_profile",
    "load_evidence",
    "load_served",
    "register",
    "started_s",
]
