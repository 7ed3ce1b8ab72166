from pathlib import Path

import pytest
import yaml

from qaconv.config import load_params
from qaconv.errors import InputError
from qaconv.training.recipes import NAMES, read_recipe, write_recipe

PARAMS = Path(__file__).parents[3] / "params.yaml"


@pytest.fixture
def params(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes(PARAMS.read_bytes())
    return path


def test_the_recipes_are_the_papers_and_the_demo_s():
    assert NAMES == ("cvpr2022", "demo", "eccv2020")


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_sets_every_key_that_training_reads_but_the_data(name):
    recipe, params = read_recipe(name), yaml.safe_load(PARAMS.read_text())
    assert set(recipe) == {"image", "backbone", "augment", "methods", "train"}
    for block, values in recipe.items():
        assert set(values) == set(params[block]) - {"datasets"}, block


def test_the_project_s_params_are_the_demo_s_to_the_byte(params):
    assert write_recipe("demo", params) == []
    assert params.read_bytes() == PARAMS.read_bytes()


@pytest.mark.parametrize("name", ["cvpr2022", "eccv2020"])
def test_a_recipe_and_back_changes_no_byte_and_no_comment_is_lost(params, name):
    changes = write_recipe(name, params)
    assert "image.height: 96 -> 384" in changes
    for line in PARAMS.read_text().splitlines():
        assert line.partition("#")[2] in params.read_text()
    write_recipe("demo", params)
    assert params.read_bytes() == PARAMS.read_bytes()


def test_datasets_and_what_no_recipe_sets_stay_the_user_s(params):
    params.write_text(params.read_text().replace("datasets: [campus]", "datasets: [campus, mall]  # mine"))
    write_recipe("cvpr2022", params)
    assert load_params(params).train.datasets == ["campus", "mall"]
    assert "# mine" in params.read_text()


def test_the_authors_values(params):
    write_recipe("cvpr2022", params)
    recipe = load_params(params)
    assert (recipe.methods["qaconv"].loss, recipe.methods["qaconv"].sampler) == ("hard_triplet", "graph")
    assert (recipe.train.lr, recipe.train.backbone_lr, recipe.train.margin) == (0.005, 0.0005, 16)
    assert recipe.train.identities_per_batch * recipe.train.images_per_identity == 64
    write_recipe("eccv2020", params)
    recipe = load_params(params)
    assert (recipe.methods["qaconv"].loss, recipe.methods["qaconv"].sampler) == ("class_memory", "random")
    assert (recipe.train.lr, recipe.train.backbone_lr, recipe.train.lr_drop_epoch) == (0.01, 0.001, 40)
    assert recipe.train.identities_per_batch * recipe.train.images_per_identity == 32


def test_a_recipe_that_is_not_there_is_refused_with_those_that_are(params):
    with pytest.raises(InputError, match="no recipe 'cvpr2021'; legal are cvpr2022, demo, eccv2020"):
        write_recipe("cvpr2021", params)


def test_params_that_are_refused_stay_as_they_are(params):
    params.write_text(params.read_text().replace("epochs: 6", "epochs: -6"))
    before = params.read_bytes()
    with pytest.raises(InputError, match="train.epochs"):
        write_recipe("cvpr2022", params)
    assert params.read_bytes() == before
