"""Settings of a small pipeline on a rendered site."""

from pathlib import Path
from typing import Any

import yaml

from tests.imports import PROJECT


def site_params(site_folder: Path, second: str) -> dict[str, Any]:
    """Return the project's settings for a tiny network, the target `shop`, and a second name for the same images."""
    values: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    site = {"layout": "market1501", "path": str(site_folder)}
    values["datasets"] = {"shop": site, second: site}
    values["targets"] = ["shop"]
    values["adapt"]["targets"] = []
    for method in values["methods"].values():
        method["image"] = {"height": 32, "width": 16}
        method["backbone"].update(neck_channels=8)
    return values
