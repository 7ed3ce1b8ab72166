"""Hosts of one's own: network namespaces with their own addresses, joined by links that can be cut or slowed down."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

NETWORK = 214  # 10.NETWORK.0.0/24 joins the hosts, 10.NETWORK.n.0/30 joins host n and the test


class Host:
    """A namespace with two links: one to the other hosts and one to the test.

    Attributes:
        name: of the namespace.
        address: where the other hosts reach it.
        outer: where the test reaches it.
    """

    def __init__(self, network: str, number: int) -> None:
        self.name = f"{network}h{number}"
        self.address = f"10.{NETWORK}.0.{number}"
        self.outer = f"10.{NETWORK}.{number}.2"
        self._network = network
        self._port = f"port{number}"
        test = f"{network}t{number}"
        ip("netns", "add", self.name)
        ip("link", "add", test, "type", "veth", "peer", "name", "outer", "netns", self.name)
        ip("address", "add", f"10.{NETWORK}.{number}.1/30", "dev", test)
        ip("link", "set", test, "up")
        ip("-n", network, "link", "add", self._port, "type", "veth", "peer", "name", "inner", "netns", self.name)
        ip("-n", network, "link", "set", self._port, "master", "bridge", "up")
        for device, address in (("inner", f"{self.address}/24"), ("outer", f"{self.outer}/30")):
            ip("-n", self.name, "address", "add", address, "dev", device)
            ip("-n", self.name, "link", "set", device, "up")
        ip("-n", self.name, "link", "set", "lo", "up")

    def cut(self) -> None:
        """Cut the link to the other hosts: what is sent is lost, and nobody is told."""
        ip("-n", self._network, "link", "set", self._port, "down")

    def heal(self) -> None:
        """Join the link to the other hosts again."""
        ip("-n", self._network, "link", "set", self._port, "up")

    def slow(self, rate: str) -> None:
        """Let the host receive no more than a rate, such as 1mbit."""
        limit = ["tbf", "rate", rate, "burst", "32kbit", "latency", "400ms"]
        subprocess.run(
            ["ip", "netns", "exec", self._network, "tc", "qdisc", "replace", "dev", self._port, "root", *limit],
            check=True,
        )


@contextmanager
def joined_hosts(count: int) -> Iterator[list[Host]]:
    """Yield hosts that reach each other and that the test reaches; skip the test where that is not allowed."""
    network = f"q{os.getpid() % 100_000}"
    try:
        ip("netns", "add", network)
        ip("-n", network, "link", "add", "bridge", "type", "bridge")
    except (OSError, subprocess.CalledProcessError) as error:
        subprocess.run(["ip", "netns", "delete", network], check=False, capture_output=True)
        pytest.skip(f"network namespaces are not allowed here: {error}")
    numbers = range(1, count + 1)
    try:
        ip("-n", network, "link", "set", "bridge", "up")
        yield [Host(network, number) for number in numbers]
    finally:
        links = [["ip", "link", "delete", f"{network}t{number}"] for number in numbers]
        spaces = [["ip", "netns", "delete", name] for name in (*(f"{network}h{number}" for number in numbers), network)]
        for command in (*links, *spaces):
            subprocess.run(command, check=False, capture_output=True)


def ip(*words: str) -> None:
    """Run `ip`."""
    subprocess.run(["ip", *words], check=True, capture_output=True)
