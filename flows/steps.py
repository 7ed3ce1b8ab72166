"""Group the stages of dvc.yaml into the steps of a retraining."""

from dataclasses import dataclass
from pathlib import Path

import yaml

PIPELINE = Path("dvc.yaml")


@dataclass(frozen=True)
class Step:
    """Stages that are brought up to date together.

    Attributes:
        stages: names in dvc.yaml, in its order. A worker runs all those of a target (what follows `@`).
        pool: work pool whose workers run the stages in a fan-out.
        together: run all targets on one worker, with the stages that they depend on.
        in_parts: let evaluate.parts workers share the work of a target first.
    """

    stages: tuple[str, ...]
    pool: str = "cpu"
    together: bool = False
    in_parts: bool = False


# The steps that differ from the default, which is one stage in the pool `cpu`.
STEPS = {
    "prepare": Step(("prepare", "sources"), together=True),
    "train": Step(("train",), pool="gpu"),
    "match": Step(("match",), in_parts=True),
    "evaluate": Step(("rerank", "fit_tlift", "identify", "evaluate")),
    "adapt": Step(("adapt", "export_adapted"), pool="gpu"),
    "report": Step(("report", "export")),
}
ONLY_AS_DEPENDENCY = "synthetic"  # DVC runs it if a dataset that is prepared is a synthetic site


def load_steps(pipeline: Path = PIPELINE) -> dict[str, Step]:
    """Return the steps of a retraining by name, in the order of dvc.yaml.

    Args:
        pipeline: path of dvc.yaml. Default: the one in the working folder.
    """
    stages = yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"]
    step_of_stage = {stage: name for name, step in STEPS.items() for stage in step.stages}
    names = [step_of_stage.get(stage, stage) for stage in stages if stage != ONLY_AS_DEPENDENCY]
    return {name: STEPS.get(name, Step((name,))) for name in names}
