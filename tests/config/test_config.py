from pathlib import Path

import pytest
import yaml

from qaconv.config import load_params
from qaconv.errors import InputError

PARAMS = Path(__file__).parents[2] / "params.yaml"


def refusal(folder, change):
    """What load_params says of the project's params.yaml after `change`."""
    values = yaml.safe_load(PARAMS.read_text())
    change(values)
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError) as caught:
        load_params(path)
    return str(caught.value)


def test_the_project_s_own_params_are_legal():
    assert set(load_params(PARAMS).methods) == {"qaconv", "baseline"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda values: values["train"].update(learning_rate=1), ["train.learning_rate", "not permitted"]),
        (lambda values: values["train"].pop("lr"), ["train.lr", "required"]),
        (lambda values: values["train"].update(lr=-1), ["train.lr", "greater than 0", "-1"]),
        (lambda values: values["backbone"].update(name="resnet9"), ["backbone.name", "resnet18", "resnet9"]),
        (lambda values: values["targets"].append("harbour"), ["targets", "harbour", "station"]),
        (lambda values: values["train"].update(datasets=["harbour"]), ["train.datasets", "harbour", "campus"]),
        (lambda values: values["methods"].pop("baseline"), ["methods", "baseline"]),
        (lambda values: values["methods"]["qaconv"].update(loss="identity"), ["methods.qaconv", "pooled"]),
        (lambda values: values["machine"].update(device="gpu"), ["machine.device", "gpu"]),
        (lambda values: values["machine"].update(processes=0), ["machine.processes", "greater than 0"]),
        (lambda values: values["sites"]["mall"].update(cameras=1), ["sites.mall.cameras", "2"]),
    ],
)
def test_a_wrong_setting_is_refused_with_its_key_what_was_found_and_what_is_legal(tmp_path, change, words):
    message = refusal(tmp_path, change)
    assert all(word in message for word in words), message
    assert "params.yaml: " in message


def test_every_wrong_setting_is_named_at_once(tmp_path):
    def change(values):
        values["train"].update(lr=-1, epochs=0)

    message = refusal(tmp_path, change)
    assert "train.lr" in message and "train.epochs" in message


def test_a_missing_file_says_where_to_be(tmp_path):
    with pytest.raises(InputError, match="run this in the project's folder"):
        load_params(tmp_path / "params.yaml")


def test_a_file_that_is_no_yaml_is_refused_by_name(tmp_path):
    (tmp_path / "params.yaml").write_text("train: [")
    with pytest.raises(InputError, match="params.yaml: is not YAML"):
        load_params(tmp_path / "params.yaml")
