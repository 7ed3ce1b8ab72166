"""Recipes set the papers' values in params.yaml and leave the rest."""

from pathlib import Path

import pytest
import yaml

from qaconv.config import load_params
from qaconv.data.samplers.graph import GraphSampler
from qaconv.data.samplers.random import RandomSampler
from qaconv.errors import InputError
from qaconv.models.losses.class_memory import ClassMemory
from qaconv.models.losses.hard_triplet import HardTriplet
from qaconv.training.methods.trained import TrainedMethod
from qaconv.training.recipes import NAMES, read_recipe, write_recipe

PARAMS = Path(__file__).parents[3] / "params.yaml"


def test_recipes_are_those_of_the_papers_and_the_demo() -> None:
    assert NAMES == ("cvpr2022", "demo", "eccv2020")


@pytest.mark.parametrize("name", NAMES)
def test_recipe_sets_every_key_of_training_except_the_datasets(name: str) -> None:
    recipe, params = read_recipe(name), yaml.safe_load(PARAMS.read_text())
    assert set(recipe) == {"sources", "methods"} and set(recipe["sources"]) == {"holdout_share"}
    assert set(recipe["methods"]) == set(params["methods"])
    for method, values in recipe["methods"].items():
        assert set(values) == set(params["methods"][method])
        for block in ("image", "backbone", "augment", "train"):
            assert set(values[block]) == set(params["methods"][method][block])


def test_params_of_the_project_are_those_of_the_demo(params_file: Path) -> None:
    assert write_recipe("demo", params_file) == []
    assert params_file.read_bytes() == PARAMS.read_bytes()


@pytest.mark.parametrize("name", ["cvpr2022", "eccv2020"])
def test_recipe_and_back_changes_no_byte_and_loses_no_comment(params_file: Path, name: str) -> None:
    changes = write_recipe(name, params_file)
    assert "methods.qaconv.image.height: 96 -> 384" in changes
    for line in PARAMS.read_text().splitlines():
        assert line.partition("#")[2] in params_file.read_text()
    write_recipe("demo", params_file)
    assert params_file.read_bytes() == PARAMS.read_bytes()


def test_recipe_leaves_the_datasets_alone(params_file: Path) -> None:
    params_file.write_text(params_file.read_text().replace("datasets: [campus]", "datasets: [campus, mall]  # mine"))
    write_recipe("cvpr2022", params_file)
    assert load_params(params_file).sources.datasets == ["campus", "mall"]
    assert "# mine" in params_file.read_text()


def written(recipe: str, params_file: Path) -> TrainedMethod:
    """Write a recipe and return QAConv's settings."""
    write_recipe(recipe, params_file)
    method = load_params(params_file).method("qaconv")
    assert isinstance(method, TrainedMethod)
    return method


def test_recipes_have_the_authors_values(params_file: Path) -> None:
    recipe = written("cvpr2022", params_file)
    assert recipe.loss == HardTriplet(margin=16, pairwise_epochs=0)
    assert recipe.sampler == GraphSampler()
    assert (recipe.train.lr, recipe.train.backbone_lr) == (0.005, 0.0005)
    assert recipe.train.identities_per_batch * recipe.train.images_per_identity == 64
    recipe = written("eccv2020", params_file)
    assert (recipe.loss, recipe.sampler) == (ClassMemory(), RandomSampler())
    assert (recipe.train.lr, recipe.train.backbone_lr, recipe.train.lr_drop_epoch) == (0.01, 0.001, 40)
    assert recipe.train.identities_per_batch * recipe.train.images_per_identity == 32


@pytest.mark.parametrize("name", NAMES)
def test_only_the_baseline_encodes_the_mirrored_image(name: str) -> None:
    methods = read_recipe(name)["methods"]
    assert (methods["qaconv"]["encode"], methods["baseline"]["encode"]) == ({"flip": False}, {"flip": True})


def test_unknown_recipe_is_refused_with_the_known_ones(params_file: Path) -> None:
    with pytest.raises(InputError, match="unknown recipe 'cvpr2021', allowed: cvpr2022, demo, eccv2020"):
        write_recipe("cvpr2021", params_file)


def test_invalid_params_are_refused_and_stay(params_file: Path) -> None:
    params_file.write_text(params_file.read_text().replace("epochs: 6", "epochs: -6"))
    before = params_file.read_bytes()
    with pytest.raises(InputError, match="train.epochs"):
        write_recipe("cvpr2022", params_file)
    assert params_file.read_bytes() == before


def test_settings_of_a_kind_are_replaced_as_a_whole_by_those_of_another(params_file: Path) -> None:
    assert "methods.qaconv.head: v2 -> v1" in write_recipe("eccv2020", params_file)
    changes = write_recipe("cvpr2022", params_file)
    new = "{'kind': 'hard_triplet', 'margin': 16, 'pairwise_epochs': 0}"
    assert f"methods.qaconv.loss: {{'kind': 'class_memory'}} -> {new}" in changes
    params_file.write_text(params_file.read_text().replace("margin: 16", "margin: 5"))
    assert write_recipe("cvpr2022", params_file) == ["methods.qaconv.loss.margin: 5 -> 16"]
