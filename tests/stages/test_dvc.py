"""Check dvc.yaml, which is written by hand, against the code."""

import re
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from qaconv import cli, paths
from tests.imports import PROJECT, import_closure

TEXT = (PROJECT / "dvc.yaml").read_text(encoding="utf-8")
STAGES = {name: stage.get("do", stage) for name, stage in yaml.safe_load(TEXT)["stages"].items()}
HEADER = " ".join(line.removeprefix("# ") for line in TEXT.partition("stages:")[0].splitlines())
# Files that change no result, as the head of dvc.yaml lists them.
LEFT_OUT_SENTENCE = HEADER.partition("No dependency,")[2].partition(". ")[0]
LEFT_OUT = {f"qaconv/{name}" for name in re.findall(r"[\w/]+\.py", LEFT_OUT_SENTENCE)}
# Files that a stage imports for its log alone.
LOGS = {
    "synthetic": (
        "qaconv/data/layouts/",
        "qaconv/data/manifest.py",
        "qaconv/metrics/",
        "qaconv/runtime/limits.py",
        "qaconv/tables.py",
    )
}
# Kinds that params.yaml names, whose code a stage runs without importing it by name.
KINDS = {stage: {PROJECT / "qaconv/matching/rerankers.py"} for stage in ("rerank", "adapt", "evaluate", "report")}
OUTS = {
    "synthetic": {paths.RAW / "${key}"},
    "prepare": {paths.FINGERPRINTS / "${key}.parquet", paths.PREPARED / "${key}"},
    "sources": {paths.SOURCES},
    "train": {paths.MODELS / "${key}"},
    "features": {paths.FEATURES / "${item}"},
    "match": {paths.MATCHES / "${item}"},
    "rerank": {paths.RERANKED / "${item}"},
    "fit_tlift": {paths.TLIFT / "${item}"},
    "identify": {paths.IDENTITIES / "${item}"},
    "evaluate": {
        paths.METRICS / "${item}.json",
        *(paths.METRICS / table / "${item}.csv" for table in ("camera_pairs", "cmc", "reliability", "roc", "stated")),
        paths.METRICS / "queries" / "${item}.parquet",
    },
    "adapt": {paths.ADAPTED / "${item}"},
    "report": {paths.REPORT},
    "export": {paths.ONNX},
    "export_adapted": {paths.ADAPTED_ONNX / "${item}"},
}
BY_HAND = {"identify": {"--since"}, "match": {"--part"}}  # options that only people use
# Paths that a stage's module imports and that DVC does not manage for it.
NOT_MANAGED = {
    "prepare": {paths.CHECKED},
    "train": {paths.UNFINISHED},
    "adapt": {paths.UNFINISHED},
    "report": {paths.RAW},
}


def outputs(stage: str) -> set[Path]:
    return {Path(path) for kind in ("outs", "metrics") for path in STAGES[stage].get(kind, [])}


def code_dependencies(stage: str) -> set[str]:
    return {path for path in STAGES[stage]["deps"] if path.startswith("qaconv/")}


def needed_code(stage: str) -> set[str]:
    """Return the files that a stage imports, and the C files and templates that these load, if they change results."""
    entries = {PROJECT / f"qaconv/stages/{stage}.py", *KINDS.get(stage, ())}
    modules = {module for entry in entries for module in import_closure(entry)}
    data_files = {path for module in modules for path in data_of(module)}
    needed = {path.relative_to(PROJECT).as_posix() for path in modules | data_files}
    return {path for path in needed - LEFT_OUT if not path.startswith(LOGS.get(stage, ("no path",)))}


def data_of(module: Path) -> set[Path]:
    """Return the C files and templates next to a module that builds or loads them."""
    text = module.read_text(encoding="utf-8")
    templates = module.parent.glob("templates/*") if "PackageLoader(" in text else []
    return {*templates, *(path for path in module.parent.glob("*.c") if f'"{path.name}"' in text)}


def covers(dependency: str, path: str) -> bool:
    return path == dependency or path.startswith(f"{dependency}/")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_the_code_that_it_imports(stage: str) -> None:
    listed = code_dependencies(stage)
    assert (
        sorted(path for path in needed_code(stage) if not any(covers(dependency, path) for dependency in listed)) == []
    )


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_no_code_that_it_does_not_import(stage: str) -> None:
    needed = needed_code(stage)
    unused = [
        dependency for dependency in code_dependencies(stage) if not any(covers(dependency, path) for path in needed)
    ]
    assert sorted(unused) == []


def test_what_is_left_out_of_the_dependencies_exists() -> None:
    assert len(LEFT_OUT) == 18
    assert [path for path in sorted(LEFT_OUT) if not (PROJECT / path).is_file()] == []


def test_methods_are_settings_of_features_and_the_report_alone_as_dvc_lock_would_repeat_them_for_every_stage() -> None:
    assert [stage for stage in STAGES if "methods" in STAGES[stage].get("params", [])] == ["features", "report"]


@pytest.mark.parametrize("stage", STAGES)
def test_the_outputs_of_a_stage_are_the_paths_that_the_code_writes(stage: str) -> None:
    assert outputs(stage) == OUTS[stage]


@pytest.mark.parametrize("stage", STAGES)
def test_every_path_that_a_stage_imports_is_a_dependency_or_an_output(stage: str) -> None:
    module = (PROJECT / f"qaconv/stages/{stage}.py").read_text(encoding="utf-8")
    imported = re.search(r"from qaconv\.paths import (.+)", module)
    named = {getattr(paths, name) for name in imported[1].split(", ")} if imported else set()
    known = [*outputs(stage), *map(Path, STAGES[stage]["deps"])]
    unknown = [path for path in named if not any(other.is_relative_to(path) for other in known)]
    assert set(unknown) <= NOT_MANAGED.get(stage, set())


@pytest.mark.parametrize("setting", ["none", "imagenet"])
def test_a_setting_of_weights_without_a_file_of_its_own_has_one_to_depend_on(setting: str) -> None:
    assert (PROJECT / STAGES["train"]["deps"][1].replace("${item.backbone.weights}", setting)).is_file()
    assert f"!/data/weights/{setting}" in (PROJECT / ".gitignore").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("stage", STAGES)
def test_the_command_of_a_stage_runs_it_with_all_its_options(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command = re.sub(r"\$\{.*?\}", "1", STAGES[stage]["cmd"]).split()
    ran: list[str] = []
    monkeypatch.chdir(PROJECT)
    for runner in ("_run_stage", "_run_target_stage"):
        monkeypatch.setattr(cli, runner, lambda name, *_: ran.append(name))
    result = CliRunner().invoke(cli.app, command[1:])
    assert (command[0], result.exit_code, ran) == ("qaconv", 0, [stage]), result.output
    group = typer.main.get_command(cli.app)
    assert isinstance(group, typer.core.TyperGroup)
    options = {option for parameter in group.commands[command[1]].params for option in parameter.opts}
    assert options - {"--help", *BY_HAND.get(stage, ())} == {word for word in command if word.startswith("--")}
