"""A new user's mistakes: each ends in one message that says what is wrong, without a traceback."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import qaconv
from qaconv.cli import app
from tests.imports import PROJECT
from tests.tracked_projects import write

PARAMS = (PROJECT / "params.yaml").read_text(encoding="utf-8")
PROJECT_PARAMS = {"params.yaml": PARAMS}
TABLE = "image,pid,camid,time_s,split\n"


def params(old: str, new: str) -> dict[str, str]:
    """Return the project's params.yaml with a part replaced."""
    assert old in PARAMS, old
    return {"params.yaml": PARAMS.replace(old, new, 1)}


def table(rows: str, name: str = "sightings.csv") -> dict[str, str]:
    """Return params whose dataset `mall` is a table, and the table."""
    old = "mall: {layout: market1501, path: data/raw/mall}"
    return {**params(old, f"mall: {{layout: table, path: shop/{name}}}"), f"shop/{name}": rows}


PREPARE = ["prepare", "--dataset", "mall"]
# By the mistake: the files that the folder has, the command, and words of the message.
COMMANDS: dict[str, tuple[dict[str, str], list[str], str]] = {
    "another folder": ({}, PREPARE, "params.yaml: No such file or directory; run this in the project's folder"),
    "an empty file": ({"params.yaml": ""}, PREPARE, "params: Input should be a block of keys"),
    "a tab": (params("  epochs: 6", "\tepochs: 6"), ["sources"], "is not YAML"),
    "a key misspelt": (params("epochs: 6", "epoch: 6"), ["sources"], "train.epoch: Extra inputs are not permitted"),
    "a key twice": (params("seed: 7", "seed: 7\nseed: 8"), ["sources"], 'duplicate key "seed"'),
    "a word for a number": (
        params("epochs: 6", "epochs: six"),
        ["sources"],
        "train.epochs: Input should be",
    ),
    "a time for a number": (params("epochs: 6", "epochs: 1:30"), ["sources"], "found '1:30'"),
    "off for false": (params("amp: false", "amp: off"), ["sources"], "train.amp: Input should be a valid boolean"),
    "a comma for a point": (params("lr: 0.05", "lr: 0,05"), ["sources"], "train.lr: Input should be a valid number"),
    "an unknown backbone": (params("resnet18", "resnet19"), ["sources"], "unknown backbone 'resnet19', allowed: "),
    "an unknown layout": (params("layout: market1501", "layout: market"), ["sources"], "unknown layout 'market'"),
    "a target without a dataset": (params("targets: [campus,", "targets: [harbour,"), ["sources"], "unknown datasets"),
    "a home folder": (params("path: data/raw/mall", "path: ~/mall"), PREPARE, "~ and an empty path are not replaced"),
    "a folder that is missing": (params("data/raw/mall", "nowhere"), PREPARE, "nowhere"),
    "an older file": (params("targets:", "deployments:"), ["sources"], "`qaconv migrate-params` rewrites it"),
    "weights by a path": (params("weights: none", "weights: /x/a.pth"), ["sources"], "dvc add"),
    "an unknown dataset": (PROJECT_PARAMS, ["prepare", "--dataset", "shop"], "datasets has no 'shop', allowed"),
    "an unknown site": (PROJECT_PARAMS, ["synthetic", "--site", "shop"], "sites has no 'shop', allowed"),
    "an unknown target": (PROJECT_PARAMS, ["features", "--target", "shop"], "targets has no 'shop', allowed"),
    "a target as a path": (PROJECT_PARAMS, ["enrol", "--target", "../x"], "targets has no '../x', allowed"),
    "a part too many": (PROJECT_PARAMS, ["match", "--target", "mall", "--part", "2"], "--part must be in 1..1"),
    "an unknown method": (PROJECT_PARAMS, ["train", "--method", "qaconf"], "methods has no 'qaconf', allowed"),
    "an unknown recipe": (PROJECT_PARAMS, ["recipe", "cvpr"], "unknown recipe 'cvpr', allowed: "),
    "evaluating first": (PROJECT_PARAMS, ["evaluate", "--target", "mall"], "dvc repro"),
    "training first": (PROJECT_PARAMS, ["train", "--method", "qaconv"], "dvc repro"),
    "matching first": (PROJECT_PARAMS, ["match", "--target", "mall"], "dvc repro"),
    "enrolling first": (PROJECT_PARAMS, ["enrol", "--target", "mall"], "dvc repro prepare"),
    "an address without http": (
        PROJECT_PARAMS,
        ["enrol", "--target", "mall", "--url", "127.0.0.1:8000"],
        "--url must be the service's address, such as http://127.0.0.1:8000",
    ),
    "a service for all without keys": (
        PROJECT_PARAMS,
        ["serve", "--host", "0.0.0.0"],
        "--keys must name",
    ),
    "keys in no folder": ({}, ["serve-key", "me", "--keys", "no/keys", "--scope", "search"], "its folder must exist"),
    "an unknown scope": ({}, ["serve-key", "me", "--keys", "keys", "--scope", "read"], "unknown scopes ['read']"),
    "a table without rows": (table(TABLE), PREPARE, "has no sightings, must have at least one row"),
    "a table with semicolons": (table(TABLE.replace(",", ";") + "a.jpg;1;0;1;query\n"), PREPARE, "with commas between"),
    "a table without a column": (
        table("pid,camid,split\n1,0,query\n"),
        PREPARE,
        "must have the column image, got pid, camid, split",
    ),
    "a date without a zone": (table(f"{TABLE}a.jpg,1,door,2026-11-27T08:15,query\n"), PREPARE, "2026-11-27T08:15"),
    "a split misspelt": (table(f"{TABLE}a.jpg,1,0,5,test\n"), PREPARE, "have a split that is none of train, query, "),
    "milliseconds": (table(f"{TABLE}a.jpg,1,0,1764211494000,query\n"), PREPARE, "1.8e12 are milliseconds"),
    "an image that is missing": (table(f"{TABLE}a.jpg,1,0,5,query\n"), PREPARE, "a.jpg"),
    "an image that is none": ({**table(f"{TABLE}a.jpg,1,0,5,query\n"), "shop/a.jpg": "<html>"}, PREPARE, "a.jpg"),
    "a spreadsheet": (table("PK", "sightings.xlsx"), PREPARE, "a table must be a .csv or a .parquet file"),
    "a checkpoint that is missing": ({}, ["import-checkpoint", "a.tar", "--output", "model"], "a.tar"),
    "a checkpoint that is none": ({"a.tar": "x"}, ["import-checkpoint", "a.tar", "--output", "model"], "a.tar"),
}


REMEMBERED = {"artifacts", "checked", "mall.parquet"}  # the sound images that `prepare` decodes once


@pytest.mark.parametrize("mistake", COMMANDS)
def test_a_mistake_ends_in_one_message(mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, command, words = COMMANDS[mistake]
    for name, text in files.items():
        write(tmp_path / name, text)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, command)
    assert (result.exit_code, result.stderr.count("refused: ")) == (2, 1), result.output
    assert words in result.stderr
    written = sorted(path for path in tmp_path.rglob("*") if path.name not in REMEMBERED)
    assert written == before


# By the mistake: a call of the library, and words of the message.
CALLS: dict[str, tuple[Callable[[], Any], str]] = {
    "a network's folder as text": (lambda: qaconv.load_network("nowhere"), "nowhere: holds no network"),
    "a manifest's folder as text": (lambda: qaconv.Manifest.load("nowhere"), "nowhere: must hold manifest.parquet"),
    "a profile's path as text": (lambda: qaconv.TLiftProfile.load("nowhere"), "nowhere is not a TLift profile"),
    "a dataset's folder as text": (lambda: qaconv.read_dataset("viper", "nowhere"), "nowhere"),
    "an empty gallery": (
        lambda: qaconv.evaluate_ranking(np.zeros((1, 0)), [1], [], [0], []),
        "queries and gallery must have images of people, got 1 queries and 0 gallery images",
    ),
    "scores turned round": (
        lambda: qaconv.evaluate_ranking([[0.5], [0.5]], [1], [1, 2], [0], [1, 1]),
        "scores must have shape (1, 2)",
    ),
    "no pivot": (
        lambda: qaconv.temporal_lift([[0.5]], [0], [10], [1], [20], top_k=0),
        "top_k must be a whole number of at least 1, got 0",
    ),
    "a fractional neighbour": (
        lambda: qaconv.fit_profile([[0.5], [0.0]], [[0.9], [0.9]], [0, 1], [1.0, 2.0]),
        "neighbour_indices must be whole numbers, got 0.5",
    ),
}


@pytest.mark.parametrize("mistake", CALLS)
def test_a_wrong_call_is_one_error_that_names_the_argument(
    mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, words = CALLS[mistake]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as caught:
        call()
    assert words in str(caught.value)
