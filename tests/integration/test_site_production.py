"""Let a site drift on the real servers of `make up`, until its service answers by a network of its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from qaconv.config import SiteConfig
from qaconv.data.layouts import market1501
from qaconv.data.manifest import Manifest
from qaconv.synthetic.render import render_site
from tests.integration.asking_service import asking, enrol, share_right
from tests.integration.running_service import running
from tests.integration.running_stack import Stack, aliases, started_stack, wait_for

pytestmark = pytest.mark.production

MONDAY, TUESDAY = range(1, 25), range(25, 61)  # people of the shop, by the day of their upload
LEAST_GAIN = 0.05  # of the share of right ones among the first answers


def adapt_to_shop(settings: dict[str, Any]) -> None:
    """Train one method well enough that times of the shop can be used, and let drift start an adaptation."""
    settings["targets"] = ["shop"]
    settings["evaluate"]["parts"] = 1
    del settings["methods"]["baseline"]
    settings["sites"]["campus"]["people"] = 100
    qaconv = settings["methods"]["qaconv"]
    qaconv["image"] = {"height": 64, "width": 32}
    qaconv["backbone"]["neck_channels"] = 32
    qaconv["train"] |= {"identities_per_batch": 8, "images_per_identity": 4, "epochs": 6, "lr_drop_epoch": 5}
    settings["adapt"] = {"targets": ["shop"], "camera_norms": True, "rounds": 1, "epochs": 4, "lr": 0.02}
    settings["gate"] |= {"max_forgotten": 100.0, "max_calibration_error": 1.0}  # measured on few held-out people
    settings["drift"]["start"] = True
    settings["serve"]["poll_s"] = 1


@pytest.fixture
def stack() -> Iterator[Stack]:
    with started_stack(adapt_to_shop) as started:
        yield started


@pytest.fixture
def sightings(tmp_path: Path) -> Manifest:
    """Render the sightings of a shop, whose lamps are others on Tuesday: dark, and red for blue."""
    render_site(SiteConfig(seed=501, cameras=3, people=60), tmp_path / "shop", processes=2)
    manifest = market1501.read(tmp_path / "shop", "shop")
    for image in people(manifest, TUESDAY)["image"]:
        with Image.open(manifest.root / image) as crop:
            red, green, blue = crop.convert("RGB").point(lambda value: int(0.4 * value)).split()
            Image.merge("RGB", (blue, green, red)).save(manifest.root / image, quality=90)
    return manifest


def people(sightings: Manifest, pids: range) -> pd.DataFrame:
    return sightings.frame[sightings.frame["pid"].isin(pids)]


def ingest(stack: Stack, batch: str, rows: pd.DataFrame, root: Path) -> None:
    stack.upload(batch, rows, root)
    stack.complete("ingest/hourly")


def test_a_drifted_site_gets_a_champion_of_its_own_and_its_service_answers_better_without_a_gap(
    stack: Stack, sightings: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = stack.registry(monkeypatch)
    ingest(stack, "monday", people(sightings, MONDAY), sightings.root)
    stack.complete("retrain/weekly", changes={"adapt.targets": []})
    named = aliases(registry)
    assert named == {"challenger": "1", "champion": "1"}, registry.get_model_version("qaconv", "1").tags["promotion"]
    drifted = people(sightings, TUESDAY)
    ingest(stack, "tuesday", drifted, sightings.root)
    options = ("--target", "shop", "--state", "galleries-shop")
    with running(stack.folder, *options, **stack.variables) as (client, _):
        pids = enrol(client, drifted, sightings.root)
        queries = drifted[drifted["split"] == "query"]
        with asking(client, sightings.root / drifted["image"].iloc[0]) as answers:
            before = share_right(client, queries, sightings.root, pids)
            adapting = stack.started_by(stack.complete("drift/daily"), "adapt/by-hand")
            assert stack.finish(adapting).is_completed()
            named = aliases(registry)
            assert named == {
                "challenger": "1", "champion": "1", "challenger-shop": "2", "champion-shop": "2"
            }, registry.get_model_version("qaconv", "2").tags  # fmt: skip
            wait_for(lambda: client.get("/readyz").json()["version"] == "2" or None)
            after = share_right(client, queries, sightings.root, pids)
    assert {(answer.status, answer.answers) for answer in answers} == {(200, min(200, len(pids)))}
    assert list(dict.fromkeys(answer.version for answer in answers)) == ["1", "2"]
    assert after > before + LEAST_GAIN, f"{before:.3f}, then {after:.3f}"
