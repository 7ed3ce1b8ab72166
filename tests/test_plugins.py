"""Kinds that are registered by a call, by an entry point, and by the project itself."""

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from qaconv import plugins
from qaconv.errors import InputError


@pytest.fixture(autouse=True)
def no_kinds(no_registered_kinds: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "BUILT_IN", {**plugins.BUILT_IN, "loss": {"own": "math:sqrt"}})


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


def test_a_definition_that_a_notebook_runs_again_replaces_itself() -> None:
    cell = "class Hinge: margin = {margin}"
    for margin in (1, 2):
        names: dict[str, type] = {"__name__": "__main__"}  # type: ignore[dict-item]
        exec(cell.format(margin=margin), names)
        plugins.register("loss", "mine")(names["Hinge"])
    assert plugins.find("loss", "mine").margin == 2


def test_an_unknown_group_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown group 'colour', allowed: layout, method, backbone"):
        plugins.register("colour", "red")  # type: ignore[arg-type]


def test_an_unknown_name_is_refused_with_the_allowed_ones() -> None:
    with pytest.raises(InputError, match="unknown loss 'hinge', allowed: own; a kind that a script"):
        plugins.find("loss", "hinge")


def install(monkeypatch: pytest.MonkeyPatch, **kinds: str) -> list[str]:
    """Install entry points of losses; return a list that grows with each look through the installed packages."""
    installed = EntryPoints([EntryPoint(name.strip("_"), value, "qaconv.loss") for name, value in kinds.items()])
    looks: list[str] = []

    def entry_points(group: str) -> EntryPoints:
        looks.append(group)
        return installed.select(group=group)

    monkeypatch.setattr(plugins, "entry_points", entry_points)
    return looks


def test_a_kind_of_another_package_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = install(monkeypatch, far="math:floor", broken="no_such_module:x")
    assert plugins.find("loss", "far")(2.5) == 2
    assert plugins.names("loss") == ["own", "broken", "far"]
    assert looks == ["qaconv.loss"]


def test_an_entry_point_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, broken="no_such_module:x")
    with pytest.raises(InputError, match="loss 'broken': cannot import no_such_module:x"):
        plugins.find("loss", "broken")


@pytest.mark.parametrize(("name", "other"), [("far", "math:floor"), ("own", "math:sqrt")])
def test_two_packages_with_a_kind_of_one_name_are_refused(
    name: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, far="math:ceil", far_="math:floor", own="math:exp", near="math:log")
    with pytest.raises(InputError, match=f"loss '{name}' is defined more than once, by math:.*{other}"):
        plugins.find("loss", name)
    assert plugins.find("loss", "near")(1) == 0


def test_a_name_of_another_package_cannot_be_registered_but_by_that_package_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, far="builtins:len")
    with pytest.raises(ValueError, match="loss 'far' is already registered"):
        plugins.register("loss", "far")(abs)
    plugins.register("loss", "far")(len)
    assert plugins.find("loss", "far") is len
