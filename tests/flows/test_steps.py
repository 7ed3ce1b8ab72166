import yaml

from flows.retrain import STEPS
from tests.tracked_projects import REPOSITORY


def test_the_flow_runs_every_stage_in_the_order_of_dvc_yaml() -> None:
    """All but synthetic: DVC runs it where a dataset that is prepared is a rendered site."""
    stages = list(yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"])
    assert ["synthetic", *(stage for step in STEPS.values() for stage in step.stages)] == stages
