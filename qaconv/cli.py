"""The command line: one command a stage, as dvc.yaml calls them, and the tools that people call by hand."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from qaconv.config import Params, load_params
from qaconv.errors import InputError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
console = Console()

Site = Annotated[str, typer.Option(help="a key of sites in params.yaml")]
Dataset = Annotated[str, typer.Option(help="a key of datasets in params.yaml")]
Method = Annotated[str, typer.Option(help="qaconv or baseline")]
Deployment = Annotated[str, typer.Option(help="one of deployments in params.yaml")]


@app.callback()
def configure() -> None:
    logging.basicConfig(format="%(message)s", datefmt="%X", handlers=[RichHandler(show_path=False)])
    logging.getLogger("qaconv").setLevel(logging.INFO)  # other libraries speak up from WARNING on


@app.command()
def camnet(site: Site) -> None:
    """Render a site of the embedded camera network."""
    from qaconv.stages import camnet as stage

    with _params() as params:
        stage.camnet(params, site)


@app.command()
def prepare(dataset: Dataset) -> None:
    """Read a dataset's layout, check every image, and write its manifest."""
    from qaconv.stages import prepare as stage

    with _params() as params:
        stage.prepare(params, dataset)


@app.command()
def sources() -> None:
    """Join the training datasets into one table."""
    from qaconv.stages import sources as stage

    with _params() as params:
        stage.sources(params)


@app.command()
def train(method: Method) -> None:
    """Train a network."""
    from qaconv.stages import train as stage

    with _params() as params:
        stage.train(params, method)


@app.command()
def fit_tlift(deployment: Deployment) -> None:
    """Write a deployment's temporal profile."""
    from qaconv.stages import fit_tlift as stage

    with _params() as params:
        stage.fit_tlift(params, deployment)


@app.command()
def evaluate(deployment: Deployment) -> None:
    """Measure the networks on a deployment."""
    from qaconv.stages import evaluate as stage

    with _params() as params:
        stage.evaluate(params, deployment)


@app.command()
def export() -> None:
    """Write the ONNX graphs and their contract, checked against the network."""
    from qaconv.stages import export as stage

    with _params() as params:
        stage.export(params)


@contextmanager
def _params() -> Iterator[Params]:
    """params.yaml; what the user can mend is said in one message."""
    try:
        yield load_params()
    except InputError as error:
        Console(stderr=True).print(f"[bold red]refused[/]: {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error
