"""A reason goes in; the previous champion is champion again."""

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from flows.events import announce
from qaconv.config import load_params
from qaconv.registry import promotion, runs


@flow(name="rollback")
def rollback(why: str) -> None:
    """As `qaconv rollback --why`, for those who work in Prefect's pages.

    Raises:
        InputError: there is nothing to go back to, or `why` is empty.
    """
    runs.connect()
    name = load_params().registry.model
    left, back = promotion.rollback(name, why)
    said = f"{back} is the champion again; {left} stays refused: {why}"
    get_run_logger().info(said)
    announce("model.rolled_back", name, said)
    create_markdown_artifact(f"**Rolled back.** {said}", key="promotion")
