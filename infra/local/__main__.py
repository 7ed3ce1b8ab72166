"""`make up`, `make status`, `make down`: PostgreSQL, S3, MLflow, Prefect and its workers, on 127.0.0.1 alone.

`make backup to=FOLDER` and `make restore from=FOLDER` keep what they know, and bring it back.

infra/local/supervisord.conf says what runs; what it keeps, and its secrets, lie in .local/.
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
from qaconv.errors import InputError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False, soft_wrap=True)


@app.command()
def up() -> None:
    """Start what is not running, wait until it answers, and print where it is. May be run again at any time."""
    environment = Environment.load_or_create()
    _start(environment, servers.start_stores, servers.start_servers, servers.start_workers)
    _show(environment)


@app.command()
def status() -> None:
    """Print what runs and where; ends with 1 unless everything does."""
    environment = Environment.load()
    supervisor = Supervisor(environment)
    _show(environment)
    if any(state != "RUNNING" for state in supervisor.states().values()):
        raise typer.Exit(1)


@app.command()
def down() -> None:
    """Stop everything, workers first; what it keeps stays in .local/."""
    supervisor = Supervisor(Environment.load())
    if not supervisor.running():
        console.print("nothing runs")
        return
    supervisor.stop()
    console.print(f"stopped; what it keeps is in {LOCAL}")


@app.command("backup")
def back_up(folder: Path) -> None:
    """Write all that the servers know, secrets among it, into a new folder; they go on running."""
    backup.dump(Environment.load(), folder.resolve())


@app.command()
def restore(folder: Path) -> None:
    """Start servers that know what a backup holds, where there are none yet."""
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
    """Runs a command; what a person can mend is one message."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        app()
    except InputError as error:
        console.print(f"refused: {error}", style="bold red", markup=False)
        sys.exit(2)


if __name__ == "__main__":
    main()
