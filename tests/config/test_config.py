"""params.yaml is read whole, or refused with every wrong key."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ruamel.yaml import YAML

from qaconv.config import Params, load_params
from qaconv.errors import InputError

PARAMS = Path(__file__).parents[2] / "params.yaml"
TRIPLET = {"kind": "hard_triplet", "margin": 16, "pairwise_epochs": 2}


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Write the project's params.yaml after a change."""
    values = yaml.safe_load(PARAMS.read_text())
    change(values)
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def refusal(folder: Path, change: Callable[[dict[str, Any]], object]) -> str:
    """Return the message of load_params about the project's params.yaml after a change."""
    path = changed(folder, change)
    with pytest.raises(InputError) as caught:
        load_params(path)
    return str(caught.value)


def recipe(values: dict[str, Any]) -> Any:
    """Return the block of the method qaconv."""
    return values["methods"]["qaconv"]


def rename(name: str) -> Callable[[dict[str, Any]], object]:
    """Return a change that gives the baseline another name."""
    return lambda values: values["methods"].update({name: values["methods"].pop("baseline")})


def watch_holdout(values: dict[str, Any]) -> None:
    recipe(values)["train"].update(lr_drop_by="holdout")
    values["sources"].update(holdout_share=0)


def set_loss(**loss: object) -> Callable[[dict[str, Any]], object]:
    return lambda values: values["methods"]["qaconv"].update(loss=loss)


def set_sampler(**sampler: object) -> Callable[[dict[str, Any]], object]:
    return lambda values: values["methods"]["qaconv"].update(sampler=sampler)


def test_params_without_the_latest_settings_of_a_recipe_mean_what_they_did(tmp_path: Path) -> None:
    def remove(values: dict[str, Any]) -> None:
        for method in values["methods"].values():
            del method["encode"], method["train"]["lr_schedule"], method["train"]["ema_decay"]

    def turn_flip_off(values: dict[str, Any]) -> None:
        values["methods"]["baseline"]["encode"]["flip"] = False

    assert load_params(changed(tmp_path, remove)) == load_params(changed(tmp_path, turn_flip_off))


def test_params_of_the_project_are_valid() -> None:
    assert set(load_params(PARAMS).methods) == {"qaconv", "baseline"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda values: recipe(values)["train"].update(learning_rate=1),
            ["methods.qaconv.train.learning_rate", "not permitted"],
        ),
        (lambda values: recipe(values)["train"].pop("lr"), ["methods.qaconv.train.lr", "required"]),
        (lambda values: recipe(values)["train"].update(lr=-1), ["methods.qaconv.train.lr", "greater than 0", "-1"]),
        (
            lambda values: recipe(values)["train"].update(lr_drop_epoch=7),
            ["methods.qaconv.train", "lr_drop_epoch must be in 1..6", "got 7"],
        ),
        (
            lambda values: recipe(values)["train"].update(lr_schedule="cosine"),
            ["methods.qaconv.train", "lr_schedule cosine has no drop", "lr_drop_epoch 6 (epochs), got 0 and 5"],
        ),
        (
            lambda values: recipe(values)["train"].update(
                lr_schedule="cosine", lr_drop_epoch=6, lr_drop_when_loss_below=0.7
            ),
            ["methods.qaconv.train", "it needs lr_drop_when_loss_below 0", "got 0.7 and 6"],
        ),
        (lambda values: recipe(values)["train"].update(ema_decay=1), ["methods.qaconv.train.ema_decay", "less than 1"]),
        (lambda values: recipe(values)["encode"].update(flip=1), ["methods.qaconv.encode.flip", "valid boolean"]),
        (
            lambda values: recipe(values)["backbone"].update(name="resnet9"),
            ["methods.qaconv.backbone.name", "resnet18", "resnet9"],
        ),
        (
            lambda values: recipe(values)["backbone"].update(name="timm"),
            ["methods.qaconv.backbone.name", "must be timm:NAME"],
        ),
        (
            lambda values: recipe(values)["backbone"].update(name="tim:r"),
            ["methods.qaconv.backbone.name", "must be timm:NAME"],
        ),
        (lambda values: values["datasets"]["mall"].update(layout="m"), ["datasets.mall.layout", "'m'", "market1501"]),
        (lambda values: values["targets"].append("harbour"), ["targets", "harbour", "station"]),
        (lambda values: values["sources"].update(datasets=["harbour"]), ["sources.datasets", "harbour", "campus"]),
        (
            lambda values: values["methods"].pop("qaconv"),
            ["registry.method must be one of methods", "'qaconv'", "baseline"],
        ),
        (lambda values: recipe(values).update(kind="q"), ["methods.qaconv", "unknown method 'q'", "qaconv, pooled"]),
        (lambda values: recipe(values).pop("kind"), ["methods.qaconv", "the key kind", "qaconv, pooled"]),
        (rename("QAConv"), ["methods.QAConv", "a-z, 0-9, _ and -"]),
        (rename("a_minus_b"), ["methods.a_minus_b", "not contain _minus_"]),
        (rename("gallery"), ["methods.gallery", "be none of queries, gallery"]),
        (rename("qaconv_reranked"), ["methods.qaconv_reranked", "another name", "columns of qaconv begin with it"]),
        (watch_holdout, ["methods.qaconv.train.lr_drop_by holdout needs a sources.holdout_share above 0"]),
        (
            lambda values: recipe(values)["backbone"].update(weights="/x/a.pth"),
            ["data/weights, got '/x/a.pth'", "dvc add"],
        ),
        (set_loss(kind="identity"), ["methods.qaconv", "kind must be pooled, got qaconv"]),
        (set_loss(kind="hinge"), ["methods.qaconv.loss", "unknown loss 'hinge'", "pairwise_matching", "hard_triplet"]),
        (set_loss(margin=16), ["methods.qaconv.loss", "the key kind", "pairwise_matching"]),
        (set_loss(kind="hard_triplet", margin=-1), ["methods.qaconv.loss.margin", "greater than 0", "-1"]),
        (set_loss(kind="hard_triplet", margn=16), ["methods.qaconv.loss.margn", "not permitted"]),
        (set_loss(kind="pairwise_matching", margin=16), ["methods.qaconv.loss.margin", "not permitted"]),
        (
            set_loss(kind="hard_triplet", pairwise_epochs=6),
            ["methods.qaconv: loss must", "begins with 6", "train.epochs is 6"],
        ),
        (set_sampler(kind="kp"), ["methods.qaconv.sampler", "unknown sampler 'kp'", "pk", "graph"]),
        (set_sampler(kind="random"), ["methods.qaconv", "two images of each person", "sampler random"]),
        (lambda values: values["evaluate"]["rerank"].update(kind="k"), ["evaluate.rerank", "'k'", "k_reciprocal"]),
        (lambda values: values["evaluate"]["rerank"].update(k1=0), ["evaluate.rerank.k1", "greater than 0"]),
        (lambda values: values["evaluate"].update(parts=0), ["evaluate.parts", "greater than 0"]),
        (lambda values: values["machine"].update(ray="ray://head:10001"), ["machine.ray", "should match pattern"]),
        (lambda values: values["machine"].update(device="gpu"), ["machine.device", "gpu"]),
        (lambda values: values["machine"].update(processes=0), ["machine.processes", "greater than 0"]),
        (lambda values: values["sites"]["mall"].update(cameras=1), ["sites.mall.cameras", "2"]),
        (
            lambda values: recipe(values)["train"].update(epochs=True),
            ["methods.qaconv.train.epochs", "valid integer", "True"],
        ),
        (
            lambda values: recipe(values)["train"].update(epochs="6"),
            ["methods.qaconv.train.epochs", "valid integer", "'6'"],
        ),
        (
            lambda values: recipe(values)["train"].update(amp="off"),
            ["methods.qaconv.train.amp", "valid boolean", "'off'"],
        ),
        (
            lambda values: recipe(values)["train"].update(lr=float("inf")),
            ["methods.qaconv.train.lr", "finite number", "inf"],
        ),
        (set_loss(kind="hard_triplet", margin=True), ["methods.qaconv.loss.margin", "valid number", "True"]),
        (lambda values: values.update(seed=-7), ["seed", "greater than or equal to 0", "-7"]),
        (lambda values: values.update(machine=None), ["machine: Input should be a block of keys, found None"]),
        (lambda values: values["datasets"]["mall"].update(path=""), ["datasets.mall.path", "an empty path"]),
        (lambda values: values["datasets"]["mall"].update(path="~/mall"), ["datasets.mall.path", "~", "'~/mall'"]),
        (lambda values: values["datasets"].update({"raw/mall": {}}), ["datasets.raw/mall: a name must be of letters"]),
        (lambda values: values["datasets"].update({"-x": {}}), ["datasets.-x: a name", "not begin with -"]),
    ],
)
def test_wrong_setting_is_refused_with_its_key_and_what_is_allowed(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], words: list[str]
) -> None:
    message = refusal(tmp_path, change)
    assert all(word in message for word in words), message
    assert "params.yaml: " in message


def test_all_wrong_settings_are_named_at_once(tmp_path: Path) -> None:
    def change(values: dict[str, Any]) -> None:
        recipe(values)["train"].update(lr=-1, epochs=0)

    message = refusal(tmp_path, change)
    assert "methods.qaconv.train.lr" in message and "methods.qaconv.train.epochs" in message


def test_settings_of_a_kind_are_read_and_dumped_whole(tmp_path: Path) -> None:
    params = load_params(changed(tmp_path, set_loss(**TRIPLET)))
    assert params.model_dump()["methods"]["qaconv"]["loss"] == TRIPLET
    assert Params.model_validate(params.model_dump()) == params


def test_settings_of_a_kind_cannot_be_changed() -> None:
    method = load_params(PARAMS).method("qaconv")
    with pytest.raises(ValueError, match="frozen"):
        method.kind = "pooled"


def test_missing_file_is_refused_with_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run this in the project's folder"):
        load_params(tmp_path / "params.yaml")


def test_file_that_is_not_yaml_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("train: [")
    with pytest.raises(InputError, match=r"params\.yaml: line 1: is not YAML"):
        load_params(tmp_path / "params.yaml")


def test_a_tag_of_python_s_makes_no_object(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("seed: !!python/object/apply:os.getpid []\n")
    with pytest.raises(InputError, match=r"params\.yaml: line 1: is not YAML: could not determine a constructor"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("seed: 7\n", "seed: 7\nseed: 8\n", "seed"),
        ("      epochs: 6\n", "      epochs: 6\n      epochs: 9\n", "epochs"),
        ("path: data/raw/mall}", "path: data/raw/mall, path: data/raw/campus}", "path"),
    ],
)
def test_key_that_stands_twice_is_refused_by_its_name_and_line(tmp_path: Path, old: str, new: str, key: str) -> None:
    text = PARAMS.read_text()
    assert old in text
    path = tmp_path / "params.yaml"
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=rf'params\.yaml: line \d+: a key must stand once .* "{key}"$'):
        load_params(path)


@pytest.mark.parametrize("new", ["\tepochs: 6", "        epochs: 6", "epochs: 6"])
def test_wrong_indentation_is_refused_with_its_line(tmp_path: Path, new: str) -> None:
    lines = PARAMS.read_text().splitlines()
    number = lines.index("      epochs: 6")
    lines[number] = new
    path = tmp_path / "params.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(
        InputError, match=rf"params\.yaml: line ({number + 1}|{number + 2}): is not YAML: .* indentation"
    ):
        load_params(path)


def set_text(path: Path, key: str, text: str) -> Path:
    """Write the project's params.yaml with another text as the value of a key of QAConv's `train`."""
    lines, count = re.subn(
        rf"^      {key}: \S+", f"      {key}: {text}", PARAMS.read_text(), count=1, flags=re.MULTILINE
    )
    assert count == 1
    path.write_text(lines)
    return path


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("epochs", "010", 10),
        ("epochs", "08", 8),
        ("epochs", "0o10", 8),
        ("epochs", "0x10", 16),
        ("epochs", "1_000", 1000),
        ("lr", "010", 10.0),
        ("lr", ".5", 0.5),
        ("lr", "+.5", 0.5),
        ("lr", "5.", 5.0),
        ("weight_decay", "5e-4", 0.0005),
        ("weight_decay", "1.e3", 1000.0),
    ],
)
def test_number_is_read_as_dvc_reads_it(tmp_path: Path, key: str, text: str, value: float) -> None:
    path = set_text(tmp_path / "params.yaml", key, text)
    dvc_values = YAML(typ="safe").load(path.read_text())  # as dvc.utils.serialize does
    for methods in (load_params(path).model_dump()["methods"], dvc_values["methods"]):
        assert methods["qaconv"]["train"][key] == value


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("epochs", "1:30", "methods.qaconv.train.epochs: .*valid integer.*found '1:30'"),
        ("lr", "1:30.5", "methods.qaconv.train.lr: .*valid number.*found '1:30.5'"),
        ("epochs", "1,000", "methods.qaconv.train.epochs: .*found '1,000'"),
        ("epochs", "2024-01-01", "methods.qaconv.train.epochs: .*found datetime.date"),
        ("epochs", "2024-02-30", "line [0-9]+: .*'2024-02-30' cannot be read: day is out of range"),
        ("epochs", "0x_", "line [0-9]+: .*'0x_' cannot be read"),
        ("epochs", "!!bool x", "line [0-9]+: .*'x' cannot be read"),
        *[
            ("amp", word, f"methods.qaconv.train.amp: .*valid boolean.*found '{word}'")
            for word in ("on", "Off", "YES", "no", "y", "N")
        ],
    ],
)
def test_text_that_only_looks_like_a_number_or_a_boolean_is_refused(
    tmp_path: Path, key: str, text: str, message: str
) -> None:
    path = set_text(tmp_path / "params.yaml", key, text)
    with pytest.raises(InputError, match=rf"params\.yaml: {message}"):
        load_params(path)


def test_nesting_without_end_and_aliases_of_aliases_are_refused_in_a_short_message(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("seed: " + "[" * 1000)
    with pytest.raises(InputError, match="nested less deeply"):
        load_params(path)
    lists = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    path.write_text(f"a0: &a0 [x]\n{lists}seed: *a29\n")
    with pytest.raises(InputError, match=r"(?s)seed: [^,]*, found \[\[.*\.\.\. 44 faults in all$"):
        load_params(path)


def test_only_targets_can_be_adapted_to(tmp_path: Path) -> None:
    message = refusal(tmp_path, lambda values: values["adapt"]["targets"].append("harbour"))
    assert (
        "adapt.targets names harbour, which must be in targets too, allowed: campus, station, mall, street" in message
    )


def test_a_target_that_is_taken_away_is_named_where_it_is_adapted_to(tmp_path: Path) -> None:
    message = refusal(tmp_path, lambda values: values.update(targets=["mall"]))
    assert "adapt.targets names street, which must be in targets too, allowed: mall, or [] to adapt to none" in message
    assert len(message.splitlines()) == 1


def test_a_method_that_is_not_trained_here_is_not_adapted(tmp_path: Path) -> None:
    embedding = {
        "kind": "onnx",
        "image": {"height": 64, "width": 32},
        "backbone": {"weights": "reid.onnx", "channels": "bgr", "scale": 255, "mean": [0, 0, 0], "std": [1, 1, 1]},
    }

    def serve_embedding(values: dict[str, Any]) -> None:
        values["methods"]["intel"] = embedding
        values["registry"]["method"] = "intel"

    message = refusal(tmp_path, serve_embedding)
    assert "adapt.targets must be [], as intel (registry.method) is of kind onnx, which is not trained here" in message


def test_message_about_two_keys_does_not_show_all_settings(tmp_path: Path) -> None:
    message = refusal(tmp_path, lambda values: values["targets"].append("harbour"))
    assert "found" not in message
