"""Make the previous champion the champion again."""

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from flows.events import announce
from qaconv.config import load_params
from qaconv.registry import promotion, runs


@flow(name="rollback")
def rollback(why: str) -> None:
    """Do what `qaconv rollback --why` does, from Prefect's pages.

    Args:
        why: reason for the rollback, kept with the version that stops being the champion.

    Raises:
        InputError: there is no previous champion, or `why` is empty.
    """
    runs.use_store()
    name = load_params().registry.model
    left, back = promotion.rollback(name, why)
    message = f"{back} is the champion again; {left} stays refused: {why}"
    get_run_logger().info(message)
    announce("model.rolled_back", name, message)
    create_markdown_artifact(f"**Rolled back.** {message}", key="promotion")
