"""Person re-identification by QAConv and TLift: the stages of dvc.yaml, the registry and the service."""

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

from qaconv import __version__
from qaconv.config import load_params
from qaconv.failures import explain
from qaconv.video.settings import DEFAULTS

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

Site = Annotated[str, typer.Option(help="A key of sites in params.yaml.")]
Dataset = Annotated[str, typer.Option(help="A key of datasets in params.yaml.")]
Method = Annotated[str, typer.Option(help="A key of methods in params.yaml: qaconv or baseline.")]
Target = Annotated[str, typer.Option(help="One of targets in params.yaml.")]


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"qaconv {__version__}")
        raise typer.Exit


@app.callback()
def configure(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that unfinished files are deleted
    # Read when torch is loaded: threads that spin while they wait make a training ten times slower on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    at_terminal = sys.stderr.isatty()  # elsewhere the reader, such as Prefect, adds the time itself
    handler = RichHandler(console=Console(stderr=True), show_path=False, show_time=at_terminal, show_level=at_terminal)
    logging.basicConfig(format="%(message)s", datefmt="%X", handlers=[handler])
    logging.getLogger("qaconv").setLevel(logging.INFO if _is_verbose() else logging.WARNING)


@app.command()
def synthetic(site: Site) -> None:
    """Render the images of a synthetic camera network."""
    _run_stage("synthetic", site)


@app.command()
def prepare(dataset: Dataset) -> None:
    """Read a dataset, check every image, and write its manifest."""
    _run_stage("prepare", dataset)


@app.command()
def sources() -> None:
    """Join the training datasets into one table."""
    _run_stage("sources")


@app.command()
def train(method: Method) -> None:
    """Train a network, or resume a killed training. Several processes: machine.processes, or torchrun."""
    with _exit_with_one_message():
        distributed = import_module("qaconv.training.distributed")
        processes = load_params().machine.processes
    if processes == 1 or distributed.launched():
        _run_stage("train", method)
    elif code := distributed.launch(processes, _run_command, ["train", "--method", method]):
        raise typer.Exit(code)


@app.command()
def features(target: Target) -> None:
    """Encode every sighting of a target with each method's network."""
    _run_target_stage("features", target)


@app.command()
def match(
    target: Target,
    part: Annotated[
        int | None, typer.Option(help="Match this one of evaluate.parts parts alone, for a match that others share.")
    ] = None,
) -> None:
    """Match all sightings of a target with each other; what is matched already stays."""
    _run_target_stage("match", target, *([part] if part is not None else []))


@app.command()
def rerank(target: Target) -> None:
    """Re-rank a target's gallery by k-reciprocal encoding."""
    _run_target_stage("rerank", target)


@app.command()
def fit_tlift(target: Target) -> None:
    """Fit a target's temporal profiles."""
    _run_target_stage("fit_tlift", target)


@app.command()
def identify(
    target: Target,
    since: Annotated[
        Path | None, typer.Option(help="Folder of an earlier result, whose identities new sightings join.")
    ] = None,
) -> None:
    """Group a target's sightings into identities, and estimate its people without labels."""
    _run_target_stage("identify", target, *([since] if since else []))


@app.command()
def adapt(target: Target) -> None:
    """Adapt the served method's network to a target without labels, or resume a killed adaptation."""
    _run_target_stage("adapt", target)


@app.command()
def export_adapted(target: Target) -> None:
    """Write the ONNX graphs of the network that was adapted to a target, and their contract."""
    _run_target_stage("export_adapted", target)


@app.command()
def evaluate(target: Target) -> None:
    """Measure the networks on a target."""
    _run_target_stage("evaluate", target)


@app.command()
def export() -> None:
    """Write the ONNX graphs and their contract, and check them against the network."""
    _run_stage("export")


@app.command()
def report() -> None:
    """Write the report as a page and as data."""
    _run_stage("report")


@app.command()
def crops(
    camera: Annotated[str, typer.Option(help="Name of the camera.")],
    video: Annotated[Path, typer.Option(help="Its video, a folder of frames, or a folder with seqinfo.ini.")],
    tracks: Annotated[Path, typer.Option(help="Track file in MOTChallenge's text format, from frame 1.")],
    out: Annotated[Path, typer.Option(help="Folder of layout table; run the command once for each camera.")],
    start: Annotated[
        str | None, typer.Option(help="Time of the first frame, as 2026-03-01T08:00:00+01:00. Default: the video's.")
    ] = None,
    frame_rate: Annotated[
        float | None, typer.Option(min=0.01, help="Of a folder of frames, per second. Default: that of seqinfo.ini.")
    ] = None,
    person_class: Annotated[
        int | None, typer.Option(help="Class of people in the track file. Default: 1, if it has classes.")
    ] = None,
    min_height: Annotated[int, typer.Option(min=1, help="Fewest pixels of a crop's height.")] = DEFAULTS.min_height,
    max_overlap: Annotated[
        float, typer.Option(min=0, max=1, help="Largest share of a box that another one may cover.")
    ] = DEFAULTS.max_overlap,
    spacing_s: Annotated[
        float, typer.Option(min=0.01, help="Fewest seconds between two crops of a track.")
    ] = DEFAULTS.spacing_s,
    most: Annotated[int, typer.Option(min=2, help="Most crops of a track.")] = DEFAULTS.most,
) -> None:
    """Cut a camera's crops from its video and track file, and add them to a dataset of layout table."""
    with _exit_with_one_message():
        cut = import_module("qaconv.video.commands").cut_and_describe
        rules = {"min_height": min_height, "max_overlap": max_overlap, "spacing_s": spacing_s, "most": most}
        typer.echo(cut(camera, video, tracks, out, start, frame_rate, person_class, rules))


@app.command()
def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="A checkpoint.pth.tar of the authors' releases v1.0 to v2.1.")],
    output: Annotated[Path, typer.Option(help="Folder for the network, such as artifacts/model/qaconv.")],
    height: Annotated[int, typer.Option(help="Height of its training images in pixels.")] = 384,
    width: Annotated[int, typer.Option(help="Width of its training images in pixels.")] = 128,
) -> None:
    """Convert a checkpoint of the authors into a network of this project, and print its release."""
    with _exit_with_one_message():
        official = import_module("qaconv.models.official")
        config = import_module("qaconv.config")
        network, release = official.load_official(file, config.ImageConfig(height=height, width=width))
        trained = {"data": {"official_checkpoint": file.name, "release": release}, "calibration": None}
        import_module("qaconv.release.graphs").save_with_graph(network, output, trained, {})
        typer.echo(f"{file}: release {release}, {network.architecture.backbone.name}; written to {output}")


@app.command()
def check() -> None:
    """Say in seconds what is ready and what is not: params, data, servers, disk and packages. Exit status 1 if not."""
    with _exit_with_one_message():
        if not import_module("qaconv.check").check_all():
            raise typer.Exit(1)


@app.command()
def rollback(
    version: Annotated[int, typer.Argument(help="Number of the champion to leave.")],
    why: Annotated[str, typer.Option(help="Reason, kept with the version that is left.")],
) -> None:
    """Make the previous champion the champion again."""
    with _exit_with_one_message():
        from qaconv.registry import promotion, runs

        runs.connect()
        left, back = promotion.rollback(load_params().registry.model, str(version), why)
        Console().print(f"{back} is the champion again; {left} stays refused: {why}", markup=False)


@app.command()
def relocate() -> None:
    """Point the project's own MLflow store to its files, after the folder was moved, renamed or copied."""
    with _exit_with_one_message():
        from qaconv.registry import relocation, runs

        changed = relocation.relocate(runs.STORE, runs.ARTIFACTS)
        typer.echo(f"{runs.STORE}: {changed} addresses now lead to {runs.ARTIFACTS.resolve()}")


@app.command()
def reproduce(model: Annotated[str, typer.Argument(help="A version, such as models:/qaconv@champion.")]) -> None:
    """Make a registered version again in a clean clone. The exit status is 1 if anything differs."""
    with _exit_with_one_message():
        from qaconv.registry import reproduction, runs

        load_params()  # in another folder MLflow would create an empty store
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
    """Write a recipe's values into params.yaml, where each of them may be changed."""
    with _exit_with_one_message():
        for change in import_module("qaconv.training.recipes").write_recipe(name) or [
            f"params.yaml has the values of {name} already"
        ]:
            typer.echo(change)


@app.command()
def migrate_params() -> None:
    """Rewrite a params.yaml of an older version, and keep its comments."""
    with _exit_with_one_message():
        for change in import_module("qaconv.config.migration").migrate_params() or ["params.yaml is current"]:
            typer.echo(change)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; any but 127.0.0.1 needs keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    state: Annotated[Path, typer.Option(help="Folder of the galleries, created if missing.")] = Path("galleries"),
    keys: Annotated[Path | None, typer.Option(help="File of hashed keys, written by serve-key.")] = None,
    target: Annotated[
        str | None, typer.Option(help="Serve this target alone, with its own champion if it has one. Default: all.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that answer; each has its own index.")] = 1,
    follow: Annotated[
        str | None,
        typer.Option(help="Address of a leader whose galleries are copied; QACONV_API_KEY is the key for it."),
    ] = None,
) -> None:
    """Serve the champion: enrol, search and explain over HTTP, and a page at /."""
    with _exit_with_one_message():
        params = load_params()
        if target is not None:
            params.check_target(target)
        _serving_commands().serve(params, host, port, state, keys, target, workers, follow)


@app.command()
def serve_key(
    name: Annotated[str, typer.Argument(help="Name of the key in the log.")],
    keys: Annotated[Path, typer.Option(help="File of hashed keys.")],
    scope: Annotated[
        list[str], typer.Option(help="search, enrol, identify, review, delete, metrics or replicate; may be repeated.")
    ],
    target: Annotated[list[str] | None, typer.Option(help="Target; may be repeated. Default: all.")] = None,
) -> None:
    """Create an API key, add its hash to a file, and print the key once."""
    with _exit_with_one_message():
        _serving_commands().serve_key(name, keys, scope, target)


@app.command()
def enrol(
    target: Target,
    url: Annotated[str, typer.Option(help="Address of the service.")] = "http://127.0.0.1:8000",
) -> None:
    """Enrol a target's gallery in the service, or all its sightings if it has no labels; QACONV_API_KEY is the key."""
    with _exit_with_one_message():
        load_params().check_target(target)
        _serving_commands().enrol(target, url)


@app.command()
def reviews(
    target: Target,
    url: Annotated[str, typer.Option(help="Address of the service.")] = "http://127.0.0.1:8000",
) -> None:
    """Write people's answers about a target's pairs to data/reviews/<target>.csv; QACONV_API_KEY is the key."""
    with _exit_with_one_message():
        load_params().check_target(target)
        _serving_commands().export_reviews(target, url)


def _serving_commands() -> Any:
    """Import qaconv/serving/commands.py, which no stage needs."""
    return import_module("qaconv.serving.commands")


def _run_command(arguments: list[str]) -> None:
    """Run a command in one of several processes."""
    app(arguments)


def _is_verbose() -> bool:
    """Return whether this process logs and prints errors: the first of several on a machine, or the only one."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _run_stage(stage: str, *arguments: str | int | Path) -> None:
    """Import qaconv/stages/<stage>.py, which takes seconds because of torch, and call its function of that name."""
    with _exit_with_one_message():
        params = load_params()
        getattr(import_module(f"qaconv.stages.{stage}"), stage)(params, *arguments)


def _run_target_stage(stage: str, target: str, *arguments: int | Path) -> None:
    """Run a stage of a target."""
    with _exit_with_one_message():
        load_params().check_target(target)
    _run_stage(stage, target, *arguments)


@contextmanager
def _exit_with_one_message() -> Iterator[None]:
    """Print an error that a person can correct as one message, and exit with status 2."""
    try:
        yield
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        if _is_verbose():
            Console(stderr=True).print(Text.assemble(("refused: ", "bold red"), message), soft_wrap=True)
        raise typer.Exit(2) from error
