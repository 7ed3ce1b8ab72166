"""The server ends connections that bring no request, and itself, within the times that it states."""

import socket
import time
from pathlib import Path

import httpx

from qaconv.serving.server import IDLE_S, STOP_S
from tests.integration.running_service import MALL, running

HEAD = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
UNFINISHED = b"POST %s/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n" % MALL.encode()
SLACK_S = 5.0  # of a busy machine
CONNECTIONS = 200


def wait_for_end(connection: socket.socket, drip: bytes) -> None:
    """Send some bytes again and again until the connection ends."""
    connection.settimeout(0.2)
    until = time.monotonic() + IDLE_S + SLACK_S
    while time.monotonic() < until:
        try:
            connection.sendall(drip)
            if not connection.recv(4096):
                return
        except TimeoutError:
            continue
        except OSError:
            return
    raise AssertionError(f"open for more than {IDLE_S + SLACK_S} s")


def test_connections_without_a_request_are_ended_and_the_process_ends_in_time(project: Path) -> None:
    with running(project) as (client, process):
        address = (client.base_url.host, client.base_url.port)
        assert address[1] is not None
        idle, slow, kept, *others = [socket.create_connection(address) for _ in range(CONNECTIONS)]
        slow.sendall(HEAD + b"A: ")
        kept.sendall(HEAD + b"\r\n")
        for path in ("/healthz", "/readyz"):
            assert httpx.get(f"{client.base_url}{path}").status_code == 200
        for connection, drip in ((slow, b"a"), (idle, b""), (kept, b""), *((other, b"") for other in others)):
            wait_for_end(connection, drip)
            connection.close()
        unfinished = socket.create_connection(address)
        unfinished.sendall(UNFINISHED)
        time.sleep(0.2)
        process.terminate()
        process.wait(STOP_S + SLACK_S)
        unfinished.close()
