"""A params.yaml of an older version is refused by its keys, and rewritten on request."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from qaconv import cli
from qaconv.config import load_params
from qaconv.config.migration import migrate_params
from qaconv.errors import InputError

PARAMS = Path(__file__).parents[2] / "params.yaml"
BEFORE = Path(__file__).with_name("params_before_0_1_0.yaml")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_bytes(BEFORE.read_bytes())
    return path


def test_old_params_are_refused_with_every_old_key_and_its_new_one(old: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_params(old)
    assert str(caught.value).splitlines() == [
        f"{old} has keys of an older version; `qaconv migrate-params` rewrites it:",
        "  deployments is now targets",
        "  watch is now drift",
        "  methods.qaconv.loss is now methods.qaconv.loss.kind",
        "  methods.qaconv.sampler is now methods.qaconv.sampler.kind",
        "  methods.baseline.loss is now methods.baseline.loss.kind",
        "  methods.baseline.sampler is now methods.baseline.sampler.kind",
        "  train.margin is gone: it is a setting of the loss hard_triplet now, which no method has",
        "  train.pairwise_epochs is gone: it is a setting of the loss hard_triplet now, which no method has",
        "  evaluate.rerank now begins with kind: k_reciprocal",
    ]


def test_migrated_params_have_the_content_of_the_current_ones(old: Path) -> None:
    migrate_params(old)
    migrated = yaml.safe_load(old.read_text())
    current = yaml.safe_load(PARAMS.read_text())
    assert migrated == current
    assert list(migrated) == list(current)
    assert list(migrated["evaluate"]["rerank"]) == list(current["evaluate"]["rerank"])


def test_migration_keeps_every_comment_but_those_of_the_keys_that_are_gone(old: Path) -> None:
    migrate_params(old)
    lines = [line for line in BEFORE.read_text().splitlines() if not line.startswith(("  margin", "  pairwise_epochs"))]
    comments = [line.partition("#")[2] for line in lines]
    assert [line.partition("#")[2] for line in old.read_text().splitlines()] == comments


def test_margin_moves_into_the_hard_triplet_loss(old: Path) -> None:
    text = old.read_text().replace("pairwise_matching", "hard_triplet").replace("margin: 16", "margin: 4")
    old.write_text(text.replace("pairwise_epochs: 0", "pairwise_epochs: 2"))
    assert "train.margin is now methods.qaconv.loss.margin" in migrate_params(old)
    params = load_params(old)
    assert params.method("qaconv").loss.model_dump() == {"kind": "hard_triplet", "margin": 4, "pairwise_epochs": 2}
    assert params.method("baseline").loss.model_dump() == {"kind": "identity"}


def test_current_params_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(PARAMS.read_bytes())
    before = path.stat()
    assert migrate_params(path) == []
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_old_params_with_another_fault_are_refused_and_stay(old: Path) -> None:
    old.write_text(old.read_text().replace("epochs: 6", "epochs: -6"))
    before = old.read_bytes()
    with pytest.raises(InputError, match=r"train\.epochs"):
        migrate_params(old)
    assert old.read_bytes() == before
    assert list(old.parent.iterdir()) == [old]


def test_command_prints_what_it_changed_and_changes_it_once(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(old.parent)
    first, second = (CliRunner().invoke(cli.app, ["migrate-params"]) for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.output.splitlines()[0] == "deployments is now targets"
    assert second.output == "params.yaml is current\n"
