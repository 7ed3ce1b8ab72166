"""The targets, and the version that answers."""

from typing import Annotated

from fastapi import FastAPI

from qaconv.serving import schemas
from qaconv.serving.auth import Caller, require_scope
from qaconv.serving.routes.common import REFUSALS
from qaconv.serving.service import Service


def add_routes(app: FastAPI, service: Service) -> None:
    """Add `GET /v1/targets`."""

    @app.get("/v1/targets", responses=REFUSALS)
    def list_targets(caller: Annotated[Caller, require_scope("search")]) -> schemas.Targets:
        """List the targets of the key, and the version that answers."""
        active = service.active
        profiles = active.model.profiles
        thresholds = {name: active.model.threshold_of(name) for name in active.galleries}
        return schemas.Targets(
            version=active.version,
            calibrated=active.model.calibrated,
            thresholds=[schemas.Threshold(**threshold._asdict()) for threshold in active.model.thresholds],
            threshold=active.model.threshold,
            targets=[
                schemas.Target(
                    name=name,
                    sightings=len(gallery),
                    cameras=sorted(profiles[name].camids),
                    camera_names=dict(profiles[name].cameras),
                    time_origin=profiles[name].time_origin,
                    times_count=profiles[name].active,
                    threshold=thresholds[name][0],
                    probability_from=thresholds[name][1],
                    retention_days=service.settings.retention_days.get(name),
                )
                for name, gallery in active.galleries.items()
                if caller.targets is None or name in caller.targets
            ],
        )
