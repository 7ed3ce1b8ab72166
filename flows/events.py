"""What has become of a model, a dataset or a target goes in; Prefect's automations hear of it, and tell people."""

from typing import Literal

from prefect.events import emit_event

Event = Literal["model.promoted", "model.refused", "model.rolled_back", "dataset.quarantined", "target.drifted"]


def announce(event: Event, name: str, reason: str) -> None:
    """Emits `qaconv.<event>`, which infra/prefect/automations.yaml sends on.

    Args:
        event: what has happened.
        name: to which model, dataset or target.
        reason: for a person, in a sentence or two.
    """
    resource = {"prefect.resource.id": f"qaconv.{event.split('.')[0]}.{name}", "prefect.resource.name": name}
    emit_event(f"qaconv.{event}", resource, payload={"reason": reason})
