"""Start, show and stop the servers on 127.0.0.1: `make up`, `make status`, `make down`.

`make backup to=FOLDER` and `make restore from=FOLDER` save and restore what the servers store.
infra/local/supervisord.conf lists the servers; their data and secrets are in .local/.
"""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from infra.local import backup, servers
from infra.local.environment import ENV, LOCAL, Environment
from infra.local.supervisor import Supervisor
from qaconv.failures import explain

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False, soft_wrap=True)


@app.command()
def up() -> None:
    """Start what does not run, wait until it answers, and print its address. May be run again at any time."""
    environment = Environment.load_or_create()
    _start(environment, servers.start_stores, servers.start_servers, servers.start_workers)
    _show(environment)


@app.command()
def status() -> None:
    """Print the state and address of each server. The exit status is 1 unless all run."""
    environment = Environment.load()
    supervisor = Supervisor(environment)
    _show(environment)
    if any(state != "RUNNING" for state in supervisor.states().values()):
        raise typer.Exit(1)


@app.command()
def down() -> None:
    """Stop everything, workers first. The data in .local/ stay."""
    supervisor = Supervisor(Environment.load())
    if not supervisor.running():
        console.print("no server is running")
        return
    supervisor.stop()
    console.print(f"stopped; the data are in {LOCAL}")


@app.command("backup")
def back_up(folder: Path) -> None:
    """Write everything that the servers store, secrets included, into a new folder. The servers keep running."""
    backup.dump(Environment.load(), folder.resolve())


@app.command()
def restore(folder: Path) -> None:
    """Start servers with the content of a backup. There must be none yet."""
    backup.restore_secrets(folder)
    environment = Environment.load()
    _start(environment, servers.start_stores)
    backup.fill_stores(environment, folder)
    _start(environment, servers.start_servers, servers.start_workers)
    _show(environment)


def _start(environment: Environment, *stages: Callable[[Environment, Supervisor], None]) -> None:
    supervisor = Supervisor(environment)
    if not supervisor.running():
        environment.check_ports()
        servers.prepare(environment)
        supervisor.start()
    for stage in stages:
        stage(environment, supervisor)


def _show(environment: Environment) -> None:
    table = Table("server", "state", "address")
    for name, state in Supervisor(environment).states().items():
        colour = "green" if state == "RUNNING" else "red"
        table.add_row(name, f"[{colour}]{state.lower()}", environment.address(name))
    console.print(table)
    console.print(f"logs: {LOCAL}/log; addresses and secrets for your shell: set -a; . {ENV}; set +a")


def main() -> None:
    """Run a command; an error that a user can correct is one message."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        app()
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        console.print(f"refused: {message}", style="bold red", markup=False)
        sys.exit(2)


if __name__ == "__main__":
    main()
