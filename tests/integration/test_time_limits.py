"""The server ends connections that bring no request or take no answer, and itself, within the times that it states."""

import json
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from qaconv.serving.server import IDLE_S, STOP_S
from tests.integration.running_service import MALL, running
from tests.integration.test_service_process import image, sightings

HEAD = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
UNFINISHED = b"POST %s/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n" % MALL.encode()
SLACK_S = 20.0  # of a busy machine
WATCHED_S = 10.0  # for which memory and health are watched
CONNECTIONS = 200
UNREAD_BYTES = 2048  # of a peer's buffer
MOST_MEMORY = 200 << 20  # bytes that answers which nobody reads may add


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


def with_long_names(enrolment: dict[str, Any]) -> dict[str, Any]:
    """Give each sighting the longest names, so that an answer has more than the 4 MB that Linux may buffer."""
    rows = enumerate(enrolment["sightings"])
    return {"sightings": [{**row, "person": f"{number:0100}", "track": f"{number:0100}"} for number, row in rows]}


def send_searches(host: str, port: int) -> socket.socket:
    """Send searches whose answers have more bytes than the system's buffers hold, and return the unread connection."""
    body = json.dumps({"queries": [{"image": image(seed)} for seed in range(64)], "top_k": 200}).encode()
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UNREAD_BYTES)
    connection.connect((host, port))
    head = f"POST {MALL}/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    connection.sendall((f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body) * 4)
    return connection


def test_peers_that_read_no_answer_cost_bounded_memory_and_the_process_ends_in_time(project: Path) -> None:
    with running(project) as (client, process):
        client.post(f"{MALL}/sightings", json=with_long_names(sightings(0, 200))).raise_for_status()
        port = client.base_url.port
        assert port is not None
        memory = psutil.Process(process.pid).memory_info
        before = memory().rss
        unread = [send_searches(client.base_url.host, port) for _ in range(CONNECTIONS)]
        until = time.monotonic() + WATCHED_S
        while time.monotonic() < until:
            began = time.monotonic()
            assert httpx.get(f"{client.base_url}/healthz", timeout=SLACK_S).status_code == 200
            assert time.monotonic() - began < SLACK_S
            assert memory().rss - before < MOST_MEMORY
            time.sleep(0.5)
        refused = client.post(f"{MALL}/search", json={"queries": [{"sighting": 1}]})
        assert refused.status_code == 429, "no answer is waiting any more, so that this test tests nothing"
        process.terminate()
        process.wait(STOP_S + SLACK_S)
        for connection in unread:
            connection.close()
