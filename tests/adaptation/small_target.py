"""A small target whose people are colours and walk past three cameras, and a source of other colours."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from qaconv.adaptation import rounds
from qaconv.adaptation.view import View, view_target
from qaconv.config import Params
from qaconv.data.loading import in_torch
from qaconv.data.manifest import Manifest
from qaconv.models.checkpoint import save_network
from qaconv.paths import MODELS, PREPARED, SOURCES, TLIFT, UNFINISHED
from qaconv.release import feature_maps
from tests.stages.site_params import site_params

PEOPLE, CAMERAS, CROPS = 20, 3, 2
COUNT = PEOPLE * CAMERAS * CROPS


def target_params(folder: Path) -> Params:
    """Return the settings of a project whose target is `shop`."""
    values = site_params(folder, "other")
    values["sources"].update(datasets=["other"])
    values["methods"]["qaconv"]["train"].update(identities_per_batch=8, images_per_identity=2, lr_drop_by="holdout")
    values["adapt"].update(targets=["shop"], rounds=1, epochs=2)
    return Params.model_validate(values)


def encode_by_torch(patch: pytest.MonkeyPatch) -> None:
    """Encode without an ONNX graph, whose export takes seconds."""
    patch.setattr(feature_maps, "fastest", lambda network, graph, device: in_torch(network.encoder, device))
    patch.setattr(rounds, "save_with_graph", save_network)


def write_target(
    params: Params,
    *,
    pids: np.ndarray | None = None,
    times: bool = True,
    permuted: bool = False,
    casts: np.ndarray | None = None,
) -> View:
    """Write images, manifest, source, network and profile in the working folder, and return what the network sees.

    Args:
        params: of `target_params`.
        pids: person by the manifest on each sighting, [COUNT]. Default: the true one.
        times: whether sightings have times. Default: True.
        permuted: whether the times of each camera are permuted. Default: False.
        casts: gain of each camera's channels, [CAMERAS, 3]. Default: 1.
    """
    gains = np.ones((CAMERAS, 3)) if casts is None else casts
    rng = np.random.default_rng(0)
    person, camid, crop = np.indices((PEOPLE, CAMERAS, CROPS)).reshape(3, -1)
    colours = rng.integers(30, 225, (PEOPLE, 4, 1, 3))
    colours_of = colours[person] * gains[camid][:, None, None]
    frame = pd.DataFrame(
        {
            "image": [_draw(f"shop/{row:04d}.png", colours_of[row], rng) for row in range(COUNT)],
            "pid": person if pids is None else pids,
            "camid": camid,
            "time_s": 400.0 * person + 60.0 * camid + 2.0 * crop + rng.uniform(0, 3, COUNT) if times else np.nan,
            "split": np.where(crop == 0, "query", "gallery"),
            "domain": "shop",
            "track": "",
        }
    )
    if permuted:
        draws = np.random.default_rng(1)
        frame["time_s"] = frame.groupby("camid")["time_s"].transform(lambda of_camera: draws.permutation(of_camera))
    manifest = Manifest(frame, Path())
    manifest.save(PREPARED / "shop")
    _write_held_out(rng)
    network = MODELS / "qaconv"
    save_network(params.method("qaconv").build(1), network, {"calibration": None}, {})
    device = torch.device("cpu")
    seen = view_target(network, manifest, params.evaluate, UNFINISHED.resolve() / "seen", device=device, workers=0)
    replace(seen.profile, model=seen.matches.model).save(TLIFT / "shop" / "qaconv.json")
    return seen


def _write_held_out(rng: np.random.Generator) -> None:
    """Write the table of people held out of the sources: two, on two cameras each."""
    rows: list[dict[str, object]] = []
    for person in range(2):
        colour = rng.integers(30, 225, (4, 1, 3))
        for camid in (0, 1, 1):
            path = _draw(f"other/{person}_{len(rows)}.png", colour, rng)
            rows.append({"path": path, "label": person, "domain": "other", "camid": camid})
    SOURCES.mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(SOURCES / "holdout.parquet", index=False)


def _draw(path: str, colour: np.ndarray, rng: np.random.Generator) -> str:
    """Write an image of four stripes with noise, and return its path."""
    stripes = np.repeat(colour, 8, axis=0).repeat(16, axis=1)
    pixels = np.clip(stripes + rng.integers(-20, 21, (32, 16, 3)), 0, 255).astype(np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path
