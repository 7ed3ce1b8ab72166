"""Run several processes of a service behind one socket, and start those again that end."""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import DupFd
from typing import Any

from qaconv.errors import InputError
from qaconv.serving.server import STOP_S

log = logging.getLogger(__name__)

RESTART_S = 1.0  # from the start of a worker to that of the one in its place, at least
REFUSED = 78  # exit status of a worker that a user's input keeps from starting, EX_CONFIG
MARGIN_S = 5.0  # that a worker may take to end after STOP_S

Work = Callable[[int, socket.socket, Callable[[], None]], None]


class Inherited:
    """A file descriptor of the parent. A worker gets a duplicate, so that a lock lasts until both have ended."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __reduce__(self) -> tuple[Any, ...]:
        return _inherit, (DupFd(self.descriptor),)


def run_workers(count: int, work: Work, listener: socket.socket, lock: int) -> None:
    """Run workers until SIGTERM or SIGINT, which ends all of them after the requests that they have.

    A worker that ends by itself is started again. Connections wait meanwhile in the one socket of all workers.

    Args:
        count: number of workers.
        work: what a worker does until it gets SIGTERM. It is given its number from 0, the listening socket and a
            function to call when it is ready; it can be pickled.
        listener: the socket.
        lock: descriptor of the lock of the state folder.

    Raises:
        InputError: the first workers cannot start; their log says why.
    """
    context = get_context("spawn")  # a fork would copy locks that threads of libraries hold
    workers: dict[int, tuple[SpawnProcess, Connection, float]] = {}
    has_been_ready = False
    with _stop_signal() as stopped:
        while True:
            for number in set(range(count)) - set(workers):
                readiness, announce = context.Pipe(duplex=False)
                process = context.Process(
                    target=_run, args=(number, work, listener, announce, Inherited(lock)), name=f"worker {number}"
                )
                process.start()
                announce.close()
                workers[number] = process, readiness, time.monotonic()
            open_pipes = [readiness for _, readiness, _ in workers.values() if not readiness.closed]
            events = wait([stopped, *open_pipes, *(process.sentinel for process, *_ in workers.values())])
            if stopped in events:
                break
            for pipe in open_pipes:
                has_been_ready |= _is_ready(pipe)
            for number, (process, readiness, began) in list(workers.items()):
                if process.is_alive():
                    continue
                readiness.close()
                if process.exitcode == REFUSED and not has_been_ready:
                    _end([other for other, *_ in workers.values()])
                    raise InputError("the service cannot start; the message above says why")
                log.error("worker %d has ended with %s; another one takes its place", number, process.exitcode)
                del workers[number]
                time.sleep(max(0.0, began + RESTART_S - time.monotonic()))
    _end([process for process, *_ in workers.values()])


def _run(number: int, work: Work, listener: socket.socket, announce: Connection, lock: Inherited) -> None:
    """Do a worker's work in its process."""
    parent = parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), name="parent", daemon=True).start()
    try:
        work(number, listener, lambda: announce.send_bytes(b"ready"))
    except InputError as error:
        log.error("%s", error)
        os._exit(REFUSED)


def _end_with(sentinel: int) -> None:
    """End this process when its parent has ended: with a kill of the parent the whole service is killed."""
    wait([sentinel])
    os._exit(1)


def _is_ready(pipe: Connection) -> bool:
    """Read from a worker's pipe if it has written, and close it."""
    if not pipe.poll():
        return False
    try:
        return bool(pipe.recv_bytes())
    except EOFError:  # it has ended before
        return False
    finally:
        pipe.close()


def _end(processes: list[SpawnProcess]) -> None:
    """Let the workers end after their requests, and kill those that do not."""
    for process in processes:
        process.terminate()
    until = time.monotonic() + STOP_S + MARGIN_S
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
        process.kill()
        process.join()


@contextmanager
def _stop_signal() -> Iterator[int]:
    """Yield a descriptor that can be read from once this process got SIGTERM or SIGINT."""
    reader, writer = os.pipe()
    names = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(name, lambda *_: os.write(writer, b"s") and None) for name in names]
    try:
        yield reader
    finally:
        for name, handler in zip(names, before, strict=True):
            signal.signal(name, handler)
        os.close(reader)
        os.close(writer)


def _inherit(duplicate: Any) -> Inherited:
    return Inherited(duplicate.detach())
