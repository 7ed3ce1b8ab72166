import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
# From the bottom up; a module may import its own layer and those before it.
LAYERS = [
    ["errors", "files", "device"],
    ["native", "pixels"],
    ["config", "manifest"],
    ["distributed"],
    ["recipes"],
    ["layouts", "camnet"],
    ["transforms", "samplers", "loading", "models", "graphs", "intake"],
    ["matching", "rerank", "tlift", "metrics"],
    ["holdout", "schedule"],
    ["training", "export", "evidence", "gate", "report", "inference", "encoding", "watching"],
    ["stages", "tracking", "registry"],
    ["serving"],
    ["cli"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
MODULES = sorted((PROJECT / "qaconv").rglob("*.py"))


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(dotted):
    """The part of qaconv that a dotted name lies in, or None."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "qaconv" and len(parts) > 1 else None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_imports_run_down_the_layers(path):
    own = path.relative_to(PROJECT / "qaconv").parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for dotted in imports(path):
        if (other := layer(dotted)) is not None:
            assert RANK[other] <= RANK[own], f"{path.name} imports {dotted}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_the_library_knows_no_orchestrator_and_mlflow_only_where_it_belongs(path):
    tools = {dotted.split(".")[0] for dotted in imports(path)}
    assert not tools & {"prefect", "dvc", "flows"}
    if path.name != "tracking.py" and path.parent.name != "registry":
        assert "mlflow" not in tools


def test_flows_call_no_stage_but_through_dvc():
    for path in (PROJECT / "flows").glob("*.py"):
        used = {layer(dotted) for dotted in imports(path)} - {None}
        allowed = {"config", "errors", "files", "gate", "intake", "registry", "tlift", "tracking", "watching"}
        assert used <= allowed, path.name
