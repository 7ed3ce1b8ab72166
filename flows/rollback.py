"""Make the previous champion the champion again."""

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from flows.events import announce
from qaconv.config import load_params
from qaconv.registry import promotion, runs


@flow(name="rollback")
def rollback(version: int, why: str) -> None:
    """Do what `qaconv rollback` does, from Prefect's pages.

    Args:
        version: number of the champion to leave.
        why: reason for the rollback, kept with the version that is left.

    Raises:
        InputError: `version` is not the champion, no earlier champion exists, or `why` is empty.
    """
    runs.use_store()
    name = load_params().registry.model
    left, back = promotion.rollback(name, str(version), why)
    message = f"{back} is the champion again; {left} stays refused: {why}"
    get_run_logger().info(message)
    announce("model.rolled_back", name, message)
    create_markdown_artifact(f"**Rolled back.** {message}", key="promotion")
