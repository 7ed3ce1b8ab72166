"""Fixtures of the tests of leader and follower."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.leader_and_copy import Copy, Machine


@pytest.fixture
def leader(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path / "leader")
    yield machine
    machine.records.close()


@pytest.fixture
def copy(tmp_path: Path, leader: Machine) -> Iterator[Copy]:
    follower = Copy(tmp_path / "copy", leader)
    yield follower
    follower.records.close()
