from pathlib import Path

import yaml

from flows.steps import STEPS, Step, load_steps
from tests.tracked_projects import REPOSITORY

PIPELINE = REPOSITORY / "dvc.yaml"


def stages_in(pipeline: Path) -> list[str]:
    return list(yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"])


def test_a_retraining_runs_every_stage_but_synthetic_in_the_order_of_dvc_yaml() -> None:
    steps = load_steps(PIPELINE)
    assert ["synthetic", *(stage for step in steps.values() for stage in step.stages)] == stages_in(PIPELINE)


def test_a_step_depends_on_no_later_one_as_its_stages_run_without_those_before_them() -> None:
    stages = yaml.safe_load(PIPELINE.read_text(encoding="utf-8"))["stages"]
    order = [stage for step in load_steps(PIPELINE).values() for stage in step.stages]
    blocks = [stages[name].get("do", stages[name]) for name in order]
    outs = [[Path(out) for kind in ("outs", "metrics") for out in block.get(kind, [])] for block in blocks]
    for number, block in enumerate(blocks):
        later = [out for written in outs[number + 1 :] for out in written]
        needed = [Path(dep) for dep in block["deps"]]
        assert [out for out in later if any(out.is_relative_to(dep) or dep.is_relative_to(out) for dep in needed)] == []


def test_every_stage_that_a_step_names_exists() -> None:
    assert {stage for step in STEPS.values() for stage in step.stages} <= set(stages_in(PIPELINE))


def test_a_stage_that_is_added_to_dvc_yaml_becomes_a_step_of_its_own(tmp_path: Path) -> None:
    pipeline = yaml.safe_load(PIPELINE.read_text(encoding="utf-8"))
    pipeline["stages"]["explain"] = {"cmd": "qaconv explain"}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False), encoding="utf-8")
    steps = load_steps(tmp_path / "dvc.yaml")
    assert list(steps.items()) == [*load_steps(PIPELINE).items(), ("explain", Step(("explain",), pool="cpu"))]
