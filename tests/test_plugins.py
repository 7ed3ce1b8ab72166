"""Kinds that are registered by a call, by an entry point, and by the project itself."""

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from qaconv import plugins
from qaconv.errors import InputError


@pytest.fixture(autouse=True)
def no_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "BUILT_IN", {**plugins.BUILT_IN, "loss": {"own": "math:sqrt"}})
    monkeypatch.setattr(plugins, "_registered", {})


def test_a_built_in_kind_is_imported_when_it_is_asked_for() -> None:
    assert plugins.find("loss", "own")(4) == 2


def test_a_registered_kind_is_found_and_listed_after_the_built_in_ones() -> None:
    plugins.register("loss", "mine")(abs)
    assert plugins.find("loss", "mine") is abs
    assert plugins.names("loss") == ["own", "mine"]


@pytest.mark.parametrize("name", ["own", "mine"])
def test_a_name_cannot_be_taken_twice(name: str) -> None:
    plugins.register("loss", "mine")(abs)
    with pytest.raises(ValueError, match=f"loss '{name}' is already registered"):
        plugins.register("loss", name)(len)


def test_registering_the_same_object_again_changes_nothing() -> None:
    plugins.register("loss", "mine")(abs)
    plugins.register("loss", "mine")(abs)
    assert plugins.names("loss") == ["own", "mine"]


def test_an_unknown_group_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown group 'colour', allowed: layout, backbone"):
        plugins.register("colour", "red")  # type: ignore[arg-type]


def test_an_unknown_name_is_refused_with_the_allowed_ones() -> None:
    with pytest.raises(InputError, match="unknown loss 'hinge', allowed: own"):
        plugins.find("loss", "hinge")


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = EntryPoints(
        [EntryPoint("far", "math:floor", "qaconv.loss"), EntryPoint("broken", "no_such_module:x", "qaconv.loss")]
    )
    monkeypatch.setattr(plugins, "entry_points", installed.select)


@pytest.mark.usefixtures("entry")
def test_a_kind_of_another_package_is_found_by_its_entry_point() -> None:
    assert plugins.find("loss", "far")(2.5) == 2
    assert plugins.names("loss") == ["own", "broken", "far"]


@pytest.mark.usefixtures("entry")
def test_an_entry_point_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(InputError, match="loss 'broken': cannot import no_such_module:x"):
        plugins.find("loss", "broken")
