"""Run a function in a child process that can be killed, alone or with its children."""

import multiprocessing
import os
import random
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import psutil

CONTEXT: ForkServerContext = multiprocessing.get_context("forkserver")  # its children need not import again
LOG = "children.log"
PATIENCE_S = 240  # for a child that nobody kills; MLflow's client repeats a request for two minutes


def start(function: Callable[..., None], folder: Path, *arguments: Any) -> ForkServerProcess:
    """Start `function(*arguments)` in a folder, whose LOG gets the output."""
    process = CONTEXT.Process(target=_run, args=(function, folder, arguments))
    process.start()
    return process


def finish(process: ForkServerProcess) -> bool:
    """Wait for a child, and return whether it has succeeded."""
    process.join(PATIENCE_S)
    if process.exitcode is None:
        kill(process, alone=False)
    return process.exitcode == 0


def kill_within(process: ForkServerProcess, seconds: float, draws: random.Random) -> None:
    """Kill a child after up to that many seconds: alone, or with its children, as when the machine dies."""
    process.join(draws.uniform(0, seconds))
    kill(process, alone=draws.random() < 0.5)


def kill(process: ForkServerProcess, alone: bool) -> None:
    """Send SIGKILL to a child and, unless alone, to its children."""
    assert process.pid is not None
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    process.kill()
    process.join()
    for child in [] if alone else children:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue


def _run(function: Callable[..., None], folder: Path, arguments: tuple[Any, ...]) -> None:
    os.chdir(folder)
    with Path(LOG).open("ab") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
    function(*arguments)
