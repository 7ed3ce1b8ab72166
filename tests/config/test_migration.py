"""A params.yaml of an older version is refused by its keys, and rewritten on request."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from qaconv import cli
from qaconv.config import load_params, load_recorded_params
from qaconv.config.migration import migrate_params
from qaconv.config.outdated import SHARED, replace_outdated
from qaconv.errors import InputError

BEFORE = Path(__file__).with_name("params_before_0_1_0.yaml")
AFTER = Path(__file__).with_name("params_after_migration.yaml")


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
        "  evaluate.parts is now a number, 1",
        "  train.datasets is now sources.datasets",
        "  train.holdout_share is now sources.holdout_share",
        *(f"  {key} is now methods.qaconv.{key} and methods.baseline.{key}" for key in SHARED),
        "  methods.qaconv.pooled is now methods.qaconv.kind: qaconv",
        "  methods.baseline.pooled is now methods.baseline.kind: pooled",
        "  registry.method is qaconv",
    ]


def test_migrated_file_has_the_new_keys_in_the_old_order_and_is_valid(old: Path) -> None:
    migrate_params(old)
    assert old.read_text() == AFTER.read_text()
    load_params(old)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# a\n  margin: 1  # b\n  # c\n\n  # d\n  lr: 2  # e\n", "# a\n  # c\n\n  # d\n  lr: 2  # e\n"),
        ("lr: 2  # a\n  margin: 1  # b\n  # c\n  pairwise_epochs: 0  # d\n# e\n", "lr: 2  # a\n  # c\n# e\n"),
        ("lr: 2\n  margin: 1\n# a\n", "lr: 2\n# a\n"),
    ],
)
def test_only_the_comment_on_the_line_of_a_removed_key_goes_with_it(before: str, after: str) -> None:
    editor = YAML()
    values = editor.load(f"train:\n  {before}gate:\n  x: 1\n")
    replace_outdated(values, Path("params.yaml"))
    text = StringIO()
    editor.dump(values, text)
    assert text.getvalue() == f"train:\n  {after}gate:\n  x: 1\n"


def test_margin_that_the_loss_has_already_is_kept_and_the_other_is_named() -> None:
    loss = {"kind": "hard_triplet", "margin": 4}
    values = {"methods": {"qaconv": {"loss": loss}}, "train": {"margin": 16}}
    changes = replace_outdated(values, Path("params.yaml"))
    assert changes == ["train.margin, which was 16, is gone: methods.qaconv.loss.margin stays 4"]
    assert loss["margin"] == 4


def test_old_and_new_name_of_a_key_at_once_are_refused(old: Path) -> None:
    old.write_text(old.read_text() + "targets: [mall]\n")
    before = old.read_bytes()
    for read in (load_params, migrate_params):
        with pytest.raises(InputError, match=r"params\.yaml: deployments is now targets, and both are set"):
            read(old)
    assert old.read_bytes() == before


def test_params_of_a_registered_older_version_are_read_and_the_file_stays(old: Path) -> None:
    params = load_recorded_params(old)
    assert params.targets == ["campus", "station", "mall"]
    assert params.drift.sightings == 500
    assert {name: method.kind for name, method in params.methods.items()} == {"qaconv": "qaconv", "baseline": "pooled"}
    recipes = [method.model_dump(exclude={"kind", "head", "loss"}) for method in params.methods.values()]
    assert recipes[0] == recipes[1] and recipes[0]["train"]["weight_decay"] == 0.0005
    assert old.read_bytes() == BEFORE.read_bytes()


def test_margin_moves_into_the_hard_triplet_loss(old: Path) -> None:
    text = old.read_text().replace("pairwise_matching", "hard_triplet").replace("margin: 16", "margin: 4")
    old.write_text(text.replace("pairwise_epochs: 0", "pairwise_epochs: 2"))
    assert "train.margin is now methods.qaconv.loss.margin" in migrate_params(old)
    methods = load_params(old).model_dump()["methods"]
    assert methods["qaconv"]["loss"] == {"kind": "hard_triplet", "margin": 4, "pairwise_epochs": 2}
    assert methods["baseline"]["loss"] == {"kind": "identity"}


def test_current_params_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(AFTER.read_bytes())
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


def test_a_list_of_parts_becomes_their_number() -> None:
    values: dict[str, Any] = {"evaluate": {"parts": [1, 2, 3], "rerank": {"kind": "k_reciprocal"}}}
    assert replace_outdated(values, Path("params.yaml")) == ["evaluate.parts is now a number, 3"]
    assert values["evaluate"]["parts"] == 3
