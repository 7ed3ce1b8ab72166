"""The command line: one command a stage, as dvc.yaml calls them."""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.text import Text

from qaconv.config import load_params
from qaconv.errors import InputError
from qaconv.training.recipes import write_recipe

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

Site = Annotated[str, typer.Option(help="A key of sites in params.yaml.")]
Dataset = Annotated[str, typer.Option(help="A key of datasets in params.yaml.")]
Method = Annotated[str, typer.Option(help="A key of methods in params.yaml: qaconv or baseline.")]
Target = Annotated[str, typer.Option(help="One of targets in params.yaml.")]

Part = Annotated[int, typer.Option(help="One of evaluate.parts in params.yaml.")]


@app.callback()
def configure() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, so that unfinished files are removed
    at_terminal = sys.stderr.isatty()  # elsewhere the reader, such as Prefect, adds the time itself
    handler = RichHandler(console=Console(stderr=True), show_path=False, show_time=at_terminal, show_level=at_terminal)
    logging.basicConfig(format="%(message)s", datefmt="%X", handlers=[handler])
    logging.getLogger("qaconv").setLevel(logging.INFO if _tells() else logging.WARNING)


@app.command()
def synthetic(site: Site) -> None:
    """Render the images of a synthetic camera network."""
    _run("synthetic", site)


@app.command()
def prepare(dataset: Dataset) -> None:
    """Read a dataset's layout, check every image, and write its manifest."""
    _run("prepare", dataset)


@app.command()
def sources() -> None:
    """Join the training datasets into one table."""
    _run("sources")


@app.command()
def train(method: Method) -> None:
    """Train a network; a killed training goes on where it was. Several processes: machine.processes, or torchrun."""
    with _refusing():
        distributed, processes = import_module("qaconv.training.distributed"), load_params().machine.processes
    if processes == 1 or distributed.launched():
        _run("train", method)
    elif code := distributed.launch(processes, _command, ["train", "--method", method]):
        raise typer.Exit(code)


@app.command()
def features(target: Target) -> None:
    """Encode every sighting of a target with each method's network."""
    _run("features", target)


@app.command()
def match(target: Target, part: Part = 1) -> None:
    """Match a part of a target's sightings with all of them."""
    _run("match", target, part)


@app.command()
def rerank(target: Target) -> None:
    """Re-rank a target's gallery by who else is near."""
    _run("rerank", target)


@app.command()
def fit_tlift(target: Target) -> None:
    """Write a target's temporal profile."""
    _run("fit_tlift", target)


@app.command()
def evaluate(target: Target) -> None:
    """Measure the networks on a target."""
    _run("evaluate", target)


@app.command()
def export() -> None:
    """Write the ONNX graphs and their contract, checked against the network."""
    _run("export")


@app.command()
def report() -> None:
    """Write the page that people look at, and its data."""
    _run("report")


@app.command()
def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="A checkpoint.pth.tar of the authors' releases v1.0 to v2.1.")],
    output: Annotated[Path, typer.Option(help="A folder for the network, such as artifacts/model/qaconv.")],
    height: Annotated[int, typer.Option(help="Pixels that it was trained for.")] = 384,
    width: Annotated[int, typer.Option(help="Pixels that it was trained for.")] = 128,
) -> None:
    """Write a checkpoint of the authors as a network of ours, and say which release it is of."""
    with _refusing():
        official, config = import_module("qaconv.models.official"), import_module("qaconv.config")
        network, release = official.load_official(file, config.ImageConfig(height=height, width=width))
        trained = {"data": {"official_checkpoint": file.name, "release": release}, "calibration": None}
        import_module("qaconv.models.checkpoint").save_network(network, output, trained, {})
        typer.echo(f"{file}: release {release}, {network.architecture.backbone.name}; written to {output}")


@app.command()
def rollback(why: Annotated[str, typer.Option(help="Kept with the version that is left.")]) -> None:
    """Make the previous champion champion again."""
    with _refusing():
        from qaconv.registry import promotion, runs

        runs.connect()
        left, back = promotion.rollback(load_params().registry.model, why)
        Console().print(f"{back} is the champion again; {left} stays refused: {why}", markup=False)


@app.command()
def reproduce(model: Annotated[str, typer.Argument(help="Such as models:/qaconv@champion.")]) -> None:
    """Make a registered version again in a clean clone; ends with 1 if anything differs."""
    with _refusing():
        from qaconv.registry import reproduction, runs

        runs.connect()
        made = reproduction.reproduce(model)
        for note in made.notes:
            Console().print(f"may differ: {note}", markup=False)
        for difference in made.differences:
            Console().print(f"differs: {difference}", markup=False)
        Console().print(f"{made.release}: {len(made.differences)} of {made.compared} outputs and metrics differ")
        if made.differences:
            raise typer.Exit(1)


@app.command()
def recipe(name: Annotated[str, typer.Argument(help="demo, eccv2020 or cvpr2022.")]) -> None:
    """Write a recipe's values into params.yaml; every one of them may be changed there."""
    with _refusing():
        for change in write_recipe(name) or [f"params.yaml is that of {name} already"]:
            typer.echo(change)


@app.command()
def migrate_params() -> None:
    """Rewrite a params.yaml of an older version, and keep its comments."""
    with _refusing():
        for change in import_module("qaconv.config.migration").migrate_params() or ["params.yaml is current"]:
            typer.echo(change)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address; any but this machine's own needs keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    state: Annotated[Path, typer.Option(help="Folder of the galleries; made where it is missing.")] = Path("galleries"),
    keys: Annotated[Path | None, typer.Option(help="File of hashed keys, as serve-key writes it.")] = None,
) -> None:
    """Serve the champion: enrol, search and explain over HTTP, and a page at /."""
    with _refusing():
        _serving().serve(load_params(), host, port, state, keys)


@app.command()
def serve_key(
    name: Annotated[str, typer.Argument(help="Of the key, as the log will name it.")],
    keys: Annotated[Path, typer.Option(help="File of hashed keys.")],
    scope: Annotated[list[str], typer.Option(help="search, enrol, delete or metrics; may be repeated.")],
    target: Annotated[list[str] | None, typer.Option(help="Where; everywhere unless given.")] = None,
) -> None:
    """Make an API key, keep its hash in a file, and print the key once."""
    with _refusing():
        _serving().serve_key(name, keys, scope, target)


@app.command()
def enrol(
    target: Target,
    url: Annotated[str, typer.Option(help="Of the service.")] = "http://127.0.0.1:8000",
) -> None:
    """Enrol a target's gallery in the service; a key is read from QACONV_API_KEY."""
    with _refusing():
        _serving().enrol(target, url)


def _serving() -> Any:
    """qaconv/serving/commands.py, imported only now, as no stage needs it."""
    return import_module("qaconv.serving.commands")


def _command(arguments: list[str]) -> None:
    """What one of several processes runs; it says what a single one would, if it is its machine's first."""
    app(arguments)


def _tells() -> bool:
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _run(stage: str, *of: str | int) -> None:
    """Runs qaconv/stages/<stage>.py, imported only now: torch takes seconds."""
    with _refusing():
        getattr(import_module(f"qaconv.stages.{stage}"), stage)(load_params(), *of)


@contextmanager
def _refusing() -> Iterator[None]:
    """What a user can mend is one message."""
    try:
        yield
    except InputError as error:
        if _tells():
            Console(stderr=True).print(Text.assemble(("refused: ", "bold red"), str(error)), soft_wrap=True)
        raise typer.Exit(2) from error
