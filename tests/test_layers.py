"""Check the imports of the project against the list of layers in docs/design.md, which is parsed."""

import re
from pathlib import Path

import pytest

from tests.imports import PROJECT, imported_names

LIBRARY = PROJECT / "qaconv"
PAGE = (PROJECT / "docs/design.md").read_text(encoding="utf-8")
# Each line: names, then at least two spaces, then what they are.
LINES = [
    re.split(r" {2,}", line, maxsplit=1) for line in PAGE.split("## The library")[1].split("```")[1].split("\n") if line
]
FOLDERS = {names: text for names, *text in LINES if names.endswith("/")}
# A semicolon begins a new layer within a line.
LAYERS = [part.strip().split(", ") for names, *_ in LINES if names not in FOLDERS for part in names.split(";")]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
MODULES = sorted(LIBRARY.rglob("*.py"))


def name_in_list(path: Path) -> str:
    """The module or package of qaconv that a file belongs to."""
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


def imported_from_library(path: Path) -> set[str]:
    names = {dotted.split(".")[1] for dotted in imported_names(path) if dotted.startswith("qaconv.")}
    return names - {"__version__"}


def relative(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


def test_the_page_lists_every_module_of_the_library_once() -> None:
    listed = sorted(name for layer in LAYERS for name in layer)
    assert listed == sorted({name_in_list(path) for path in MODULES} - {"__init__"})


@pytest.mark.parametrize("path", [path for path in MODULES if path != LIBRARY / "__init__.py"], ids=relative)
def test_a_module_imports_its_own_layer_and_those_above_it_on_the_page(path: Path) -> None:
    rank = RANK[name_in_list(path)]
    assert sorted(name for name in imported_from_library(path) if RANK[name] > rank) == []


@pytest.mark.parametrize("folder", ["flows", "infra"])
def test_flows_and_infra_import_what_the_page_lists(folder: str) -> None:
    (text,) = FOLDERS[f"{folder}/"]
    named = set(re.findall(r"`(\w+)`", text.partition("of the library")[2]))
    assert {name for path in (PROJECT / folder).rglob("*.py") for name in imported_from_library(path)} == named


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_the_library_imports_no_orchestrator_and_mlflow_only_in_registry(path: Path) -> None:
    tools = {dotted.split(".")[0] for dotted in imported_names(path)}
    assert not tools & {"prefect", "dvc", "flows", "infra", "benchmarks", "tests"}
    if name_in_list(path) != "registry":
        assert "mlflow" not in tools
