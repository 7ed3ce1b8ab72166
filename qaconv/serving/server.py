"""Run the application on a socket, with limits of time for every connection."""

import asyncio
import logging
import os
import signal
import socket
import threading
from functools import partial
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config

from qaconv.errors import InputError

log = logging.getLogger(__name__)

IDLE_S = 5.0  # from a connection's start, or its last answer, to the end of a request's head
UNREAD_S = 30.0  # that a peer may leave what is sent to it
GRACE_S = 10.0  # for requests to end after SIGTERM
STOP_S = 15.0  # after SIGTERM the process has ended
LARGEST_HEAD = 16 << 10  # bytes
WAITING = 1024  # connections that the system holds until they are accepted


def run(app: Any, listener: socket.socket, *, is_shared: bool = False) -> None:
    """Run an ASGI application until SIGTERM or SIGINT.

    Args:
        app: the application.
        listener: the socket that it listens on.
        is_shared: whether other processes accept connections of the socket too.
    """
    settings = Config()
    settings.keep_alive_timeout = IDLE_S
    settings.graceful_timeout = GRACE_S
    settings.h11_max_incomplete_size = LARGEST_HEAD
    # asyncio accepts that many connections at a time, and would leave other processes none of those that come together.
    settings.backlog = 1 if is_shared else WAITING
    settings.include_server_header = False
    settings.errorlog = logging.getLogger("hypercorn.error")
    settings.bind = [f"fd://{os.dup(listener.fileno())}"]
    asyncio.run(serve(app, settings, shutdown_trigger=partial(_stopped, listener)))


def listen(host: str, port: int) -> socket.socket:
    """Open a socket whose connections have limits of time.

    Raises:
        InputError: it cannot listen there.
    """
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise InputError(f"--host {host} --port {port}: {error.strerror}") from error
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections inherit it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * UNREAD_S))
    return listener


async def _stopped(listener: socket.socket) -> None:
    """Wait for a signal to stop. If threads are still at work after STOP_S, end the process as a kill would."""
    listener.listen(WAITING)  # which hypercorn has set to `backlog` before
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    await stop.wait()
    timer = threading.Timer(STOP_S, _end)
    timer.daemon = True
    timer.start()


def _end() -> None:
    log.error("requests still run %g s after the signal to stop; the process ends without them", STOP_S)
    os._exit(1)
