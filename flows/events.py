"""Emit events about models, datasets and targets, which Prefect's automations send to people."""

from typing import Literal

from prefect.events import emit_event

Event = Literal[
    "model.promoted", "model.refused", "model.rolled_back", "dataset.quarantined", "dataset.waiting", "target.drifted"
]


def announce(event: Event, name: str, reason: str) -> None:
    """Emit `qaconv.<event>`, which infra/prefect/automations.yaml forwards to the webhook.

    Args:
        event: what has happened.
        name: name of the model, dataset or target.
        reason: explanation for a person, in a sentence or two.
    """
    resource = {"prefect.resource.id": f"qaconv.{event.split('.')[0]}.{name}", "prefect.resource.name": name}
    emit_event(f"qaconv.{event}", resource, payload={"reason": reason})
