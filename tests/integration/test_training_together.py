"""Run `qaconv train` in a folder of its own, in one process and in several."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from qaconv.config import load_params
from qaconv.stages.prepare import prepare
from qaconv.stages.sources import sources

PROJECT = Path(__file__).parents[2]
COMMANDS = Path(sys.executable).parent
WEIGHTS = Path("artifacts/model/qaconv/weights.safetensors")
TRAIN = ["qaconv", "train", "--method", "qaconv"]


@pytest.fixture
def folder(site_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change into a project with a training table."""
    monkeypatch.chdir(tmp_path)
    set_params(PROJECT / "params.yaml", datasets={"shop": {"layout": "market1501", "path": str(site_folder)}})
    values = yaml.safe_load(Path("params.yaml").read_text())
    values.update(targets=["shop"], adapt={"targets": []}, sources={"datasets": ["shop"], "holdout_share": 0.25})
    for method in values["methods"].values():
        method["image"] = {"height": 32, "width": 16}
        method["backbone"].update(neck_channels=8)
        method["train"].update(identities_per_batch=4, images_per_identity=2, epochs=1, lr_drop_epoch=1)
        method["train"].update(lr=1e-3, backbone_lr=1e-3)
    Path("params.yaml").write_text(yaml.safe_dump(values))
    prepare(load_params(), "shop")
    sources(load_params())
    return tmp_path


def set_params(source: Path, **changes: Any) -> None:
    """Write params.yaml from `source` with some settings changed."""
    values = yaml.safe_load(source.read_text())
    for name, change in changes.items():
        values[name] = values[name] | change if name == "machine" else change
    Path("params.yaml").write_text(yaml.safe_dump(values))


def train(*launcher: str) -> subprocess.CompletedProcess[str]:
    """Run `qaconv train`, by a launcher such as torchrun if one is given."""
    command = [str(COMMANDS / launcher[0]), *launcher[1:]] if launcher else []
    return subprocess.run([*command, str(COMMANDS / TRAIN[0]), *TRAIN[1:]], capture_output=True, text=True, check=False)


def test_two_processes_of_params_yaml_or_of_torchrun_train_the_network_that_one_trains(folder: Path) -> None:
    assert train().returncode == 0
    alone = load_file(WEIGHTS)
    by_torchrun = train("torchrun", "--standalone", "--nproc-per-node", "2", "--no-python")
    assert by_torchrun.returncode == 0, by_torchrun.stderr
    from_torchrun = load_file(WEIGHTS)
    set_params(Path("params.yaml"), machine={"processes": 2})
    by_params = train()
    assert by_params.returncode == 0, by_params.stderr
    assert by_params.stderr.count("2 processes train together") == 1
    together = load_file(WEIGHTS)
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=1e-5, atol=1e-5)
        assert torch.equal(together[name], from_torchrun[name])
    assert not (folder / "artifacts/unfinished/qaconv.pt").exists()


@pytest.mark.usefixtures("folder")
def test_an_input_error_of_several_processes_is_printed_once() -> None:
    set_params(Path("params.yaml"), machine={"processes": 3})
    process = train()
    assert process.returncode == 2
    assert process.stderr.count("refused: params.yaml: train.identities_per_batch times") == 1
    assert not WEIGHTS.exists()
